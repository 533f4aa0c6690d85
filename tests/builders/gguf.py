"""Tiny GGUF files written by the `gguf` package: real models that engines generate from, and headers of many kinds.

What that package cannot write (versions 1 and 2, broken files) is in `tests.builders.raw_gguf`.
"""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from pathlib import Path

import gguf
import numpy as np

from tests.builders.llama import Shape, random_weights
from tests.builders.vocabulary import CHATML, Vocabulary, byte_level, sentencepiece

FILE_TYPES = {
    "F32": gguf.LlamaFileType.ALL_F32,
    "F16": gguf.LlamaFileType.MOSTLY_F16,
    "Q8_0": gguf.LlamaFileType.MOSTLY_Q8_0,
    "Q4_0": gguf.LlamaFileType.MOSTLY_Q4_0,
}
SPM_CHAT = (
    "{% for message in messages %}[{{ message['role'] }}] {{ message['content'] }}\n{% endfor %}"
    "{% if add_generation_prompt %}[assistant]{% endif %}"
)


def tiny_llama_spm(path: Path, *, quantization: str = "F16", shape: Shape | None = None, **options: object) -> Path:
    """A llama with a SentencePiece vocabulary, which ctransformers, llama.cpp and transformers all run."""
    return _write_llama(path, sentencepiece(), shape or Shape(), quantization, chat_template=SPM_CHAT, **options)


def tiny_llama_bpe(path: Path, *, quantization: str = "F16", shape: Shape | None = None, **options: object) -> Path:
    """A llama with a byte-level BPE vocabulary and the ChatML template, which ctransformers cannot open."""
    return _write_llama(path, byte_level(), shape or Shape(), quantization, chat_template=CHATML, **options)


def split_llama(folder: Path, *, name: str = "set", tensors_each: int = 8) -> list[Path]:
    """A tiny llama in several files, `NAME-00001-of-0000N.gguf`, in order."""
    _write_llama(
        folder / f"{name}.gguf", byte_level(), Shape(), "F16", chat_template=CHATML, split_max_tensors=tensors_each
    )
    return sorted(folder.glob(f"{name}-*-of-*.gguf"))


def architecture_file(
    path: Path, architecture: str, *, tokenizer: str = "gpt2", quantization: str = "F16", experts: int | None = None
) -> Path:
    """The header of another architecture, with an embedding and an output tensor: enough to judge, not to run."""
    writer = gguf.GGUFWriter(path, architecture)
    vocabulary = sentencepiece() if tokenizer == "llama" else byte_level()
    writer.add_name(f"Tiny {architecture}")
    shape = Shape(width=256)  # the block of the k-quants
    _add_shape(writer, shape)
    if experts is not None:
        writer.add_expert_count(experts)
        writer.add_expert_used_count(2)
    _add_vocabulary(writer, vocabulary, tokenizer)
    kind = gguf.GGMLQuantizationType[quantization]
    rows = np.zeros((len(vocabulary.tokens), shape.width), dtype=np.float32)
    for name in ("token_embd.weight", "output.weight"):
        if kind in (gguf.GGMLQuantizationType.F32, gguf.GGMLQuantizationType.F16):
            writer.add_tensor(name, rows.astype(np.float16 if quantization == "F16" else np.float32))
        else:
            stored = np.zeros(gguf.quant_shape_to_byte_shape(rows.shape, kind), dtype=np.uint8)
            writer.add_tensor(name, stored, raw_dtype=kind)
    return _finish(writer)


def large_vocabulary(path: Path, tokens: int = 150_000) -> Path:
    """A small model with a vocabulary, token types and merges as long as today's large models have."""
    writer = gguf.GGUFWriter(path, "llama")
    _add_shape(writer, Shape())
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("qwen2")
    writer.add_token_list([f"token-{index}" for index in range(tokens)])
    writer.add_token_types([1] * tokens)
    writer.add_token_merges([f"t oken-{index}" for index in range(tokens)])
    writer.add_bos_token_id(tokens - 2)
    writer.add_eos_token_id(tokens - 1)
    writer.add_chat_template(CHATML)
    writer.add_tensor("output_norm.weight", np.ones(64, dtype=np.float32))
    return _finish(writer)


def tiny_llamafile(path: Path, model: Path, *, arguments: str | None = None) -> Path:
    """An executable stub with a ZIP behind it that holds `model` and `.args`, as a llamafile with weights does."""
    with path.open("wb") as file:
        file.write(b"MZqFpD='\n#!/bin/sh\nexit 0\n'\n" + bytes(64))
    with zipfile.ZipFile(path, "a", zipfile.ZIP_STORED) as archive:
        archive.writestr(".args", arguments if arguments is not None else f"-m\n{model.name}\n...\n")
        archive.write(model, model.name)
    path.chmod(0o755)
    return path


def _write_llama(
    path: Path,
    vocabulary: Vocabulary,
    shape: Shape,
    quantization: str,
    *,
    chat_template: str | None,
    name: str = "Tiny Llama",
    endianess: gguf.GGUFEndian = gguf.GGUFEndian.LITTLE,
    split_max_tensors: int = 0,
    change: Callable[[gguf.GGUFWriter], None] | None = None,
) -> Path:
    writer = gguf.GGUFWriter(path, "llama", endianess=endianess, split_max_tensors=split_max_tensors)
    writer.add_name(name)
    writer.add_file_type(FILE_TYPES[quantization])
    _add_shape(writer, shape)
    writer.add_vocab_size(len(vocabulary.tokens))
    _add_vocabulary(writer, vocabulary, "gpt2" if vocabulary.merges else "llama")
    if chat_template:
        writer.add_chat_template(chat_template)
    if change is not None:
        change(writer)
    kind = gguf.GGMLQuantizationType[quantization]
    for tensor_name, tensor in random_weights(vocabulary, shape).items():
        if tensor.ndim == 1 or kind is gguf.GGMLQuantizationType.F32:
            writer.add_tensor(tensor_name, tensor)
        elif kind is gguf.GGMLQuantizationType.F16:
            writer.add_tensor(tensor_name, tensor.astype(np.float16))
        else:
            writer.add_tensor(tensor_name, gguf.quantize(tensor, kind), raw_dtype=kind)
    return _finish(writer)


def _add_shape(writer: gguf.GGUFWriter, shape: Shape) -> None:
    writer.add_context_length(shape.context)
    writer.add_embedding_length(shape.width)
    writer.add_block_count(shape.blocks)
    writer.add_feed_forward_length(shape.feed_forward)
    writer.add_head_count(shape.heads)
    writer.add_head_count_kv(shape.heads_kv)
    writer.add_layer_norm_rms_eps(shape.epsilon)
    writer.add_rope_dimension_count(shape.width // shape.heads)
    writer.add_rope_freq_base(shape.rope_base)


def _add_vocabulary(writer: gguf.GGUFWriter, vocabulary: Vocabulary, tokenizer: str) -> None:
    writer.add_tokenizer_model(tokenizer)
    if tokenizer == "gpt2":
        writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(vocabulary.tokens)
    writer.add_token_types(vocabulary.types)
    if vocabulary.scores:
        writer.add_token_scores(vocabulary.scores)
        writer.add_unk_token_id(0)
    if vocabulary.merges:
        writer.add_token_merges([f"{left} {right}" for left, right in vocabulary.merges])
    writer.add_bos_token_id(vocabulary.bos)
    writer.add_eos_token_id(vocabulary.eos)
    writer.add_add_bos_token(bool(vocabulary.scores))


def _finish(writer: gguf.GGUFWriter) -> Path:
    assert writer.path is not None
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return Path(writer.path)
