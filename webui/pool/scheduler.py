"""Admits as many jobs at once as the engine runs together, queues the rest in order, refuses beyond a limit."""

from __future__ import annotations

import asyncio
import functools
from collections import deque
from collections.abc import Awaitable, Callable, Sequence

from webui.errors import AppError, Busy, Cancelled
from webui.pool.jobs import Job

RunJob = Callable[[Job], Awaitable[None]]
RETRY_AFTER_SECONDS = 5


class Scheduler:
    """The queue of one loaded model. Closed until `open`: jobs may queue while the model is still loading."""

    def __init__(self, queue_length: int, on_change: Callable[[], None]) -> None:
        self._queue_length = queue_length
        self._on_change = on_change
        self._waiting: deque[Job] = deque()
        self._running: dict[Job, asyncio.Task[None]] = {}
        self._slots = 0
        self._run: RunJob | None = None

    @property
    def running(self) -> list[Job]:
        return list(self._running)

    @property
    def waiting(self) -> list[Job]:
        return list(self._waiting)

    def open(self, slots: int, run: RunJob) -> None:
        """Let jobs run: `slots` at once, each by awaiting `run(job)`, which must end the job."""
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

    async def release(self) -> list[Job]:
        """Give every job away, in order: those that run are stopped where they stand and have not ended."""
        self.pause()
        waiting = self.take_waiting()
        running = dict(self._running)
        for job in running:
            job.leave()
        if running:
            await asyncio.wait(running.values())
        self._on_change()
        return [job for job in [*running, *waiting] if not job.ended]

    def take_waiting(self) -> list[Job]:
        """Take out, in order, the jobs that have not begun."""
        waiting = list(self._waiting)
        self._waiting.clear()
        return waiting

    def adopt(self, jobs: Sequence[Job]) -> None:
        """Take jobs over from another queue, before those that wait here; none is refused."""
        for job in reversed(jobs):
            job.wait_again()
            job.wait_for_start(functools.partial(self._withdraw, job))
            self._waiting.appendleft(job)
            if job.cancel_asked:
                self._withdraw(job)
        self._pump()

    def fail_waiting(self, error: AppError) -> None:
        """End every job that has not started with `error`."""
        while self._waiting:
            self._waiting.popleft().fail(error)
        self._on_change()

    async def drain(self) -> None:
        """Return when every job, running or waiting, has ended."""
        while self._running or self._waiting:
            if self._running:
                await asyncio.wait(list(self._running.values()))
            else:
                await self._waiting[-1].wait()

    async def cancel_all(self) -> None:
        """Cancel every job and return when each has ended."""
        for job in [*self._waiting, *self._running]:
            job.cancel()
        await self.drain()

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
        self._on_change()

    def _ended(self, job: Job, task: asyncio.Future[None]) -> None:
        if self._running.get(job) is task:
            del self._running[job]
        handed_on = job.leaving or job in self._waiting or job in self._running
        if not job.ended and not handed_on:
            # The runner itself broke or was cancelled: the job must end all the same, and say why.
            cause = None if task.cancelled() else task.exception()
            job.fail(AppError("The job was lost.", cause=str(cause or "its task was cancelled")))
        self._pump()
