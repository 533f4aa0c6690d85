"""What is known of a model before it is loaded: read from its file, never from an engine."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from webui.models.weights import WeightBytes


class ModelFormat(StrEnum):
    """How the weights are kept on disk."""

    GGUF = "gguf"
    GGML = "ggml"  # llama.cpp's formats before GGUF, and the per-architecture ggml files
    TRANSFORMERS = "transformers"  # a directory with config.json and safetensors
    LLAMAFILE = "llamafile"  # an executable with a GGUF inside


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """Facts of one model. `None` means unknown; nothing here is guessed.

    `tensor_bytes` is the sum of the tensors' sizes as stored, `file_bytes` that of all files of the set. `tensor_types`
    maps a ggml type name (`Q4_1`, `F16` …) to the bytes stored in it, `weights` tells which layer they belong to.
    `metadata` holds the header's scalar values and short arrays by their original keys, for rooms that need more than
    the named facts.
    """

    path: Path
    format: ModelFormat
    files: tuple[Path, ...]
    file_bytes: int
    name: str
    architecture: str | None = None
    quantization: str | None = None
    parameter_count: int | None = None
    block_count: int | None = None
    context_length: int | None = None
    embedding_length: int | None = None
    head_count: int | None = None
    head_count_kv: int | None = None
    key_length: int | None = None
    value_length: int | None = None
    expert_count: int | None = None
    vocabulary_size: int | None = None
    tokenizer: str | None = None
    chat_template: str | None = None
    bos_token: str | None = None
    eos_token: str | None = None
    add_bos_token: bool | None = None
    tensor_bytes: int | None = None
    tensor_types: dict[str, int] = field(default_factory=dict, hash=False)
    weights: WeightBytes | None = None
    gguf_version: int | None = None
    byte_order: str | None = None  # "little" or "big"
    metadata: dict[str, Any] = field(default_factory=dict, hash=False)


def facts_to_dict(facts: ModelFacts) -> dict[str, Any]:
    """`facts` as plain JSON types, for the channel to a worker and for the catalogue's cache."""
    dumped: dict[str, Any] = _ADAPTER.dump_python(facts, mode="json")
    return dumped


def facts_from_dict(data: dict[str, Any]) -> ModelFacts:
    """The inverse of `facts_to_dict`; raises pydantic's `ValidationError` for anything else."""
    return _ADAPTER.validate_python(data)


_ADAPTER = TypeAdapter(ModelFacts)
