"""The header of one GGUF file, versions 1 to 3, in either byte order.

Reads scalar values, short arrays and the list of tensors; walks past vocabularies without building them. Every length
is untrusted and bounded by the bytes that are left, and every count by what real files have. What the values mean for
a model, and files in several parts, is `webui.models.gguf_facts`.

Layout: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, BinaryIO, NamedTuple

from webui.errors import CorruptFile, UnsupportedFormat
from webui.models.ggml_types import HIGHEST_PLAUSIBLE_TYPE, TENSOR_TYPES, TensorType
from webui.models.window import RUN, Window

MAGIC = b"GGUF"
DEFAULT_ALIGNMENT = 32
MOST_KEYS = 1 << 14
MOST_TENSORS = 1 << 16
MOST_STRINGS = 1 << 21
"""Strings in all arrays together: four times the vocabulary and merges of the largest model there is."""
MOST_DIMENSIONS = 4
MOST_NESTED = 4
MOST_INNER_ARRAYS = 4096
LONGEST_NAME = 1 << 16
LONGEST_KEPT_STRING = 1 << 20
KEPT_STRING_BYTES = 1 << 22
"""All kept strings together; longer ones (whole tokenizers are embedded as JSON) are passed over."""
KEPT_NUMBERS = 1024
KEPT_STRINGS = 64

UINT16, UINT32, INT32, FLOAT32, STRING, ARRAY = 2, 4, 5, 6, 8, 9
SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}


class TensorInfo(NamedTuple):
    """`shape` has the fastest dimension first, as GGUF writes it. `offset` counts from the header's `data_offset`."""

    name: str
    shape: tuple[int, ...]
    type: str
    offset: int
    bytes: int

    @property
    def elements(self) -> int:
        product = 1
        for size in self.shape:
            product *= size
        return product


@dataclass(frozen=True, slots=True)
class StringArray:
    """Where the strings of an array lie: `marks` are the positions of every `RUN`-th."""

    count: int
    marks: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class GgufHeader:
    """One file's header. `lengths` holds the element count of every array, kept or passed over; `types` the type of
    every value, of an array that of its elements.
    """

    version: int
    byte_order: str
    metadata: dict[str, Any]
    lengths: dict[str, int]
    types: dict[str, int]
    tensors: tuple[TensorInfo, ...]
    data_offset: int
    texts: dict[str, str] = field(default_factory=dict)
    """The array elements asked for by `read_header(look_up=…)`, by the key that held their index."""


def read_header(
    file: BinaryIO, size: int, *, label: str, start: int = 0, look_up: dict[str, str] | None = None
) -> GgufHeader:
    """Read the header of the GGUF that occupies `size` bytes of `file` from `start` on.

    `look_up` maps a key that holds an index to the key of the string array it points into (`bos_token_id` → `tokens`);
    those elements are in `texts`. Raises `CorruptFile` (damaged, or shorter than its tensors) or `UnsupportedFormat`.
    """
    return _Reader(Window(file, start, size, label=label), look_up or {}).read()


class _Reader:
    def __init__(self, window: Window, look_up: dict[str, str]) -> None:
        self.window = window
        self.look_up = look_up
        self.metadata: dict[str, Any] = {}
        self.lengths: dict[str, int] = {}
        self.types: dict[str, int] = {}
        self.string_arrays: dict[str, StringArray] = {}
        self.strings_left = MOST_STRINGS
        self.inner_arrays_left = MOST_INNER_ARRAYS
        self.kept_left = KEPT_STRING_BYTES

    def read(self) -> GgufHeader:
        version = self._preamble()
        counts = struct.Struct(self.window.order + ("II" if version == 1 else "QQ"))
        tensor_count, key_count = (int(count) for count in self.window.unpack(counts))
        if key_count > MOST_KEYS or tensor_count > MOST_TENSORS:
            raise self._damaged(f"{key_count:,} keys and {tensor_count:,} tensors are announced")
        for _ in range(key_count):
            self._entry()
        tensors = [self._tensor() for _ in range(tensor_count)]
        alignment = self._alignment()
        data_offset = -(-self.window.position // alignment) * alignment
        sized = self._sized(tensors, data_offset)
        self._check_layout(sized, alignment)
        return GgufHeader(
            version=version,
            byte_order="little" if self.window.order == "<" else "big",
            metadata=self.metadata,
            lengths=self.lengths,
            types=self.types,
            tensors=sized,
            data_offset=data_offset,
            texts=self._look_up(),
        )

    def _preamble(self) -> int:
        if self.window.size < 8 or self.window.take(4) != MAGIC:
            raise UnsupportedFormat(f"{self.window.label} is not a GGUF file.", cause="it does not begin with GGUF")
        raw = self.window.take(4)
        version = int.from_bytes(raw, "little")
        if version & 0xFFFF == 0:  # no version is that high: the bytes stand the other way round
            version = int.from_bytes(raw, "big")
            self.window.order = ">"
        if version not in (1, 2, 3):
            raise UnsupportedFormat(
                f"{self.window.label} is GGUF version {version}, and versions 1 to 3 are known.",
                hint="A newer version of this app may open it; if the file is old, it is damaged.",
            )
        order = self.window.order
        self.length = struct.Struct(order + ("I" if version == 1 else "Q"))
        self.word = struct.Struct(order + "I")
        self.scalars = {kind: struct.Struct(order + code) for kind, code in SCALARS.items()}
        self.tensor_sizes = {
            count: struct.Struct(f"{order}{count}{'I' if version == 1 else 'Q'}IQ")
            for count in range(MOST_DIMENSIONS + 1)
        }
        return version

    def _entry(self) -> None:
        key = self._name()
        if key in self.types:
            raise self._damaged(f"the key {key[:80]!r} occurs twice")
        kind = self.types[key] = self._count(self.word)
        if kind == STRING:
            text = self._string()
            if text is not None:
                self.metadata[key] = text
        elif kind == ARRAY:
            self._array(key)
        else:
            self.metadata[key] = self._scalar(kind)

    def _array(self, key: str) -> None:
        kind, count = self._count(self.word), self._count(self.length)
        self.types[key], self.lengths[key] = kind, count
        if kind == STRING:
            if count <= KEPT_STRINGS:
                position = self.window.position
                strings = [self._string() for _ in range(count)]
                if None not in strings:
                    self.metadata[key] = strings
                self.string_arrays[key] = StringArray(count, (position,))
            else:
                self._spend_strings(count)
                self.string_arrays[key] = StringArray(count, tuple(self.window.skip_strings(count, self.length)))
        elif kind == ARRAY:
            self._skip_nested(count, depth=1)
        else:
            self._numbers(key, kind, count)

    def _numbers(self, key: str, kind: int, count: int) -> None:
        width = self._scalar_struct(kind).size
        if count > KEPT_NUMBERS:
            self.window.skip(count * width)
            return
        values = struct.Struct(f"{self.window.order}{count}{SCALARS[kind]}")
        self.metadata[key] = list(self.window.unpack(values))

    def _skip_nested(self, count: int, depth: int) -> None:
        """Arrays of arrays are allowed, and no known model has one: passed over, not kept."""
        self.inner_arrays_left -= count
        if depth > MOST_NESTED or self.inner_arrays_left < 0:
            raise self._damaged("its arrays are nested too deeply or too often")
        for _ in range(count):
            kind, length = self._count(self.word), self._count(self.length)
            if kind == STRING:
                self._spend_strings(length)
                self.window.skip_strings(length, self.length)
            elif kind == ARRAY:
                self._skip_nested(length, depth + 1)
            else:
                self.window.skip(length * self._scalar_struct(kind).size)

    def _tensor(self) -> TensorInfo:
        """One tensor as announced; its size in bytes is known only beside its neighbours (`_sized`)."""
        name = self._name()
        dimensions = self._count(self.word)
        if dimensions > MOST_DIMENSIONS:
            raise self._damaged(f"the tensor {name[:80]!r} has {dimensions:,} dimensions")
        *shape, kind, offset = (int(value) for value in self.window.unpack(self.tensor_sizes[dimensions]))
        if kind > HIGHEST_PLAUSIBLE_TYPE:
            raise self._damaged(f"the tensor {name[:80]!r} is of type {kind:,}")
        known = TENSOR_TYPES.get(kind)
        tensor = TensorInfo(name, tuple(shape), known.name if known else f"TYPE_{kind}", offset, -1)
        return tensor if known is None else tensor._replace(bytes=self._stored(tensor, known))

    def _stored(self, tensor: TensorInfo, kind: TensorType) -> int:
        if tensor.shape and tensor.shape[0] % kind.block:
            raise self._damaged(f"the rows of the tensor {tensor.name[:80]!r} are no multiple of {kind.block}")
        if 0 in tensor.shape:
            raise self._damaged(f"the tensor {tensor.name[:80]!r} is empty")
        return tensor.elements // kind.block * kind.bytes

    def _alignment(self) -> int:
        alignment = self.metadata.get("general.alignment", DEFAULT_ALIGNMENT)
        if not isinstance(alignment, int) or alignment < 8 or alignment & (alignment - 1) or alignment > 1 << 20:
            raise self._damaged(f"its alignment is {str(alignment)[:40]}")
        return alignment

    def _sized(self, tensors: list[TensorInfo], data_offset: int) -> tuple[TensorInfo, ...]:
        """Check each tensor against the file. One of a type newer than our table reaches to its neighbour."""
        available = self.window.size - data_offset
        following = dict(pairwise([*sorted({tensor.offset for tensor in tensors}), available]))
        sized = []
        for tensor in tensors:
            if tensor.bytes < 0:
                tensor = tensor._replace(bytes=max(following[tensor.offset] - tensor.offset, 0))
            if tensor.offset + tensor.bytes > available:
                raise self._truncated(tensors, data_offset)
            sized.append(tensor)
        return tuple(sized)

    def _check_layout(self, tensors: tuple[TensorInfo, ...], alignment: int) -> None:
        """Every tensor has a name of its own, begins where one may begin, and shares no byte with another."""
        if len({tensor.name for tensor in tensors}) < len(tensors):
            raise self._damaged("two of its tensors have the same name")
        for tensor in tensors:
            if tensor.offset % alignment:
                raise self._damaged(f"the tensor {tensor.name[:80]!r} begins at {tensor.offset:,}, between two places")
        for one, other in pairwise(sorted(tensors, key=lambda tensor: tensor.offset)):
            if one.offset + one.bytes > other.offset:
                raise self._damaged(f"the tensors {one.name[:80]!r} and {other.name[:80]!r} lie on each other")

    def _truncated(self, tensors: list[TensorInfo], data_offset: int) -> CorruptFile:
        needed = data_offset + max(tensor.offset + max(tensor.bytes, 0) for tensor in tensors)
        return CorruptFile(
            f"{self.window.label} is incomplete: its tensors need {needed:,} bytes, the file has {self.window.size:,}.",
            cause="the download stopped early, or the header is damaged",
            needed_bytes=needed,
            file_bytes=self.window.size,
        )

    def _look_up(self) -> dict[str, str]:
        texts = {}
        for index_key, array_key in self.look_up.items():
            index, array = self.metadata.get(index_key), self.string_arrays.get(array_key)
            if isinstance(index, int) and array is not None and 0 <= index < array.count:
                self.window.seek(array.marks[index // RUN])
                for _ in range(index % RUN):
                    self.window.skip_length(self.length)
                text = self._string()
                if text is not None:
                    texts[index_key] = text
        return texts

    def _name(self) -> str:
        length = self._count(self.length)
        if length > LONGEST_NAME:
            raise self._damaged(f"a name of {length:,} bytes is announced at position {self.window.position:,}")
        return self.window.take(length).decode("utf-8", errors="replace")

    def _string(self) -> str | None:
        """The next string, or None for one too long to keep (it is passed over)."""
        length = self._count(self.length)
        if length > LONGEST_KEPT_STRING or length > self.kept_left:
            self.window.skip(length)
            return None
        self.kept_left -= length
        return self.window.take(length).decode("utf-8", errors="replace")

    def _scalar(self, kind: int) -> int | float | bool:
        return self.window.unpack(self._scalar_struct(kind))[0]

    def _scalar_struct(self, kind: int) -> struct.Struct:
        try:
            return self.scalars[kind]
        except KeyError:
            raise self._damaged(f"a value of type {kind:,} stands at position {self.window.position:,}") from None

    def _count(self, kind: struct.Struct) -> int:
        return int(self.window.unpack(kind)[0])

    def _spend_strings(self, count: int) -> None:
        self.strings_left -= count
        if self.strings_left < 0:
            raise self._damaged(f"its arrays announce more than {MOST_STRINGS:,} strings")

    def _damaged(self, cause: str) -> CorruptFile:
        return CorruptFile(f"{self.window.label} is damaged: its header contradicts itself.", cause=cause)
