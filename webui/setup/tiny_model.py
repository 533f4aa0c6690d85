"""A model of a few hundred kilobytes that every engine here can open: what a backend is tried with.

A llama of two blocks with random weights and a SentencePiece vocabulary of single characters, as a GGUF file that is
written byte by byte: the packages that write such files belong to the engines, and may be what is broken.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

BLOCKS, WIDTH, HEADS, HEADS_KV, FEED_FORWARD, CONTEXT = 2, 64, 4, 2, 128, 512
SPACE = "\u2581"
PROMPT = "a small model wrote"
UINT32, FLOAT32, BOOL, STRING, ARRAY, INT32 = 4, 6, 7, 8, 9, 5
"""GGUF's numbers of the types of values."""
F32, F16 = 0, 1
NORMAL, UNKNOWN, CONTROL, BYTE = 1, 2, 3, 6
ALIGNMENT = 32
Weights = NDArray[np.float32] | NDArray[np.float16]


def write_tiny_model(path: Path) -> Path:
    """Write the model to `path`; the same bytes every time."""
    tokens, types = _vocabulary()
    tensors = _tensors(len(tokens))
    head = struct.pack("<4sIQQ", b"GGUF", 3, len(tensors), len(_values(tokens, types)))
    head += b"".join(_string(name) + value for name, value in _values(tokens, types))
    place, data = 0, b""
    for name, tensor in tensors:
        kind = F32 if tensor.dtype == np.float32 else F16
        shape = tensor.shape[::-1]  # the file names the shortest stride first
        head += _string(name) + struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape, kind, place)
        content = tensor.tobytes()
        data += content + bytes(-len(content) % ALIGNMENT)
        place = len(data)
    path.write_bytes(head + bytes(-len(head) % ALIGNMENT) + data)
    return path


def _vocabulary() -> tuple[list[str], list[int]]:
    """Unknown, beginning and end, the 256 bytes, and the printable characters."""
    letters = [SPACE, *(chr(code) for code in range(33, 127))]
    tokens = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), *letters]
    return tokens, [UNKNOWN, CONTROL, CONTROL, *[BYTE] * 256, *[NORMAL] * len(letters)]


def _values(tokens: Sequence[str], types: Sequence[int]) -> list[tuple[str, bytes]]:
    """The header's keys with their values as bytes."""
    scores = [0.0 if kind != NORMAL else -1000.0 for kind in types]
    return [
        ("general.architecture", _text("llama")),
        ("general.name", _text("Tiny trial model")),
        ("general.file_type", _number(1)),
        ("llama.context_length", _number(CONTEXT)),
        ("llama.embedding_length", _number(WIDTH)),
        ("llama.block_count", _number(BLOCKS)),
        ("llama.feed_forward_length", _number(FEED_FORWARD)),
        ("llama.attention.head_count", _number(HEADS)),
        ("llama.attention.head_count_kv", _number(HEADS_KV)),
        ("llama.attention.layer_norm_rms_epsilon", struct.pack("<If", FLOAT32, 1e-5)),
        ("llama.rope.dimension_count", _number(WIDTH // HEADS)),
        ("llama.rope.freq_base", struct.pack("<If", FLOAT32, 10000.0)),
        ("tokenizer.ggml.model", _text("llama")),
        ("tokenizer.ggml.tokens", _array(STRING, [_string(token) for token in tokens])),
        ("tokenizer.ggml.token_type", _array(INT32, [struct.pack("<i", kind) for kind in types])),
        ("tokenizer.ggml.scores", _array(FLOAT32, [struct.pack("<f", score) for score in scores])),
        ("tokenizer.ggml.unknown_token_id", _number(0)),
        ("tokenizer.ggml.bos_token_id", _number(1)),
        ("tokenizer.ggml.eos_token_id", _number(2)),
        ("tokenizer.ggml.add_bos_token", struct.pack("<I?", BOOL, True)),
    ]


def _tensors(vocabulary: int) -> list[tuple[str, Weights]]:
    """Special and byte tokens have no weight in the output, so that it writes letters and never stops by itself."""
    random = np.random.default_rng(3)

    def matrix(rows: int, columns: int, spread: float = 1.0) -> NDArray[np.float16]:
        return np.asarray(random.standard_normal((rows, columns)) * spread / np.sqrt(columns), np.float16)

    def ones() -> NDArray[np.float32]:
        return np.ones(WIDTH, np.float32)

    output = matrix(vocabulary, WIDTH, 4.0)
    output[:260] = 0.0
    key_width = WIDTH // HEADS * HEADS_KV
    found: list[tuple[str, Weights]] = [
        ("token_embd.weight", matrix(vocabulary, WIDTH, 8.0)),
        ("output_norm.weight", ones()),
    ]
    found.append(("output.weight", output))
    for block in range(BLOCKS):
        layer: dict[str, Weights] = {
            "attn_norm": ones(),
            "attn_q": matrix(WIDTH, WIDTH),
            "attn_k": matrix(key_width, WIDTH),
            "attn_v": matrix(key_width, WIDTH),
            "attn_output": matrix(WIDTH, WIDTH),
            "ffn_norm": ones(),
            "ffn_gate": matrix(FEED_FORWARD, WIDTH),
            "ffn_up": matrix(FEED_FORWARD, WIDTH),
            "ffn_down": matrix(WIDTH, FEED_FORWARD),
        }
        found += [(f"blk.{block}.{name}.weight", tensor) for name, tensor in layer.items()]
    return found


def _string(text: str) -> bytes:
    data = text.encode()
    return struct.pack("<Q", len(data)) + data


def _text(text: str) -> bytes:
    return struct.pack("<I", STRING) + _string(text)


def _number(value: int) -> bytes:
    return struct.pack("<II", UINT32, value)


def _array(kind: int, items: Sequence[bytes]) -> bytes:
    return struct.pack("<IIQ", ARRAY, kind, len(items)) + b"".join(items)
