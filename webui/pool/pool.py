"""The Model Pool: owns the living workers; loads, swaps with rollback, unloads, and takes jobs.

Decisions come from `webui.planning`; this module carries them out. One model answers at a time; during a swap the old
one goes on answering until the new one is there, when both fit in memory.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections import deque
from collections.abc import AsyncGenerator, Callable, Mapping
from types import MappingProxyType
from typing import Any

import psutil

from webui.errors import AppError, Busy, Cancelled, CorruptFile, ModelNotFound, NotFound, NotLoaded
from webui.loaders.contract import GenerationRequest, LoaderSpec
from webui.loaders.parameters import Parameters, keep_known
from webui.loaders.supervisor import WorkerLimits
from webui.models.facts import ModelFacts
from webui.models.inspect import model_id
from webui.planning.memory import fits_beside, rough_need
from webui.planning.selection import Candidate, rank, refusal
from webui.pool.jobs import Job
from webui.pool.residency import Residency
from webui.pool.signal import Signal
from webui.pool.status import Failure, LoadRequest, PoolState, PoolStatus, WorkerFacts
from webui.settings import Settings

log = logging.getLogger(__name__)

KEPT_JOBS = 200
KEPT_FAILURES = 100
MEMORY_SAMPLE_SECONDS = 2.0


class Pool:
    """See the module. All methods belong to one event loop; `settings` is asked anew at each use."""

    def __init__(
        self,
        settings: Callable[[], Settings],
        loaders: Mapping[str, LoaderSpec],
        available_memory: Callable[[], int | None] = lambda: int(psutil.virtual_memory().available),
    ) -> None:
        self._settings = settings
        self._loaders = loaders
        self._available_memory = available_memory
        self._signal = Signal()
        self._current: Residency | None = None
        self._incoming: Residency | None = None
        self._loading: asyncio.Task[None] | None = None
        self._retiring: dict[asyncio.Task[None], Residency] = {}
        self._candidates: tuple[Candidate, ...] = ()
        self._notes: tuple[str, ...] = ()
        self._loading_since: float | None = None
        self._step = ""
        self._share: float | None = None
        self._failure: AppError | None = None
        self._failures: deque[Failure] = deque(maxlen=KEPT_FAILURES)
        self._jobs: dict[str, Job] = {}
        self._latest: Job | None = None
        self._memory: tuple[float, int | None] = (float("-inf"), None)

    # --- looking ------------------------------------------------------------------------------------------------

    @property
    def status(self) -> PoolStatus:
        """A snapshot; cheap enough to be taken many times a second."""
        current = self._current
        shown = current or self._incoming
        spec, latest = (current.spec if current else None), self._latest
        return PoolStatus(
            state=self._state(),
            facts=shown.facts if shown else None,
            incoming=self._incoming.facts if self._incoming else None,
            loader=spec.name if spec else None,
            model=current.loaded if current else None,
            parameters=current.parameters.model_dump(mode="json") if current and current.parameters else {},
            step=self._step,
            share=self._share,
            started_at=self._loading_since or (current.started_at if current else None),
            load_seconds=current.load_seconds if current else None,
            failure=(current.failed if current else None) or self._failure,
            notes=self._shown_notes(current),
            candidates=self._candidates,
            running=len(current.scheduler.running) if current else 0,
            queued=len(current.scheduler.waiting) if current else 0,
            pid=current.worker.pid if current and current.worker else None,
            memory_bytes=self._worker_memory(),
            used_tokens=latest.used_tokens if latest else None,
            tokens_per_second=latest.tokens_per_second if latest else None,
            first_token_seconds=latest.first_token_seconds if latest else None,
        )

    async def watch(self) -> AsyncGenerator[PoolStatus, None]:
        """The status now and after each change. Ends only with its reader."""
        while True:
            woken = self._signal.next()
            yield self.status
            await woken.wait()

    def failures(self) -> list[Failure]:
        """What went wrong since the start, newest first."""
        return list(reversed(self._failures))

    def workers(self) -> list[WorkerFacts]:
        """The living worker processes."""
        states = [(self._current, "serving"), (self._incoming, "loading")]
        states += [(residency, "finishing its jobs") for residency in self._retiring.values()]
        seen: dict[int, WorkerFacts] = {}
        for residency, state in states:
            if residency is None or residency.worker is None or residency.worker.pid is None:
                continue
            worker = residency.worker
            since = residency.started_at or time.time()
            seen.setdefault(
                worker.pid or 0,
                WorkerFacts(
                    worker.pid or 0, worker.spec.name, model_id(residency.facts), state, worker.memory_bytes(), since
                ),
            )
        return list(seen.values())

    def peak_memory_bytes(self) -> int | None:
        """Largest memory the serving worker has held so far."""
        return self._current.worker.peak_memory_bytes() if self._current and self._current.worker else None

    def rank(
        self, facts: ModelFacts, loader: str = "auto", parameters: Mapping[str, Any] = MappingProxyType({})
    ) -> tuple[Candidate, ...]:
        """The loaders for `facts`, best first, each with its reason. `loader` other than "auto" is forced.

        `parameters` are those asked for, over the configured ones; a loader may need one to be usable at all.
        """
        backends = self._settings().backends
        forced = None if loader in ("", "auto") else loader
        return rank(
            facts,
            self._loaders,
            order=backends.order,
            enabled=backends.enabled,
            forced=forced,
            availability=lambda spec, of: spec.availability(of, {**backends.parameters(spec.name), **parameters}),
        )

    # --- loading ------------------------------------------------------------------------------------------------

    async def load(self, request: LoadRequest) -> PoolStatus:
        """Load a model, replacing the one that is there only once the new one stands.

        Goes on when the caller is cancelled; `cancel_load` ends it. Raises `Busy` while another load is on, or the
        `AppError` that made it fail; the model before is still there (or was brought back) then.
        """
        if self._loading is not None:
            raise Busy("Another model is being loaded.", hint="Wait for it, or cancel it first.")
        task = asyncio.create_task(self._load(request))
        self._loading, self._loading_since = task, time.time()
        task.add_done_callback(self._load_ended)
        await asyncio.shield(task)
        return self.status

    async def cancel_load(self) -> None:
        """End the load that is on, if there is one, and return when everything it started is gone."""
        if (task := self._loading) is not None:
            task.cancel()
            await asyncio.wait([task])

    async def unload(self) -> None:
        """Let the model go: its jobs are cancelled, its process ends, its memory is the system's again."""
        await self.cancel_load()
        current, self._current = self._current, None
        self._failure, self._notes, self._latest = None, (), None
        if current is not None:
            await current.close(finish_jobs=False)
            log.info("Unloaded %s", model_id(current.facts))
        self._changed()

    async def close(self) -> None:
        """End every worker. Nothing is left behind."""
        await self.unload()
        for residency in list(self._retiring.values()):
            await residency.scheduler.cancel_all()
        if self._retiring:
            await asyncio.wait(list(self._retiring))

    # --- jobs ---------------------------------------------------------------------------------------------------

    def submit(self, request: GenerationRequest, *, owner: str) -> Job:
        """Queue a generation. While a first model is loading it waits for it. Raises `NotLoaded` or `Busy`."""
        target = self._current or self._incoming
        if target is None or target.failed is not None:
            cause = target.failed.message if target is not None and target.failed is not None else ""
            raise NotLoaded("No model is loaded.", cause=cause)
        job = Job(request, owner)
        target.scheduler.submit(job)
        self._jobs[job.id] = self._latest = job
        for old in [key for key, kept in self._jobs.items() if kept.ended][: max(0, len(self._jobs) - KEPT_JOBS)]:
            del self._jobs[old]
        return job

    def job(self, job_id: str) -> Job:
        """A job by its id; raises `NotFound` for an id that never was or was long ago."""
        if job_id not in self._jobs:
            raise NotFound("There is no such job.", hint="Jobs are forgotten some time after they end.")
        return self._jobs[job_id]

    def jobs(self) -> list[Job]:
        return list(self._jobs.values())

    async def tokenize(self, text: str, *, add_bos: bool = True) -> list[int]:
        """Token ids of `text` by the loaded model; waits while a first model is loading. Raises `NotLoaded`."""
        target = self._current or self._incoming
        if target is None:
            raise NotLoaded("No model is loaded.")
        return await target.tokenize(text, add_bos=add_bos)

    # --- how a load goes ----------------------------------------------------------------------------------------

    async def _load(self, request: LoadRequest) -> None:
        self._failure, self._notes, self._candidates = None, (), ()
        self._step, self._share = "choosing a loader", None
        previous = self._current
        try:
            candidates = await asyncio.to_thread(self.rank, request.facts, request.loader, request.parameters)
            self._candidates = candidates
            suitable = [candidate for candidate in candidates if candidate.suitable]
            if not suitable:
                raise refusal(request.facts, candidates, request.loader)
            incoming = self._new_residency(request.facts)
            self._incoming = incoming
            self._changed()
            beside = previous is None or self._fits_beside(previous, request.facts, suitable[0])
            if previous is not None and not beside:
                self._progress("unloading the model before it", None)
                self._current = None
                await previous.close(finish_jobs=True)
            try:
                await self._try_each(incoming, suitable, request)
            except BaseException as error:
                await self._undo(incoming, previous if not beside else None, _as_app_error(error))
                raise
            self._current, self._incoming = incoming, None
            if previous is not None and beside:
                self._retire(previous)
        except asyncio.CancelledError:
            self._failure = None
            raise Cancelled("Loading was cancelled.") from None
        except AppError as error:
            self._failure = error
            raise
        finally:
            self._incoming, self._step, self._share = None, "", None
            self._changed()

    async def _try_each(self, incoming: Residency, suitable: list[Candidate], request: LoadRequest) -> None:
        """Load with the first of `suitable` that can; note what was tried before it."""
        forced = request.loader not in ("", "auto")
        for position, candidate in enumerate(suitable):
            spec = self._loaders[candidate.loader]
            try:
                parameters = self._parameters(spec, request.parameters, strict=forced)
                await incoming.load(spec, parameters, self._progress)
                log.info("%s loaded %s in %.1f s", spec.title, model_id(request.facts), incoming.load_seconds or 0.0)
                return
            except AppError as error:
                log.warning("%s could not load %s: %s", spec.title, model_id(request.facts), error.message)
                self._failures.append(Failure("load", spec.name, model_id(request.facts), error))
                last = position == len(suitable) - 1
                fault_of_file = isinstance(error, CorruptFile | ModelNotFound)
                if forced or last or fault_of_file or not self._settings().backends.fallback_enabled:
                    raise
                self._notes += (f"{spec.title} could not load it: {error.message}",)

    async def _undo(self, incoming: Residency, previous: Residency | None, error: AppError) -> None:
        """After a failed load: those who waited for the new model are told, the old one is brought back."""
        incoming.give_up(error)
        if previous is None or previous.spec is None or previous.parameters is None:
            return
        self._progress("bringing back the model before it", None)
        restored = self._new_residency(previous.facts)
        try:
            await restored.load(previous.spec, previous.parameters, self._progress)
        except AppError as second:
            self._failures.append(Failure("restore", previous.spec.name, model_id(previous.facts), second))
            restored.give_up(second)
            return
        self._current = restored

    def _parameters(self, spec: LoaderSpec, asked: Mapping[str, Any], *, strict: bool) -> Parameters:
        """Configured values under those asked for. Not `strict`: values meant for another loader are left out."""
        backends = self._settings().backends
        values = {**backends.parameters(spec.name), **(asked if strict else keep_known(spec.parameters, asked))}
        if not backends.gpu_enabled and "gpu_layers" in spec.parameters.model_fields:
            values["gpu_layers"] = 0
        return spec.parameters.parse(values, where=f"the parameters of {spec.title}")

    def _fits_beside(self, previous: Residency, facts: ModelFacts, candidate: Candidate) -> bool:
        """Both models at once: only where the host has room, and never where they would share a GPU."""
        if previous.loaded is None or previous.loaded.device_kind != "cpu":
            return False
        return fits_beside(rough_need(facts, converts=candidate.converts), self._available_memory())

    def _new_residency(self, facts: ModelFacts) -> Residency:
        limits = self._settings().limits

        def on_failure(phase: str, loader: str, error: AppError) -> None:
            self._failures.append(Failure(phase, loader, model_id(facts), error))

        return Residency(
            facts,
            queue_length=limits.queue_length,
            limits=WorkerLimits(limits.start_timeout_seconds, limits.load_timeout_seconds),
            silence_seconds=limits.silence_timeout_seconds,
            on_change=self._changed,
            on_failure=on_failure,
        )

    def _retire(self, residency: Residency) -> None:
        task = asyncio.create_task(residency.close(finish_jobs=True))
        self._retiring[task] = residency
        task.add_done_callback(self._retired)

    def _retired(self, task: asyncio.Task[None]) -> None:
        del self._retiring[task]
        self._changed()

    def _load_ended(self, task: asyncio.Task[None]) -> None:
        self._loading = self._loading_since = None
        # The caller may be gone (a closed page): looked at here, so that no failure goes unseen.
        error = None if task.cancelled() else task.exception()
        if error is not None and not isinstance(error, AppError):
            log.error("Loading broke", exc_info=error)
        self._changed()

    # --- small parts --------------------------------------------------------------------------------------------

    def _state(self) -> PoolState:
        if self._loading is not None and not self._loading.done():
            return PoolState.LOADING
        if self._current is None:
            return PoolState.FAILED if self._failure is not None else PoolState.EMPTY
        if self._current.failed is not None:
            return PoolState.FAILED
        return PoolState.READY if self._current.ready else PoolState.LOADING

    def _shown_notes(self, current: Residency | None) -> tuple[str, ...]:
        loaded = current.loaded.notes if current and current.loaded else ()
        restarted = (current.restart_note,) if current and current.restart_note else ()
        return (*self._notes, *restarted, *loaded)

    def _worker_memory(self) -> int | None:
        """Sampled at most every two seconds: walking the process table takes milliseconds."""
        if self._current is None or self._current.worker is None:
            return None
        now = time.monotonic()
        if now - self._memory[0] > MEMORY_SAMPLE_SECONDS:
            self._memory = (now, self._current.worker.memory_bytes())
        return self._memory[1]

    def _progress(self, step: str, share: float | None) -> None:
        self._step, self._share = step, share
        self._changed()

    def _changed(self) -> None:
        self._signal.fire()


def _as_app_error(error: BaseException) -> AppError:
    if isinstance(error, AppError):
        return error
    if isinstance(error, asyncio.CancelledError):
        return Cancelled("Loading was cancelled.")
    return AppError("Loading broke.", cause=repr(error))


@contextlib.asynccontextmanager
async def open_pool(settings: Callable[[], Settings], loaders: Mapping[str, LoaderSpec]) -> AsyncGenerator[Pool, None]:
    """A pool that is closed at the end of the block, for programs and commands."""
    pool = Pool(settings, loaders)
    try:
        yield pool
    finally:
        await pool.close()
