"""The benchmark of the running app: a job of the server that no page owns.

Whoever asks may start it, watch it and stop it. What it found is kept, and the model that was loaded before is loaded
again afterwards, however it ended, unless somebody else has chosen another meanwhile.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from webui.diagnostics.benchmark import measure
from webui.diagnostics.benchmark_loader import Superseded
from webui.diagnostics.benchmark_request import BenchmarkRequest
from webui.diagnostics.benchmark_results import BenchmarkRun, State
from webui.diagnostics.benchmark_store import BenchmarkStore
from webui.diagnostics.long_work import LongWork
from webui.errors import AppError, Busy, NotFound
from webui.models.inspect import model_id
from webui.pool import LoadRequest, PoolState, PoolStatus
from webui.pool.tasks import as_app_error

if TYPE_CHECKING:
    from webui.context import AppContext

log = logging.getLogger(__name__)

WHY = "A benchmark is running."
FEWEST_SECONDS = 2.0
"""Before that, how long the rest will take is anybody's guess."""


@dataclass(slots=True)
class Running:
    """One benchmark of the app. `run` is what it found so far; `running` turns false when all is as it was before.

    `share` is 0 … 1. `error` says why it ended early; `notes` are what else is to be said of it.
    """

    request: BenchmarkRequest
    run: BenchmarkRun | None = None
    step: str = "starting"
    share: float = 0.0
    running: bool = True
    stopping: bool = False
    restoring: bool = False
    error: AppError | None = None
    notes: list[str] = field(default_factory=list)
    began: float = field(default_factory=time.monotonic)

    @property
    def seconds(self) -> float:
        return time.monotonic() - self.began

    @property
    def seconds_left(self) -> float | None:
        """How long the rest takes if it goes on like this."""
        if self.seconds < FEWEST_SECONDS or not 0.02 < self.share < 1 or self.restoring:
            return None
        return self.seconds * (1 - self.share) / self.share


class Benchmarks:
    """See the module. Methods belong to the event loop. `changes` counts what a page would show anew."""

    def __init__(self, context: Callable[[], AppContext], folder: Path, long_work: LongWork) -> None:
        self._context = context
        self._long_work = long_work
        self.store = BenchmarkStore(folder)
        self.latest: Running | None = None
        self._task: asyncio.Task[None] | None = None
        self._measuring: asyncio.Task[BenchmarkRun] | None = None
        self._changes = 0

    @property
    def changes(self) -> int:
        return self._changes + self.store.changes

    @property
    def running(self) -> bool:
        return self.latest is not None and self.latest.running

    def start(self, request: BenchmarkRequest) -> Running:
        """Begin to measure; raises `Busy` while a load is on or something else has the machine, and `NotFound` for an
        unknown loader.
        """
        context = self._context()
        self._long_work.check()
        status = context.pool.status
        if status.set_aside:
            raise Busy(status.set_aside, hint="Wait until that is done, or stop it.")
        if status.state is PoolState.LOADING:
            raise Busy("A model is being loaded.", hint="Wait for it, or cancel it first.")
        unknown = [name for name in request.loaders if name not in context.loaders]
        if unknown:
            raise NotFound(f"There is no loader called {unknown[0]!r}.")
        active = self.latest = Running(request)
        if status.running:
            active.notes.append("Replies were being written when it began: figures may be too low.")
        self._changes += 1

        def progress(text: str, share: float | None) -> None:
            active.step, active.share = text, max(active.share, share or 0.0)

        def on_change(run: BenchmarkRun) -> None:
            active.run = run
            self._changes += 1

        measuring = asyncio.create_task(
            measure(context, request, progress=progress, on_change=on_change), name="measuring"
        )
        self._measuring = measuring
        self._task = self._long_work.start(WHY, lambda: self._work(context, active, measuring, _as_it_was(status)))
        return active

    async def stop(self) -> None:
        """End the benchmark that is on; returns when the model before it is back. Does nothing where there is none."""
        if self._measuring is not None and self.latest is not None and not self.latest.restoring:
            self.latest.stopping = True
            self._changes += 1
            self._measuring.cancel()
        await self.wait()

    async def wait(self) -> None:
        """Return when no benchmark is on."""
        if self._task is not None:
            await asyncio.wait([self._task])

    async def close(self) -> None:
        """End it and bring nothing back: the app ends."""
        tasks = [task for task in (self._task, self._measuring) if task is not None and not task.done()]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    # --- the work -----------------------------------------------------------------------------------------------

    async def _work(
        self, context: AppContext, active: Running, measuring: asyncio.Task[BenchmarkRun], before: LoadRequest | None
    ) -> None:
        """Wait until it is measured, keep what was found, and put everything back."""
        try:
            await asyncio.wait([measuring])
            await self._ended(active, measuring)
            if not isinstance(active.error, Superseded):
                active.restoring = True
                await self._put_back(context, active, before)
        finally:
            active.running = active.restoring = False
            self._changes += 1

    async def _ended(self, active: Running, measuring: asyncio.Task[BenchmarkRun]) -> None:
        """What became of it; what was found is kept in any case."""
        state: State = "done"
        if measuring.cancelled():
            state = "stopped"
        elif (error := measuring.exception()) is not None:
            state = "stopped" if isinstance(error, Superseded) else "failed"
            active.error = as_app_error(error, "The benchmark")
            if active.error is not error:
                log.error("A benchmark broke", exc_info=error)
        else:
            active.run = measuring.result()
        if active.run is None:
            return
        active.run = replace(active.run, state=state)
        if active.run.disturbed:
            active.notes = ["Other replies were written meanwhile: figures are too low."]
        if any(one.measured for one in active.run.results) or state == "done":
            note = await asyncio.to_thread(self.store.save, active.run)
            active.notes += [note] if note else []

    async def _put_back(self, context: AppContext, active: Running, before: LoadRequest | None) -> None:
        """The model that was there before is loaded again, or none where there was none."""
        self._changes += 1
        if before is None:
            await context.pool.unload()
            return
        active.step, active.share = f"loading {model_id(before.facts)} again", 1.0
        try:
            await context.pool.load(before)
        except AppError as error:
            # The pool shows why; here it is said that the model of before is not back.
            active.notes.append(f"{model_id(before.facts)} could not be loaded again: {error.message}")


def _as_it_was(status: PoolStatus) -> LoadRequest | None:
    """The load that brings back what is loaded now: what was asked for, if that is what it came from."""
    if status.facts is None or status.model is None:
        return None
    asked = status.asked
    if asked is not None and status.failure is None and asked.facts.path == status.facts.path:
        return replace(asked, running="finish", afresh=False)
    return LoadRequest(status.facts, status.loader or "auto", dict(status.parameters))
