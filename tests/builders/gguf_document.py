"""A GGUF file taken apart: change one thing and put it together again, or find where each field lies in its bytes.

Independent of the app's reader and of the `gguf` package, which both refuse what the tests want to write.
"""

from __future__ import annotations

import copy
import struct
from dataclasses import dataclass, field
from typing import Any, Literal

STRING, ARRAY = 8, 9
SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
ALIGNMENT = 32

Region = Literal["preamble", "metadata", "vocabulary", "tensors", "data"]


@dataclass(frozen=True)
class Span:
    """One field of the file: what it is, where, and in which region. Padding between regions belongs to none."""

    what: str
    start: int
    end: int
    region: Region


@dataclass
class Entry:
    """A key with its value: a number, bytes for a string, or a list for an array of `element` type."""

    key: bytes
    kind: int
    value: Any
    element: int = 0


@dataclass
class Tensor:
    name: bytes
    shape: list[int]
    kind: int
    offset: int


@dataclass
class Document:
    """The parts of one file. `data` is everything behind the header's padding; offsets count from its beginning."""

    version: int
    order: str
    entries: list[Entry] = field(default_factory=list)
    tensors: list[Tensor] = field(default_factory=list)
    data: bytes = b""
    spans: list[Span] = field(default_factory=list)

    def copy(self) -> Document:
        return copy.deepcopy(self)

    def entry(self, key: str) -> Entry | None:
        return next((entry for entry in self.entries if entry.key == key.encode()), None)

    def put(self, key: str, kind: int, value: Any, element: int = 0) -> None:
        """Replace the value of `key`, or add the key."""
        found = self.entry(key)
        if found is None:
            self.entries.append(Entry(key.encode(), kind, value, element))
        else:
            found.kind, found.value, found.element = kind, value, element

    def remove(self, key: str) -> None:
        self.entries = [entry for entry in self.entries if entry.key != key.encode()]

    @property
    def architecture(self) -> str:
        entry = self.entry("general.architecture")
        return entry.value.decode() if entry is not None and isinstance(entry.value, bytes) else ""

    def build(self) -> bytes:
        """The file's bytes, counts and padding as they should be."""
        wide = self._wide
        parts = [b"GGUF", self._pack(f"I{wide}{wide}", self.version, len(self.tensors), len(self.entries))]
        for entry in self.entries:
            parts += [self._text(entry.key), self._pack("I", entry.kind), self._value(entry)]
        for tensor in self.tensors:
            count = len(tensor.shape)
            parts += [self._text(tensor.name), self._pack(f"I{count}{wide}", count, *tensor.shape)]
            parts.append(self._pack("IQ", tensor.kind, tensor.offset))
        header = b"".join(parts)
        return header + bytes(-len(header) % ALIGNMENT) + self.data

    @property
    def _wide(self) -> str:
        return "I" if self.version == 1 else "Q"

    def _pack(self, code: str, *values: Any) -> bytes:
        return struct.pack(self.order + code, *values)

    def _text(self, value: bytes) -> bytes:
        return self._pack(self._wide, len(value)) + value

    def _value(self, entry: Entry) -> bytes:
        if entry.kind == STRING:
            return self._text(entry.value)
        if entry.kind != ARRAY:
            return self._pack(SCALARS[entry.kind], entry.value)
        head = self._pack(f"I{self._wide}", entry.element, len(entry.value))
        if entry.element == STRING:
            return head + b"".join(map(self._text, entry.value))
        return head + self._pack(f"{len(entry.value)}{SCALARS[entry.element]}", *entry.value)


def parse(data: bytes, order: str = "<") -> Document:
    """Take a sound file apart. Arrays of arrays are not known here."""
    return _Parser(data, order).parse()


class _Parser:
    def __init__(self, data: bytes, order: str) -> None:
        self.data = data
        self.at = 0
        self.region: Region = "preamble"
        self.document = Document(0, order)
        self.wide = "Q"

    def parse(self) -> Document:
        document = self.document
        self._bytes("magic", 4)
        document.version = self._number("version", "I")
        self.wide = "I" if document.version == 1 else "Q"
        tensors, keys = self._number("tensor count", self.wide), self._number("key count", self.wide)
        for _ in range(keys):
            document.entries.append(self._entry())
        self.region = "tensors"
        for _ in range(tensors):
            document.tensors.append(self._tensor())
        self.region = "data"
        self.at += -self.at % ALIGNMENT
        document.data = self._bytes("data", len(self.data) - self.at)
        return document

    def _entry(self) -> Entry:
        self.region = "metadata"
        key = self._text("key")
        if key.startswith(b"tokenizer."):
            self.region = "vocabulary"
        kind = self._number("value type", "I")
        if kind == STRING:
            return Entry(key, kind, self._text("text"))
        if kind != ARRAY:
            return Entry(key, kind, self._number("number", SCALARS[kind]))
        element, count = self._number("element type", "I"), self._number("array length", self.wide)
        if element == STRING:
            return Entry(key, kind, [self._text("item") for _ in range(count)], element)
        code = f"{self.document.order}{count}{SCALARS[element]}"
        return Entry(key, kind, list(struct.unpack(code, self._bytes("numbers", struct.calcsize(code)))), element)

    def _tensor(self) -> Tensor:
        name = self._text("tensor name")
        shape = [self._number("dimension", self.wide) for _ in range(self._number("dimensions", "I"))]
        return Tensor(name, shape, self._number("tensor type", "I"), self._number("offset", "Q"))

    def _text(self, what: str) -> bytes:
        return self._bytes(what, self._number(f"{what} length", self.wide))

    def _number(self, what: str, code: str) -> Any:
        size = struct.calcsize("<" + code)
        return struct.unpack(self.document.order + code, self._bytes(what, size))[0]

    def _bytes(self, what: str, count: int) -> bytes:
        start, self.at = self.at, self.at + count
        self.document.spans.append(Span(what, start, self.at, self.region))
        return self.data[start : self.at]
