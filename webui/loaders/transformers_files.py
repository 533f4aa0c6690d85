"""Which models the transformers backend opens, judged from their facts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from webui.errors import UnsupportedArchitecture, UnsupportedQuantization
from webui.loaders.contract import Verdict
from webui.loaders.llama_files import REMOVED_TYPES, judge_task
from webui.models.facts import ModelFacts, ModelFormat

GGUF_ARCHITECTURES = frozenset(
    {
        "bloom",
        "falcon",
        "gemma2",
        "gemma3",
        "gemma4",
        "gpt-oss",
        "gpt2",
        "lfm2",
        "llama",
        "mamba",
        "minimax-m2",
        "mistral",
        "nemotron",
        "phi3",
        "qwen2",
        "qwen2moe",
        "qwen3",
        "qwen35",
        "qwen35moe",
        "qwen3moe",
        "stablelm",
        "starcoder2",
    }
)
"""GGUF architectures that transformers 5.23 rebuilds and that continue text, by their names in the file."""

NOT_GENERATORS = frozenset({"bert", "roberta", "distilbert", "xlm-roberta", "deberta-v2", "clip", "vit", "whisper"})
ENCODER_DECODERS = frozenset({"t5", "umt5", "mt5", "bart", "mbart", "marian", "pegasus", "m2m_100"})
QUANTIZER_PACKAGES = {
    "gptq": "gptqmodel",
    "awq": "gptqmodel",
    "aqlm": "aqlm",
    "bitsandbytes": "bitsandbytes",
    "compressed-tensors": "compressed-tensors",
    "eetq": "eetq",
    "hqq": "hqq",
    "torchao": "torchao",
}
"""The package that a directory's own `quantization_config.quant_method` needs."""

LARGE_PARAMETERS = 1_000_000_000
"""From here on a model is held in 16 bits on the CPU: float32 would take more memory than most machines have."""
_BYTES_PER_PARAMETER = {"float32": 4.0, "bfloat16": 2.0, "float16": 2.0}
_QUANTIZED_BYTES = {"8bit": 1.1, "int8": 1.1, "4bit": 0.6, "int4": 0.6}
"""Bytes per parameter with the scales, by the end of the quantisation's name."""


def weight_bytes(facts: ModelFacts, parameters: Mapping[str, Any], gpu: bool) -> int | None:
    """What the weights take once they are loaded with `parameters`, on a GPU or not."""
    if facts.parameter_count is None:
        return None
    stored = facts.tensor_bytes or facts.file_bytes
    quantization = str(parameters.get("quantization", "none"))
    directory = facts.format is ModelFormat.TRANSFORMERS
    dtype = str(parameters.get("dtype", "auto"))
    if directory and quantization != "none":
        return int(facts.parameter_count * _QUANTIZED_BYTES[quantization.rpartition("-")[2]])
    if dtype != "auto":
        return int(facts.parameter_count * _BYTES_PER_PARAMETER[dtype])
    if gpu and parameters.get("device_map") != "cpu":
        return stored if directory else facts.parameter_count * 2
    return facts.parameter_count * (2 if facts.parameter_count > LARGE_PARAMETERS else 4)


def judge(facts: ModelFacts) -> Verdict:
    """Whether transformers can open the model, with the reason in one sentence."""
    if facts.format is ModelFormat.TRANSFORMERS:
        return _judge_directory(facts)
    if facts.format is not ModelFormat.GGUF:
        return Verdict(False, f"transformers opens model directories and GGUF files, and this is {facts.format.value}.")
    unpacks = "transformers opens it by unpacking its weights, slower and in more memory."
    return _against_gguf(facts) or Verdict(True, unpacks, converts=True)


def _judge_directory(facts: ModelFacts) -> Verdict:
    if (refused := judge_task(facts, NOT_GENERATORS, ENCODER_DECODERS)) is not None:
        return refused
    if only_pickled(facts):
        return Verdict(True, "transformers opens it if pickled weights are allowed among its controls.")
    return Verdict(True, "transformers opens this directory as it is.")


def only_pickled(facts: ModelFacts) -> bool:
    """Whether all weights are pickle files, which can run code when they are opened."""
    return bool(facts.files) and all(file.suffix in (".bin", ".pt", ".pth") for file in facts.files)


def _against_gguf(facts: ModelFacts) -> Verdict | None:
    """Why a GGUF file cannot be opened, or None."""
    if len(facts.files) > 1:
        return Verdict(False, "transformers does not open GGUF models in several files.")
    if facts.gguf_version == 1:
        return Verdict(False, "transformers does not read version 1 of GGUF.")
    if facts.byte_order == "big":
        return Verdict(False, "transformers reads little-endian GGUF files only.")
    if facts.architecture not in GGUF_ARCHITECTURES:
        reason = f"transformers cannot rebuild a {facts.architecture or 'nameless'} model from GGUF."
        return Verdict(False, reason, error=UnsupportedArchitecture)
    if facts.architecture == "llama" and facts.expert_count:
        reason = "transformers cannot rebuild llama models made of experts from GGUF."
        return Verdict(False, reason, error=UnsupportedArchitecture)
    unknown = sorted(name for name in facts.tensor_types if name.startswith("TYPE_") or name in REMOVED_TYPES)
    if unknown:
        reason = f"transformers does not know the quantisation {unknown[0]}."
        return Verdict(False, reason, error=UnsupportedQuantization)
    return None
