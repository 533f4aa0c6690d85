"""What a worker prints: the last lines of it, kept as evidence, and which of them are about what is under way."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections import deque

from webui.loaders.channel import BLOCK

LINES = 400
LINE_CHARACTERS = 2000
FLUSHED = b"\x1e"
"""Begins a line by which a worker says: all about request N has been printed."""

FLUSH_SECONDS = 1.0
_BREAKS = re.compile(rb"[\r\n]+")


class WorkerOutput:
    """The last lines of a worker's standard error, drained at all times."""

    def __init__(self) -> None:
        self.lines: deque[str] = deque(maxlen=LINES)
        self._printed = 0
        self._printed_before = 0
        self._flushed: dict[int, asyncio.Event] = {}

    def add(self, lines: list[str]) -> None:
        self.lines.extend(lines)
        self._printed += len(lines)

    def turn_page(self) -> None:
        """What is printed from now on is about something else."""
        self._printed_before = self._printed

    def latest(self) -> list[str]:
        """What was printed since the page was turned."""
        new = min(self._printed - self._printed_before, len(self.lines))
        return list(self.lines)[len(self.lines) - new :]

    async def drain(self, pipe: asyncio.StreamReader) -> None:
        """Read `pipe` to its end: a full pipe would stop the engine."""
        pending = b""
        while block := await pipe.read(BLOCK):
            *lines, pending = _BREAKS.split(pending + block)
            if FLUSHED in block:
                for line in lines:
                    self._note_flushed(line)
            said = (line for line in lines[-LINES:] if line.strip() and not line.startswith(FLUSHED))
            self.add([readable(line) for line in said])
            pending = pending[-LINE_CHARACTERS:]
            await asyncio.sleep(0)
        if pending.strip():
            self.add([readable(pending)])

    def expect(self, request_id: int) -> None:
        self._flushed[request_id] = asyncio.Event()

    def forget(self, request_id: int) -> None:
        del self._flushed[request_id]

    async def all_of(self, request_id: int) -> None:
        """Wait until all that the worker printed about a request is here; a moment at most."""
        await within(FLUSH_SECONDS, self._flushed[request_id])

    def _note_flushed(self, line: bytes) -> None:
        number = line.removeprefix(FLUSHED)
        if number != line and number.isdigit() and (event := self._flushed.get(int(number[:20]))):
            event.set()


async def within(seconds: float, event: asyncio.Event) -> bool:
    """Whether `event` is set, after at most so many seconds."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await event.wait()
    return event.is_set()


def readable(line: bytes) -> str:
    return line.decode("utf-8", "replace")[:LINE_CHARACTERS]
