"""What comes from a worker, taken with care: a process that misbehaves must cost the app neither memory nor time.

Messages are checked before anybody acts on them, lines and unread answers are bounded, and whoever reads in a loop lets
the others have their turn.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
from collections import deque
from collections.abc import AsyncGenerator, Callable
from typing import Any

from pydantic import TypeAdapter, ValidationError

from webui.errors import AppError, EngineGarbled
from webui.loaders.contract import Finished, LoadedModel

BLOCK = 65_536
"""Bytes taken from a pipe at once."""

LINE_LIMIT = 1024 * 1024
"""Longest message of a worker, bytes. Longer answers come in parts."""

UNREAD_LIMIT = 4096
"""Answers to one request that may wait to be read; beyond it, the worker is not read until somebody does."""

QUOTED_BYTES = 200
"""How much of a line that is wrong is shown."""

TURN_MESSAGES = 200
"""Messages handled before other coroutines get their turn: a few milliseconds."""

READ_OUT_SECONDS = 1.0

SLOTS_LIMIT = 1024

CHUNK_CHARACTERS = 65_536
"""Longest text of one chunk: a few tokens' worth, and much more."""

_STRINGS = {"progress": "step", "chunk": "text"}
_KINDS = frozenset({"hello", "started", "progress", "chunk", "part", "result", "error", "dying"})
_LOADED = TypeAdapter(LoadedModel)
_FINISHED = TypeAdapter(Finished)
_TOKENS = TypeAdapter(list[int])


class Garbled(Exception):
    """What came is not the protocol; the text says what is wrong with it."""


async def lines_of(pipe: asyncio.StreamReader) -> AsyncGenerator[bytes, None]:
    """The lines of `pipe`, without their ends; the rest behind the last of them is dropped. Raises `Garbled`."""
    pending = bytearray()
    while block := await pipe.read(BLOCK):
        pending += block
        if b"\n" in block:
            *lines, rest = bytes(pending).split(b"\n")
            pending = bytearray(rest)
            for count, line in enumerate(lines, 1):
                if count % TURN_MESSAGES == 0:
                    await asyncio.sleep(0)
                yield line
        if len(pending) > LINE_LIMIT:
            raise Garbled(f"a message of more than {LINE_LIMIT:,} bytes")
        await asyncio.sleep(0)


async def read_out(*pipes: asyncio.StreamReader | None) -> None:
    """Drop what a process that has ended left in its pipes: one that is not read to its end would stay open."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(READ_OUT_SECONDS):
            for pipe in pipes:
                while pipe is not None and await pipe.read(BLOCK):
                    pass


def parse(line: bytes) -> dict[str, Any]:
    """One message, with the fields and types its kind has. Raises `Garbled`."""
    try:
        message = json.loads(line)
    except (ValueError, RecursionError):
        raise Garbled(f"a line that is no message: {_quoted(line)}") from None
    if not isinstance(message, dict) or message.get("kind") not in _KINDS:
        raise Garbled(f"a message of no known kind: {_quoted(line)}")
    if wrong := _wrong(message["kind"], message):
        raise Garbled(f"a message whose {wrong} is wrong: {_quoted(line)}")
    return message


def _quoted(line: bytes) -> str:
    return f"“{line[:QUOTED_BYTES].decode(errors='replace').strip()}”"


def _wrong(kind: str, message: dict[str, Any]) -> str | None:
    """The field of a message that is missing or not of its type."""
    if kind == "hello":
        return None if _whole(message.get("pid")) else "pid"
    if kind in ("error", "dying") and not _is_error(message.get("error")):
        return "error"
    if kind == "dying":
        return None
    if not _whole(message.get("id")):
        return "id"
    if kind in _STRINGS and not isinstance(message.get(_STRINGS[kind]), str):
        return _STRINGS[kind]
    if kind == "chunk" and not _whole(message.get("tokens")):
        return "tokens"
    if kind == "chunk" and len(message["text"]) > CHUNK_CHARACTERS:
        return "length"
    share = message.get("share")
    if kind == "progress" and share is not None and not (isinstance(share, int | float) and math.isfinite(share)):
        return "share"
    return "value" if kind in ("result", "part") and "value" not in message else None


def _whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _is_error(value: Any) -> bool:
    if not isinstance(value, dict) or not isinstance(value.get("facts", {}), dict):
        return False
    return isinstance(value.get("evidence", []), list) and isinstance(value.get("message"), str)


def read_model(value: Any) -> LoadedModel:
    """A worker's account of the model it loaded. Raises `Garbled` if it is none."""
    try:
        model = _LOADED.validate_python(value)
    except ValidationError as error:
        raise Garbled(_complaint("loaded model", error)) from None
    if not 1 <= model.slots <= SLOTS_LIMIT or model.context_size < 0:
        raise Garbled(f"a loaded model with {model.slots} slots and a context of {model.context_size}")
    return model


def read_end(value: Any) -> Finished:
    """A worker's account of a reply. Raises `Garbled` if it is none."""
    try:
        return _FINISHED.validate_python(value)
    except ValidationError as error:
        raise Garbled(_complaint("end of a reply", error)) from None


def read_tokens(value: Any) -> list[int]:
    """Token ids. Raises `Garbled` if they are none."""
    try:
        return _TOKENS.validate_python(value)
    except ValidationError as error:
        raise Garbled(_complaint("list of tokens", error)) from None


def _complaint(what: str, error: ValidationError) -> str:
    first = error.errors(include_url=False, include_input=False)[0]
    place = ".".join(str(part) for part in first["loc"]) or "value"
    return f"a {what} that is none ({place}: {first['msg']})"


class Inbox:
    """The answers to one request that nobody has read yet, at most so many; then the request's end."""

    def __init__(self) -> None:
        self._answers: deque[dict[str, Any]] = deque()
        self._death: Callable[[], AppError] | None = None
        self._closed = False
        self._arrived = asyncio.Event()
        self._room = asyncio.Event()

    async def put(self, answer: dict[str, Any]) -> None:
        """Add an answer; waits while too many are unread. What comes after `close` is dropped."""
        while len(self._answers) >= UNREAD_LIMIT and not self._closed:
            self._room.clear()
            await self._room.wait()
        if not self._closed:
            self._answers.append(answer)
            self._arrived.set()

    def end(self, death: Callable[[], AppError]) -> None:
        """No answer follows those that are here: the worker has died, of what `death` tells."""
        self._death = death
        self._arrived.set()

    def close(self) -> None:
        """Nobody reads any more."""
        self._closed = True
        self._answers.clear()
        self._room.set()

    async def get(self) -> dict[str, Any]:
        """The next answer; raises the worker's death after the last."""
        while not self._answers:
            if self._death is not None:
                raise self._death()
            self._arrived.clear()
            await self._arrived.wait()
        self._room.set()
        return self._answers.popleft()


def garbled(title: str, what: str, lines: list[str]) -> EngineGarbled:
    """The error for a worker that does not keep to its protocol."""
    return EngineGarbled(
        f"{title} answered with something that this app does not understand; its worker was ended.",
        cause=f"it sent {what}",
        evidence=lines,
    )
