"""One model in memory: its worker process, its queue, and its restarts after a death."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections import deque
from collections.abc import Callable
from typing import Any

from webui.errors import AppError, Cancelled, EngineCrashed, EngineHung, NotLoaded
from webui.loaders.contract import Chunk, LoadedModel, LoaderSpec
from webui.loaders.parameters import Parameters
from webui.loaders.supervisor import WorkerLimits, WorkerProcess
from webui.models.facts import ModelFacts
from webui.pool.jobs import Job
from webui.pool.scheduler import Scheduler
from webui.pool.signal import Signal

log = logging.getLogger(__name__)

RESTARTS = 3
RESTART_WINDOW_SECONDS = 300.0
"""More than this many restarts in this time is a crash loop: the model is given up instead."""

Progress = Callable[[str, float | None], None]


class Residency:
    """A model that is loading, loaded, or restarting. Jobs may be submitted from the first moment on.

    `on_change` is called when anything a status shows has changed, `on_failure` with (phase, loader, error) for each
    failure of a running worker. `failed` holds the error once the model is lost for good.
    """

    def __init__(
        self,
        facts: ModelFacts,
        *,
        queue_length: int,
        limits: WorkerLimits,
        silence_seconds: float,
        on_change: Callable[[], None],
        on_failure: Callable[[str, str, AppError], None],
    ) -> None:
        self.facts = facts
        self.scheduler = Scheduler(queue_length, on_change)
        self.spec: LoaderSpec | None = None
        self.parameters: Parameters | None = None
        self.loaded: LoadedModel | None = None
        self.worker: WorkerProcess | None = None
        self.failed: AppError | None = None
        self.started_at: float | None = None
        self.load_seconds: float | None = None
        self.restart_note = ""
        self._limits = limits
        self._silence_seconds = silence_seconds
        self._on_change = on_change
        self._on_failure = on_failure
        self._signal = Signal()
        self._closing = False
        self._deaths: deque[float] = deque(maxlen=RESTARTS)
        self._watcher: asyncio.Task[None] | None = None

    @property
    def ready(self) -> bool:
        return self.loaded is not None and self.failed is None

    async def load(self, spec: LoaderSpec, parameters: Parameters, progress: Progress) -> LoadedModel:
        """Start a worker, load the model in it, and let jobs run. On failure nothing is left of the attempt."""
        began = time.monotonic()
        worker = WorkerProcess(spec, limits=self._limits)
        try:
            progress(f"starting {spec.title}", None)
            await worker.start()
            self.worker = worker
            loaded = await worker.load(self.facts, parameters, progress)
        except BaseException:
            self.worker = None
            await asyncio.shield(worker.stop())
            raise
        self.spec, self.parameters, self.loaded = spec, parameters, loaded
        self.load_seconds = time.monotonic() - began
        self.started_at = time.time()
        self.scheduler.open(loaded.slots, self._run)
        self._watcher = asyncio.create_task(self._watch(worker))
        self._changed()
        return loaded

    async def tokenize(self, text: str, *, add_bos: bool) -> list[int]:
        """Token ids; waits while the model is loading. Raises `NotLoaded` or the error that lost the model."""
        while not self.ready:
            if self.failed is not None:
                raise self.failed
            await self._signal.next().wait()
        if self.worker is None:
            raise NotLoaded("The model is restarting.")
        return await self.worker.tokenize(text, add_bos=add_bos)

    def give_up(self, error: AppError) -> None:
        """The model is not coming (back): everybody who waits for it gets `error`."""
        self.failed = error
        self.scheduler.pause()
        self.scheduler.fail_waiting(error)
        self._changed()

    async def close(self, *, finish_jobs: bool) -> None:
        """End the worker, after its jobs have finished or by cancelling them."""
        if finish_jobs:
            await self.scheduler.drain()
        else:
            await self.scheduler.cancel_all()
        self._closing = True
        if self.worker is not None:
            await self.worker.stop()
        if self._watcher is not None:
            await self._watcher
        self.give_up(self.failed or NotLoaded("The model was unloaded."))

    # --- running jobs -------------------------------------------------------------------------------------------

    async def _run(self, job: Job) -> None:
        worker = self.worker
        if worker is None or self.spec is None:
            raise AssertionError("a scheduler is open only while there is a worker")
        generation = worker.generate(job.request)
        job.start(generation.cancel)
        try:
            async with contextlib.aclosing(generation.events()) as events:
                while not job.ended:
                    async with asyncio.timeout(self._silence_seconds):
                        event = await anext(events)
                    if isinstance(event, Chunk):
                        job.take(event)
                    else:
                        job.finish(event)
        except TimeoutError:
            self.scheduler.pause()  # the next job is for the worker that follows
            worker.kill()
            job.fail(
                EngineHung(
                    f"{self.spec.title} said nothing for {self._silence_seconds:.0f} s; its worker was ended.",
                    evidence=worker.output,
                )
            )
        except AppError as error:
            job.fail(error)
            if not worker.exited.is_set():  # a death is recorded once, by the watcher
                self._on_failure("reply", self.spec.name, error)

    # --- the worker's death -------------------------------------------------------------------------------------

    async def _watch(self, worker: WorkerProcess) -> None:
        """Wait for the worker's end; if nobody asked for it, load the model again, a bounded number of times."""
        await worker.exited.wait()
        if self._closing or worker.spec is not self.spec or self.parameters is None:
            return
        phase = "reply" if self.scheduler.running else "idle"
        self.scheduler.pause()
        self.worker, self.loaded = None, None
        death = worker.death()
        log.error("%s", death.message)
        self._on_failure(phase, worker.spec.name, death)
        now = time.monotonic()
        if len(self._deaths) == RESTARTS and now - self._deaths[0] < RESTART_WINDOW_SECONDS:
            death.hint = f"It ended {RESTARTS + 1} times within minutes and is not started again. {death.hint}"
            self.give_up(death)
            return
        self._deaths.append(now)
        self.restart_note = f"Restarted after a failure: {death.message}"
        self._changed()
        parameters = safer(worker.spec, self.parameters, death)
        self._watcher = asyncio.create_task(self._restart(worker.spec, parameters))

    async def _restart(self, spec: LoaderSpec, parameters: Parameters) -> None:
        try:
            await self.load(spec, parameters, lambda step, share: None)
        except Cancelled:
            raise
        except AppError as error:
            self._on_failure("restart", spec.name, error)
            self.give_up(error)

    def _changed(self) -> None:
        self._signal.fire()
        self._on_change()


def safer(spec: LoaderSpec, parameters: Parameters, death: AppError) -> Parameters:
    """The parameters to restart with: after a native crash with the loader's known-safe ones, else the same."""
    crashed_by: Any = death.facts.get("signal") if isinstance(death, EngineCrashed) else None
    if crashed_by in (None, "SIGKILL", "SIGTERM", "SIGINT"):
        return parameters
    return parameters.model_copy(update=spec.safe_parameters)
