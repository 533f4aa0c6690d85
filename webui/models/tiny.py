"""A model small enough to be made in a moment, for trying whether an engine runs one at all.

A llama with a SentencePiece vocabulary of the single bytes and letters, half a megabyte of random weights: what every
backend that opens GGUF files can open. What it says is nonsense, and the same every time.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from webui.files import write_atomically
from webui.models.gguf import ARRAY, DEFAULT_ALIGNMENT, FLOAT32, INT32, MAGIC, STRING, UINT32

if TYPE_CHECKING:
    from numpy.typing import NDArray

VERSION = 3
BLOCKS, WIDTH, HEADS, FEED_FORWARD, CONTEXT = 2, 64, 4, 128, 512
NORMAL, UNKNOWN, CONTROL, BYTE = 1, 2, 3, 6
"""Values of `tokenizer.ggml.token_type`."""
F32, F16 = 0, 1
"""Values of a tensor's type."""
SEED = 11


def write_tiny_model(path: Path) -> Path:
    """Write the model to `path`, whole or not at all."""
    tensors = list(_tensors(len(_vocabulary()[0])))
    entries = [_entry(key, kind, value) for key, kind, value in _metadata()]
    head = bytearray(MAGIC + struct.pack("<IQQ", VERSION, len(tensors), len(entries)) + b"".join(entries))
    offset = 0
    data = bytearray()
    for name, tensor in tensors:
        shape = tuple(reversed(tensor.shape))
        kind = F16 if tensor.itemsize == 2 else F32
        head += _text(name) + struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape, kind, offset)
        data += tensor.tobytes()
        data += bytes(-len(data) % DEFAULT_ALIGNMENT)
        offset = len(data)
    head += bytes(-len(head) % DEFAULT_ALIGNMENT)
    write_atomically(path, bytes(head + data))
    return path


def _vocabulary() -> tuple[list[str], list[int], list[float]]:
    """Tokens, their types, and scores: of each letter its own piece, so that any text can be said."""
    letters = ["▁", *(chr(code) for code in range(33, 127))]
    tokens = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), *letters]
    types = [UNKNOWN, CONTROL, CONTROL, *[BYTE] * 256, *[NORMAL] * len(letters)]
    return tokens, types, [0.0] * 259 + [-1000.0] * len(letters)


def _metadata() -> Iterator[tuple[str, int, Any]]:
    tokens, types, scores = _vocabulary()
    yield "general.architecture", STRING, "llama"
    yield "general.name", STRING, "Test model"
    yield "general.file_type", UINT32, F16
    for key, number in (
        ("context_length", CONTEXT),
        ("embedding_length", WIDTH),
        ("block_count", BLOCKS),
        ("feed_forward_length", FEED_FORWARD),
        ("attention.head_count", HEADS),
        ("attention.head_count_kv", HEADS),
        ("rope.dimension_count", WIDTH // HEADS),
        ("vocab_size", len(tokens)),
    ):
        yield f"llama.{key}", UINT32, number
    yield "llama.attention.layer_norm_rms_epsilon", FLOAT32, 1e-5
    yield "llama.rope.freq_base", FLOAT32, 10000.0
    yield "tokenizer.ggml.model", STRING, "llama"
    yield "tokenizer.ggml.tokens", ARRAY, (STRING, tokens)
    yield "tokenizer.ggml.token_type", ARRAY, (INT32, types)
    yield "tokenizer.ggml.scores", ARRAY, (FLOAT32, scores)
    for role, number in (("unknown", 0), ("bos", 1), ("eos", 2)):
        yield f"tokenizer.ggml.{role}_token_id", UINT32, number


def _tensors(tokens: int) -> Iterator[tuple[str, NDArray[Any]]]:
    import numpy as np

    random = np.random.default_rng(SEED)

    def matrix(rows: int, columns: int) -> NDArray[Any]:
        scaled: NDArray[Any] = random.standard_normal((rows, columns)) / np.sqrt(columns)
        return scaled.astype("<f2")

    ones = np.ones(WIDTH, dtype="<f4")
    yield "token_embd.weight", matrix(tokens, WIDTH)
    yield "output_norm.weight", ones
    yield "output.weight", matrix(tokens, WIDTH)
    for block in range(BLOCKS):
        yield f"blk.{block}.attn_norm.weight", ones
        for name in ("attn_q", "attn_k", "attn_v", "attn_output"):
            yield f"blk.{block}.{name}.weight", matrix(WIDTH, WIDTH)
        yield f"blk.{block}.ffn_norm.weight", ones
        for name in ("ffn_gate", "ffn_up"):
            yield f"blk.{block}.{name}.weight", matrix(FEED_FORWARD, WIDTH)
        yield f"blk.{block}.ffn_down.weight", matrix(WIDTH, FEED_FORWARD)


def _entry(key: str, kind: int, value: Any) -> bytes:
    return _text(key) + struct.pack("<I", kind) + _value(kind, value)


def _value(kind: int, value: Any) -> bytes:
    if kind == STRING:
        return _text(value)
    if kind == ARRAY:
        inner, items = value
        return struct.pack("<IQ", inner, len(items)) + b"".join(_value(inner, item) for item in items)
    return struct.pack({UINT32: "<I", INT32: "<i", FLOAT32: "<f"}[kind], value)


def _text(text: str) -> bytes:
    raw = text.encode()
    return struct.pack("<Q", len(raw)) + raw
