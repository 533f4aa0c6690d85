"""The steps of a load on standard error, one line for each as it ends, and what the loaded model had to do without."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from webui.cli import columns
from webui.setup.terminal import TerminalProgress

if TYPE_CHECKING:
    from webui.loaders.contract import LoaderSpec
    from webui.planning.recovery import Attempt
    from webui.pool import Pool
    from webui.pool.status import Rung


class LadderTeller:
    """Tells a load while it goes on: lines that stay, and on a terminal the progress beneath them.

    A load that works as it was asked leaves no line. Used as an asynchronous context around the load.
    """

    def __init__(self, pool: Pool, name: str, loaders: Mapping[str, LoaderSpec]) -> None:
        self._pool = pool
        self._loaders = loaders
        self._terminal = TerminalProgress(name, sys.stderr)
        self._told = 0
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> LadderTeller:
        self._task = asyncio.create_task(self._watch())
        return self

    async def __aexit__(self, *exception: object) -> None:
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
        self._tell(over=True)
        degraded = self._pool.status.degraded
        if degraded is not None:
            self._terminal.note(degraded.sentence)

    async def _watch(self) -> None:
        try:
            async for status in self._pool.watch():
                self._tell(over=False)
                if status.step and self._terminal.live:
                    self._terminal(status.step, status.share)
        finally:
            self._terminal.stop()

    def _tell(self, *, over: bool) -> None:
        """Write the lines that are still to be written. A step's line waits for the step after it, which it names."""
        ladder = self._pool.status.ladder
        lines = ladder_lines(ladder, self._loaders, over=over)
        for line in lines[self._told :]:
            self._terminal.note(line)
        self._told = max(self._told, len(lines))


def ladder_lines(ladder: Sequence[Rung], loaders: Mapping[str, LoaderSpec], *, over: bool) -> list[str]:
    """One line for each step that has ended; none for a ladder of one step that worked.

    While the load is on (not `over`), the last step has no line yet: what comes after it is part of it.
    """
    if len(ladder) == 1 and ladder[0].state == "worked":
        return []
    ended = ladder if over else ladder[:-1]
    following: list[Rung | None] = [*ladder[1:], None]
    return [_line(rung, then, loaders) for rung, then in zip(ended, following, strict=False) if rung.state != "running"]


def shown(rung: Rung) -> dict[str, Any]:
    """A step in the JSON of `run`."""
    from webui.pool.records import rung_summary

    attempt = rung.attempt
    return {
        **rung_summary(rung),
        "message": rung.error.message if rung.error else None,
        "reason": attempt.reason,
        "changes": dict(attempt.changes),
        "given_up": attempt.given_up,
    }


def _line(rung: Rung, then: Rung | None, loaders: Mapping[str, LoaderSpec]) -> str:
    name = rung.attempt.loader
    took = f", {columns.seconds(rung.seconds)}" if rung.seconds is not None else ""
    if rung.state == "worked":
        return f"✓ {name}: {rung.attempt.kind.value}{took}"
    said = _without_name(rung, loaders)
    if rung.state == "skipped":
        return f"– {name}: not tried: {said}"
    trying = f" → trying: {_words(then.attempt, rung.attempt)}" if then is not None else ""
    return f"✗ {name}: {said}{took}{trying}"


def _without_name(rung: Rung, loaders: Mapping[str, LoaderSpec]) -> str:
    """What went wrong, without the loader's name at its beginning, which stands before it already."""
    message = rung.error.message.rstrip(".") if rung.error else "failed"
    spec = loaders.get(rung.attempt.loader)
    for name in (rung.attempt.loader, spec.title if spec else ""):
        if name and message.lower().startswith(f"{name.lower()} "):
            return message[len(name) + 1 :]
    return message


def _words(attempt: Attempt, before: Attempt) -> str:
    """A step as one says it: its kind, the loader where it is another, and the values that change."""
    changes = ", ".join(f"{name}={value}" for name, value in attempt.changes.items())
    loader = f" ({attempt.loader})" if attempt.loader != before.loader else ""
    return f"{attempt.kind.value}{loader}{f': {changes}' if changes else ''}"
