"""GGUF headers written byte by byte: the versions the `gguf` package no longer writes, and broken ones."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

UINT32, FLOAT32, BOOL, STRING, ARRAY, UINT64 = 4, 6, 7, 8, 9, 10


class RawGguf:
    """Collects a header; `order` is "<" or ">", and version 1 has 32-bit lengths."""

    def __init__(self, version: int = 3, order: str = "<") -> None:
        self.version = version
        self.order = order
        self.entries: list[bytes] = []
        self.tensors: list[bytes] = []
        self.data = b""
        self.wide = "I" if version == 1 else "Q"

    def pack(self, code: str, *values: Any) -> bytes:
        return struct.pack(self.order + code, *values)

    def text(self, value: str | bytes) -> bytes:
        raw = value.encode() if isinstance(value, str) else value
        return self.pack(self.wide, len(raw)) + raw

    def add(self, key: str, kind: int, value: Any) -> RawGguf:
        packed = self.text(value) if kind == STRING else self.pack({4: "I", 6: "f", 7: "?", 10: "Q"}[kind], value)
        return self.add_raw(key, kind, packed)

    def add_raw(self, key: str, kind: int, value: bytes) -> RawGguf:
        self.entries.append(self.text(key) + self.pack("I", kind) + value)
        return self

    def add_strings(self, key: str, values: list[str | bytes]) -> RawGguf:
        body = self.pack("I", STRING) + self.pack(self.wide, len(values)) + b"".join(map(self.text, values))
        return self.add_raw(key, ARRAY, body)

    def add_tensor(self, name: str, shape: tuple[int, ...], kind: int, offset: int, data: bytes = b"") -> RawGguf:
        self.tensors.append(
            self.text(name) + self.pack(f"I{len(shape)}{self.wide}", len(shape), *shape) + self.pack("IQ", kind, offset)
        )
        self.data += data
        return self

    def build(self, *, tensor_count: int | None = None, key_count: int | None = None) -> bytes:
        counts = self.pack(
            f"{self.wide}{self.wide}",
            len(self.tensors) if tensor_count is None else tensor_count,
            len(self.entries) if key_count is None else key_count,
        )
        header = b"GGUF" + self.pack("I", self.version) + counts + b"".join(self.entries + self.tensors)
        return header + bytes(-len(header) % 32) + self.data

    def write(self, path: Path, **counts: int) -> Path:
        path.write_bytes(self.build(**counts))
        return path


def tiny_raw(version: int = 3, order: str = "<") -> RawGguf:
    """A complete little header with one F32 tensor of 32 × 2 elements."""
    raw = RawGguf(version, order)
    raw.add("general.architecture", STRING, "llama").add("general.name", STRING, "Raw")
    raw.add("llama.block_count", UINT32, 2).add("llama.context_length", UINT32, 128)
    raw.add("tokenizer.ggml.model", STRING, "llama").add_strings("tokenizer.ggml.tokens", ["<unk>", "<s>", "</s>", "é"])
    raw.add("tokenizer.ggml.bos_token_id", UINT32, 1).add("tokenizer.ggml.eos_token_id", UINT32, 2)
    return raw.add_tensor("token_embd.weight", (32, 2), 0, 0, bytes(256))
