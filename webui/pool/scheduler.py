"""Admits as many jobs at once as the engine runs together, queues the rest in order, refuses beyond a limit."""

from __future__ import annotations

import asyncio
import functools
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Sequence

from webui.errors import AppError, Busy, Cancelled
from webui.pool.jobs import Job
from webui.pool.signal import Signal

log = logging.getLogger(__name__)

RunJob = Callable[[Job], Awaitable[None]]
RETRY_AFTER_SECONDS = 5


class Scheduler:
    """The queue of one loaded model. Closed until `open`: jobs may queue while the model is still loading.

    `pass_on` finds another model for a job that this one gives away.
    """

    def __init__(
        self, queue_length: int, on_change: Callable[[], None], pass_on: Callable[[Sequence[Job]], None]
    ) -> None:
        self._queue_length = queue_length
        self._on_change = on_change
        self._pass_on = pass_on
        self._waiting: deque[Job] = deque()
        self._running: dict[Job, asyncio.Task[None]] = {}
        self._slots = 0
        self._run: RunJob | None = None
        self._signal = Signal()

    @property
    def running(self) -> list[Job]:
        return list(self._running)

    @property
    def waiting(self) -> list[Job]:
        return list(self._waiting)

    def open(self, slots: int, run: RunJob) -> None:
        """Let jobs run: `slots` at once, each by awaiting `run(job)`. A job that has not ended then is passed on."""
        self._slots, self._run = slots, run
        self._pump()

    def pause(self) -> None:
        """Start no more jobs; those that wait go on waiting."""
        self._slots, self._run = 0, None

    def submit(self, job: Job) -> None:
        """Run `job` now or queue it. Raises `Busy` when the queue is full."""
        if len(self._waiting) >= self._queue_length:
            raise Busy(
                f"The queue is full: {len(self._running)} running and {len(self._waiting)} waiting.",
                hint=f"Try again in {RETRY_AFTER_SECONDS} seconds.",
                retry_after_seconds=RETRY_AFTER_SECONDS,
            )
        job.wait_for_start(lambda: self._withdraw(job))
        self._waiting.append(job)
        self._pump()

    def release(self) -> None:
        """Give every job away: those that wait at once, those that run as soon as they have stopped where they are."""
        self.pause()
        for job in self._running:
            job.leave()
        self._pass_on(self.take_waiting())

    def take_waiting(self) -> list[Job]:
        """Take out, in order, the jobs that have not begun."""
        waiting = list(self._waiting)
        self._waiting.clear()
        self._changed()
        return waiting

    def adopt(self, jobs: Sequence[Job]) -> None:
        """Take jobs over from another queue, each in its turn by when it was asked for; none is refused."""
        for job in jobs:
            job.wait_again()
            job.wait_for_start(functools.partial(self._withdraw, job))
        self._waiting = deque(sorted([*self._waiting, *jobs], key=lambda job: job.created_at))
        for job in jobs:
            if job.cancel_asked:
                self._withdraw(job)
        self._pump()

    async def drain(self) -> None:
        """Return when no job runs or waits here any more."""
        while self._running or self._waiting:
            await self._signal.next().wait()

    def cancel_all(self) -> None:
        """Ask for the end of every job."""
        for job in [*self._waiting, *self._running]:
            job.cancel()

    def _withdraw(self, job: Job) -> None:
        if job in self._waiting:
            self._waiting.remove(job)
            job.fail(Cancelled("Cancelled before it started."))
            self._pump()

    def _pump(self) -> None:
        while self._waiting and self._run is not None and len(self._running) < self._slots:
            job = self._waiting.popleft()
            task = asyncio.ensure_future(self._run(job))
            self._running[job] = task
            task.add_done_callback(functools.partial(self._ended, job))
        for place, job in enumerate(self._waiting, start=1):
            job.move(place)
        self._changed()

    def _ended(self, job: Job, task: asyncio.Future[None]) -> None:
        del self._running[job]
        error = None if task.cancelled() else task.exception()
        if task.cancelled() or error is not None:  # the runner itself broke: the job must end all the same, and say why
            log.error("A job was lost", exc_info=error)
            job.fail(AppError("The job was lost.", cause=str(error or "its task was cancelled")))
        elif not job.ended:
            self._pass_on([job])
        self._pump()

    def _changed(self) -> None:
        self._signal.fire()
        self._on_change()
