"""One model in memory: its worker process, its queue, and what happens when the worker dies or falls silent."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from webui.errors import AppError, Cancelled, EngineHung, NotLoaded
from webui.loaders.contract import Chunk, Finished, GenerationRequest, LoadedModel, LoaderSpec
from webui.loaders.parameters import Parameters
from webui.loaders.sampling import SamplingParameters
from webui.loaders.supervisor import WorkerLimits, WorkerProcess
from webui.models.facts import ModelFacts
from webui.planning.recovery import Attempt, Degraded, Situation
from webui.pool.jobs import Job
from webui.pool.patience import Patience
from webui.pool.scheduler import Scheduler
from webui.pool.signal import Signal
from webui.pool.tasks import to_the_end

log = logging.getLogger(__name__)

RESTART_WINDOW_SECONDS = 300.0
"""Deaths further apart than this have nothing to do with each other."""
CANARY = GenerationRequest("Hello", SamplingParameters(max_tokens=1, temperature=0.0))
"""One token, asked for before a model counts as loaded: some engines load well and crash at the first prompt."""

CANCEL_SECONDS = 3.0
"""How long an engine that is about to be ended may take to end its cancelled jobs by itself."""

Progress = Callable[[str, float | None], None]


@dataclass(frozen=True, slots=True)
class Answered:
    """A job that an engine was given and that has ended, in whatever way, and what the engine was then. `since` is when
    its worker had loaded the model, on the wall clock.
    """

    job: Job
    facts: ModelFacts
    spec: LoaderSpec
    parameters: Parameters
    model: LoadedModel
    worker: WorkerProcess
    since: float


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a residency tells the pool and asks of it.

    `on_failure` is called with (phase, loader, error) for each failure of a running worker, `on_reply` with the
    loader's name for each job that starts, `on_answered` with each that has ended, `on_measured` with the end of each
    reply that had the engine for itself, `on_change` when anything a status shows has changed. `restart` brings a
    model whose worker died back to life: it is given the death and how many there were within the window, and raises
    the error to give up with. `pass_on` finds another model for jobs that this one does not answer; where there is
    none, they end with the error.
    """

    on_change: Callable[[], None]
    on_failure: Callable[[str, str, AppError], None]
    on_reply: Callable[[str], None]
    on_answered: Callable[[Answered], None]
    on_measured: Callable[[Residency, Finished], None]
    restart: Callable[[Residency, AppError, int], Awaitable[None]]
    pass_on: Callable[[Sequence[Job], AppError], None]


class Residency:
    """A model that is loading, loaded, or restarting. Jobs may be submitted from the first moment on.

    `failed` holds the error once the model is lost for good. `attempt` is how it was loaded, `situation` all that was
    tried until then, `phase` how far a load has come ("start", "load", "canary"). `environment` keeps its workers to
    the GPUs that were chosen when it was asked for.
    """

    def __init__(
        self,
        facts: ModelFacts,
        surroundings: Surroundings,
        *,
        queue_length: int,
        limits: WorkerLimits,
        silence_seconds: float,
    ) -> None:
        self.facts = facts
        self.scheduler = Scheduler(queue_length, surroundings.on_change, self._pass_on)
        self.spec: LoaderSpec | None = None
        self.parameters: Parameters | None = None
        self.loaded: LoadedModel | None = None
        self.worker: WorkerProcess | None = None
        self.failed: AppError | None = None
        self.attempt: Attempt | None = None
        self.situation: Situation | None = None
        self.degraded: Degraded | None = None
        self.phase = "start"
        self.retiring = False
        self.started_at: float | None = None
        self.load_seconds: float | None = None
        self.restart_note = ""
        self.environment: Mapping[str, str] = {}
        self._surroundings = surroundings
        self._limits = limits
        self._silence_seconds = silence_seconds
        self._patience = Patience(silence_seconds)
        self._signal = Signal()
        self._closing = False
        self._hung: AppError | None = None
        self._deaths: deque[float] = deque()
        self._watcher: asyncio.Task[None] | None = None
        self._restarting: asyncio.Task[None] | None = None

    @property
    def ready(self) -> bool:
        return self.loaded is not None and self.failed is None

    @property
    def closing(self) -> bool:
        """Whether its jobs are done with and its worker is being ended."""
        return self._closing

    async def load(self, spec: LoaderSpec, parameters: Parameters, progress: Progress) -> LoadedModel:
        """Start a worker, load the model, see it answer one token, and let jobs run.

        On failure nothing is left of the attempt; `phase` says how far it came.
        """
        began = time.monotonic()
        worker = WorkerProcess(spec, limits=replace(self._limits, environment=self.environment))
        self.phase = "start"
        try:
            progress(f"starting {spec.title}", None)
            await worker.start()
            self.worker, self.phase = worker, "load"
            loaded = await worker.load(self.facts, parameters, progress)
            self.phase = "canary"
            progress("asking for a first token", None)
            await self._canary(worker)
        except BaseException:
            self.worker = None
            await to_the_end(worker.stop())
            raise
        self.spec, self.parameters, self.loaded = spec, parameters, loaded
        self.load_seconds = time.monotonic() - began
        self.started_at = time.time()
        self._hung, self._patience = None, Patience(self._silence_seconds)
        self._watcher = asyncio.create_task(self._watch(worker))
        self.scheduler.open(loaded.slots, self._run)
        self._changed()
        return loaded

    async def tokenize(self, text: str, *, add_bos: bool) -> list[int]:
        """Token ids; waits while the model is loading. Raises `NotLoaded` or the error that lost the model."""
        while not self.ready:
            if self.failed is not None:
                raise self.failed
            await self._signal.next().wait()
        worker = self.worker
        if worker is None:
            raise NotLoaded("The model is restarting.")
        try:
            async with asyncio.timeout(self._patience.for_first_token(text, 1)):
                return await worker.tokenize(text, add_bos=add_bos)
        except TimeoutError:
            raise await self._end_hung(worker, self._patience.for_first_token(text, 1)) from None

    def resume(self) -> None:
        """Let jobs run again after its queue was given away."""
        if self.ready and self.loaded is not None:
            self.scheduler.open(self.loaded.slots, self._run)

    def give_up(self, error: AppError) -> None:
        """The model is not coming (back): whoever waits for it goes to another, or gets `error`."""
        self.failed = self.failed or error
        self.scheduler.pause()
        self._surroundings.pass_on(self.scheduler.take_waiting(), error)
        self._changed()

    async def close(self, *, finish_jobs: bool) -> None:
        """End the worker, after its jobs have finished or by cancelling them.

        A cancelled job whose engine does not listen ends with the worker. May be called again while a call waits for
        the jobs to finish, to have them cancelled.
        """
        if finish_jobs:
            await self.scheduler.drain()
        self._closing = True
        self.scheduler.cancel_all()
        if self._restarting is not None:
            self._restarting.cancel()
            await asyncio.wait([self._restarting])
        await self._drained_in(CANCEL_SECONDS)
        if self._watcher is not None:
            self._watcher.cancel()
        if self.worker is not None:
            await self.worker.stop()
        await self._drained_in(CANCEL_SECONDS)
        self.give_up(NotLoaded("The model was unloaded."))

    async def _drained_in(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self.scheduler.drain()

    # --- running jobs -------------------------------------------------------------------------------------------

    async def _canary(self, worker: WorkerProcess) -> None:
        limit = self._silence_seconds
        try:
            async with asyncio.timeout(limit), contextlib.aclosing(worker.generate(CANARY).events()) as events:
                async for _event in events:
                    pass
        except TimeoutError:
            error = EngineHung(f"{worker.spec.title} loaded the model and then said nothing for {limit:.0f} s.")
            await worker.end_hung(error)
            raise error from None

    async def _run(self, job: Job) -> None:
        """Let the engine answer `job`. Comes back without an end of it where another worker or model is to answer."""
        worker, model, spec, parameters = self.worker, self.loaded, self.spec, self.parameters
        if worker is None or model is None or spec is None or parameters is None:
            return  # it died between the turn of this job and its first step
        since = self.started_at or time.time()
        self._surroundings.on_reply(spec.name)
        job.loader = spec.name
        await self._answer(job, worker, model, spec)
        if job.ended:
            self._surroundings.on_answered(Answered(job, self.facts, spec, parameters, model, worker, since))

    async def _answer(self, job: Job, worker: WorkerProcess, model: LoadedModel, spec: LoaderSpec) -> None:
        try:
            request = await job.request_for(self.facts, model, self._silence_seconds)
            generation = worker.generate(request)
            job.start(generation.cancel)
            async with contextlib.aclosing(generation.events()) as events:
                await self._follow(job, request, events, worker)
        except AppError as error:
            lost = worker.exited.is_set() or worker is not self.worker
            if not lost and error is not self._hung and not isinstance(error, Cancelled):
                self._surroundings.on_failure("reply", spec.name, error)  # a death is recorded once, by the watcher
            if job.cancel_asked:
                job.fail(Cancelled("Cancelled."))
            elif job.leaving and (lost or error is self._hung or isinstance(error, Cancelled)):
                return
            elif lost and error.facts.get("before_start") and not job.sent_again:
                job.sent_again = True
                if worker is self.worker:
                    self.scheduler.pause()  # nobody knew yet that it was dead
            else:
                job.fail(error)

    async def _follow(
        self,
        job: Job,
        request: GenerationRequest,
        events: AsyncGenerator[Chunk | Finished, None],
        worker: WorkerProcess,
    ) -> None:
        """Hand the engine's events to the job until it ends, or leaves for another model."""
        limit = self._patience.for_first_token(request.prompt, len(self.scheduler.running))
        while not job.ended:
            try:
                async with asyncio.timeout(limit):
                    event = await anext(events)
            except TimeoutError:
                raise await self._end_hung(worker, limit) from None
            sharing = len(self.scheduler.running)
            job.shared = job.shared or sharing > 1
            if isinstance(event, Chunk):
                job.take(event)
                limit = self._patience.for_next_token(sharing)
            elif event.reason == "cancelled" and job.leaving and not job.cancel_asked:
                return
            else:
                self._patience.learn(event)
                job.finish(event)
                if not job.shared:
                    self._surroundings.on_measured(self, event)

    async def _end_hung(self, worker: WorkerProcess, limit: float) -> AppError:
        """Have the silent worker ended, and return the error for those who waited for it."""
        if self._hung is None and worker is self.worker:
            self.scheduler.pause()  # the next job is for the worker that follows
            self._hung = EngineHung(
                f"{worker.spec.title} said nothing for {limit:.0f} s; its worker was ended.",
                cause="its process lived on and produced no token",
            )
            await to_the_end(self._tell_and_end(worker, self._hung))
        return self._hung or worker.death()

    async def _tell_and_end(self, worker: WorkerProcess, hung: EngineHung) -> None:
        await worker.end_hung(hung)
        self._surroundings.on_failure("reply", worker.spec.name, hung)

    # --- the worker's death -------------------------------------------------------------------------------------

    async def _watch(self, worker: WorkerProcess) -> None:
        """Wait for the worker's end; if nobody asked for it, have the model loaded again."""
        await worker.exited.wait()
        if self._closing or worker is not self.worker:
            return
        phase = "reply" if self.scheduler.running else "idle"
        self.scheduler.pause()
        self.worker, self.loaded = None, None
        death = worker.death()
        log.error("%s", death.message)
        if self._hung is None:  # it has been told already
            self._surroundings.on_failure(phase, worker.spec.name, death)
        if self.retiring:
            self.give_up(death)
            return
        now = time.monotonic()
        self._deaths.append(now)
        while now - self._deaths[0] > RESTART_WINDOW_SECONDS:
            self._deaths.popleft()
        self.restart_note = f"Started again after a failure: {death.message}"
        self._changed()
        self._restarting = asyncio.create_task(self._restart(death))

    async def _restart(self, death: AppError) -> None:
        try:
            await self._surroundings.restart(self, death, len(self._deaths))
        except AppError as error:
            self.give_up(error)

    def _pass_on(self, jobs: Sequence[Job]) -> None:
        self._surroundings.pass_on(jobs, self.failed or NotLoaded("The model was unloaded."))

    def _changed(self) -> None:
        self._signal.fire()
        self._surroundings.on_change()
