"""Reading a binary header through a small buffer, with every length checked against the bytes that are left.

A buffer rather than a memory map: a file that is being replaced or cut short while we read it would kill the process
that maps it, and here that process is the server. Knows nothing of any format except how length-prefixed strings
lie in a row, because skipping a vocabulary of them quickly is what makes a header cheap to read.
"""

from __future__ import annotations

import re
import struct
from functools import cache
from typing import BinaryIO

from webui.errors import CorruptFile

CHUNK_BYTES = 1 << 20
REFILL_BELOW_BYTES = 1 << 16
RUN = 1024
"""Strings that are skipped by one match of a compiled pattern."""


class Window:
    """A forward reader over `size` bytes of `file` from `start` on; positions are relative to `start`.

    `order` is "<" or ">" as in `struct`. Every method raises `CorruptFile` instead of reading past the end.
    """

    def __init__(self, file: BinaryIO, start: int, size: int, *, label: str, order: str = "<") -> None:
        self.size = size
        self.label = label
        self.order = order
        self._file = file
        self._start = start
        self._end = start + size
        self._data = b""
        self._base = start
        self._at = 0

    @property
    def position(self) -> int:
        return self._base + self._at - self._start

    @property
    def left(self) -> int:
        return self._end - self._base - self._at

    def seek(self, position: int) -> None:
        """Go to a position that was read before; the buffer is filled anew when something is read there."""
        self._base = self._start + position
        self._at = 0
        self._data = b""

    def unpack(self, kind: struct.Struct) -> tuple[int | float | bool, ...]:
        self._need(kind.size)
        values = kind.unpack_from(self._data, self._at)
        self._at += kind.size
        return values

    def take(self, count: int) -> bytes:
        self._need(count)
        data = self._data[self._at : self._at + count]
        self._at += count
        return data

    def skip(self, count: int) -> None:
        if count > self.left:
            raise self.cut_short(count)
        self._at += count

    def skip_strings(self, count: int, length: struct.Struct) -> list[int]:
        """Go past `count` strings, each behind its length; returns the position of every `RUN`-th, from the first.

        Runs of short strings are matched by one compiled pattern; where it does not match (a string of 256 bytes or
        more, or damage) the strings of that run are stepped over one by one, with all checks.
        """
        if count * length.size > self.left:
            raise self.cut_short(count * length.size)
        pattern = short_strings(length.size, self.order)
        marks: list[int] = []
        while count > 0:
            marks.append(self.position)
            if len(self._data) - self._at < REFILL_BELOW_BYTES:
                self._fill()
            matched = pattern.match(self._data, self._at) if count >= RUN else None
            if matched is not None:
                self._at = matched.end()
            else:
                for _ in range(min(count, RUN)):
                    self._need(length.size)
                    self.skip_length(length)
            count -= RUN
        return marks

    def skip_length(self, length: struct.Struct) -> None:
        """Go past one string."""
        self._need(length.size)
        (count,) = length.unpack_from(self._data, self._at)
        self._at += length.size
        self.skip(count)

    def cut_short(self, wanted: int) -> CorruptFile:
        return CorruptFile(
            f"{self.label} is damaged or incomplete: its header ends in the middle.",
            cause=f"{wanted:,} bytes are announced at position {self.position:,}, and {max(self.left, 0):,} are left",
        )

    def _need(self, count: int) -> None:
        if len(self._data) - self._at >= count:
            return
        if count > self.left:
            raise self.cut_short(count)
        self._fill(count)
        if len(self._data) < count:  # shorter than its size said: it is being rewritten
            raise self.cut_short(count)

    def _fill(self, count: int = 0) -> None:
        """Make the buffer begin at the current position and reach at least `count` bytes, if the file does."""
        offset = self._base + self._at
        self._file.seek(offset)
        self._data = self._file.read(min(max(count, CHUNK_BYTES), self._end - offset))
        self._base = offset
        self._at = 0


@cache
def short_strings(width: int, order: str) -> re.Pattern[bytes]:
    """A pattern for `RUN` strings in a row, each shorter than 256 bytes behind a length of `width` bytes.

    One alternative per length, each deterministic, repeated possessively: the match is linear, needs no stack, and
    runs in C, several times faster than unpacking each length.
    """
    zeros = b"\\x00{%d}" % (width - 1)
    alternatives = []
    for size in range(256):
        byte = re.escape(bytes([size]))
        prefix = byte + zeros if order == "<" else zeros + byte
        alternatives.append(prefix + b".{%d}" % size)
    return re.compile(b"(?s:(?:" + b"|".join(alternatives) + b"){%d}+)" % RUN)
