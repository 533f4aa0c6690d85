"""Work that takes minutes and wants the machine to itself: benchmarks, tuning, tests of models.

One of all these at a time, as a task of the app: it goes on when the page that started it is closed.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from webui.diagnostics.benchmark_results import State
from webui.errors import AppError, Busy
from webui.pool.tasks import as_app_error

log = logging.getLogger(__name__)


class LongWork:
    """Who has the machine to itself. Methods belong to the event loop."""

    def __init__(self) -> None:
        self._task: asyncio.Task[None] | None = None
        self._why = ""

    @property
    def why(self) -> str:
        """What is on, in a sentence; empty where nothing is."""
        return self._why if self._task is not None and not self._task.done() else ""

    def check(self) -> None:
        """Raise `Busy`, with what is on, unless the machine is free."""
        if self.why:
            raise Busy(self.why, hint="Wait until that is done, or stop it.")

    def start(self, why: str, work: Callable[[], Coroutine[Any, Any, None]]) -> asyncio.Task[None]:
        """Begin in the background; raises `Busy` while something else is on. `why` is told until the task has ended."""
        self.check()
        self._task, self._why = asyncio.create_task(work(), name=why), why
        return self._task


@dataclass(slots=True, kw_only=True)
class LongRun:
    """One run, as it is shown. Times are of the wall clock."""

    state: State = "running"
    error: AppError | None = None
    started_at: float = field(default_factory=time.time)
    ended_at: float | None = None

    @property
    def running(self) -> bool:
        return self.state == "running"


Run = TypeVar("Run", bound=LongRun)


class Runs(Generic[Run]):
    """The runs of one kind: started, ended on request, and the last one remembered. `why` is what others are told
    meanwhile, `doing` what the log calls it.
    """

    def __init__(self, long_work: LongWork, *, why: str, doing: str) -> None:
        self._long_work = long_work
        self._why = why
        self._doing = doing
        self._task: asyncio.Task[None] | None = None
        self.latest: Run | None = None

    def begin(self, run: Run, work: Callable[[], Awaitable[None]]) -> Run:
        """Do `work` in the background, with its end in `run`; raises `Busy` while something else has the machine."""
        self._task = self._long_work.start(self._why, lambda: self._follow(run, work))
        self.latest = run
        return run

    async def stop(self) -> None:
        """End the run that is on; returns when its processes are gone and the model before it is back."""
        if self._task is not None and not self._task.done():
            await asyncio.sleep(0)  # a task that is cancelled before its first step ends without a word
            self._task.cancel()
        await self.wait()

    async def wait(self) -> None:
        """Return when nothing is running."""
        if self._task is not None:
            await asyncio.wait([self._task])

    async def _follow(self, run: Run, work: Callable[[], Awaitable[None]]) -> None:
        try:
            await work()
            run.state = "done"
        except asyncio.CancelledError:
            run.state = "stopped"
        except Exception as error:
            run.state, run.error = "failed", as_app_error(error, self._doing)
            if run.error is not error:
                log.exception("%s broke", self._doing)
        finally:
            run.ended_at = time.time()
