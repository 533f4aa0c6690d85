"""The Model Pool: owns the living workers; loads, swaps with rollback, restarts, unloads, and takes jobs.

Decisions come from `webui.planning`; this room carries them out. One model answers at a time; during a swap the old one
goes on answering until the new one has, when both fit in memory. What went wrong is kept in the history, and what was
learnt from it in the experience.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, Callable, Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any

import psutil

from webui.errors import AppError, Busy, NotFound, NotLoaded
from webui.loaders.contract import GenerationRequest, LoadedModel, LoaderSpec
from webui.models.facts import ModelFacts
from webui.models.inspect import model_id
from webui.planning.decisions import RankingQuestion
from webui.planning.evidence import Engines
from webui.planning.selection import Candidate
from webui.pool.choosing import Chooser, Devices, PlanOf
from webui.pool.decision_log import DecisionLog, Entry
from webui.pool.experience import Experience
from webui.pool.history import History, Rate
from webui.pool.jobs import Job, Remake
from webui.pool.measurements import Measurements
from webui.pool.metrics import Metrics
from webui.pool.recorder import Recorder, Sources
from webui.pool.reply_speeds import ReplySpeeds
from webui.pool.residency import Residency
from webui.pool.residents import Residents
from webui.pool.signal import Signal
from webui.pool.status import Failure, LoadRequest, LoadStory, PoolState, PoolStatus, WorkerFacts, absence
from webui.pool.tuned import Tuned
from webui.settings import Settings

KEPT_JOBS = 200
MEMORY_SAMPLE_SECONDS = 2.0


def _machine_memory() -> int | None:
    return int(psutil.virtual_memory().available)


class Pool:
    """See the module. All methods belong to one event loop; `settings` is asked anew at each use.

    `available_memory` and `device_memory` say how many bytes are free on the host and on the GPUs (0: there is no GPU,
    `None`: unknown), `device_total` how many these have; the latter two may take their time and are asked in a thread,
    as are `plan` and `engines`, by which the loader is chosen, and `devices`, to which its worker is kept. `metrics`
    keeps each load and reply, with what `sources` know of them.
    """

    def __init__(
        self,
        settings: Callable[[], Settings],
        loaders: Mapping[str, LoaderSpec],
        available_memory: Callable[[], int | None] = _machine_memory,
        *,
        device_memory: Callable[[], int | None] = lambda: None,
        device_total: Callable[[], int | None] = lambda: None,
        history: History | None = None,
        experience: Experience | None = None,
        measurements: Measurements | None = None,
        plan: PlanOf | None = None,
        engines: Callable[[], Engines] = Engines,
        tuned: Tuned | None = None,
        devices: Callable[[], Devices] = Devices,
        decisions: DecisionLog | None = None,
        metrics: Metrics | None = None,
        sources: Sources | None = None,
    ) -> None:
        self._history = history if history is not None else History(None)
        experience = experience if experience is not None else Experience(None, lambda: "")
        measurements = measurements if measurements is not None else Measurements(None, lambda: "")
        self._chooser = Chooser(
            settings, loaders, experience, measurements, plan=plan, engines=engines, tuned=tuned, devices=devices
        )
        self._decisions = decisions if decisions is not None else DecisionLog(None)
        self._signal = Signal()
        self._residents = Residents(
            settings,
            self._chooser,
            available_memory=available_memory,
            device_memory=device_memory,
            device_total=device_total,
            history=self._history,
            experience=experience,
            speeds=ReplySpeeds(measurements),
            decisions=self._decisions,
            recorder=Recorder(metrics or Metrics(None), sources or Sources(plan=plan)),
            on_change=self._signal.fire,
        )
        self._loading: asyncio.Task[None] | None = None
        self._closed = False
        self._set_aside = ""
        self._loading_since: float | None = None
        self._jobs: dict[str, Job] = {}
        self._latest: Job | None = None
        self._memory: tuple[float, int | None] = (float("-inf"), None)

    # --- looking ------------------------------------------------------------------------------------------------

    @property
    def status(self) -> PoolStatus:
        """A snapshot; cheap enough to be taken many times a second."""
        residents, current = self._residents, self._residents.current
        shown = current or residents.incoming
        spec, latest = (current.spec if current else None), self._latest
        return PoolStatus(
            state=self._state(),
            facts=shown.facts if shown else None,
            incoming=residents.incoming.facts if residents.incoming else None,
            loader=spec.name if spec else None,
            model=current.loaded if current else None,
            parameters=current.parameters.model_dump(mode="json") if current and current.parameters else {},
            step=residents.step,
            share=residents.share,
            started_at=self._loading_since or (current.started_at if current else None),
            load_seconds=current.load_seconds if current else None,
            failure=(current.failed if current else None) or residents.failure,
            notes=_notes(current),
            ladder=residents.rungs,
            degraded=current.degraded if current else None,
            asked=residents.asked,
            set_aside=self._set_aside,
            finishing=residents.finishing,
            candidates=residents.candidates,
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

    def failures(self, limit: int = 100) -> list[Failure]:
        """What went wrong, newest first, also before the last start."""
        return self._history.failures(limit)

    def loads(self, limit: int = 50) -> list[LoadStory]:
        """The loads and restarts with their steps, newest first."""
        return self._history.loads(limit)

    def decisions(self) -> list[Entry]:
        """What the last loads were decided from, newest first; see `DecisionLog`. Reads a file."""
        return self._decisions.latest()

    def rates(self) -> list[Rate]:
        """How often each loader fails, and with what."""
        return self._history.rates()

    def workers(self) -> list[WorkerFacts]:
        """The living worker processes."""
        residents = self._residents
        states = [(residents.current, "serving"), (residents.incoming, "loading")]
        states += [(residency, "finishing its jobs") for residency in residents.retiring.values()]
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

    def pids(self) -> list[int]:
        """The ids of the living worker processes; cheaper than `workers`."""
        residents = self._residents
        living = (residents.current, residents.incoming, *residents.retiring.values())
        found = (one.worker.pid for one in living if one is not None and one.worker is not None)
        return list(dict.fromkeys(pid for pid in found if pid is not None))

    def peak_memory_bytes(self) -> int | None:
        """Largest memory the serving worker has held so far."""
        current = self._residents.current
        return current.worker.peak_memory_bytes() if current and current.worker else None

    def rank(
        self, facts: ModelFacts, loader: str = "auto", parameters: Mapping[str, Any] = MappingProxyType({})
    ) -> tuple[Candidate, ...]:
        """The loaders for `facts`, best first, each with its reason; see `Chooser.rank`."""
        return self._chooser.rank(facts, loader, parameters)

    def ranking_question(
        self, facts: ModelFacts, loader: str = "auto", parameters: Mapping[str, Any] = MappingProxyType({})
    ) -> RankingQuestion:
        """What `rank` decides from; see `Chooser.question`."""
        return self._chooser.question(facts, loader, parameters)

    def tuned(self, facts: ModelFacts) -> dict[str, Mapping[str, Any]]:
        """By loader, the parameters that `facts` is loaded with unless its user says otherwise; see `Chooser.tuned`."""
        return self._chooser.tuned(facts)

    # --- loading ------------------------------------------------------------------------------------------------

    async def load(self, request: LoadRequest) -> PoolStatus:
        """Load a model, replacing the one that is there only once the new one stands.

        Goes on when the caller is cancelled; `cancel_load` ends it. Raises `Busy` while another load is on, or the
        `AppError` that made it fail; the model before is still there (or was brought back) then.
        """
        if self._closed:
            raise NotLoaded("No model is loaded.", cause="the app is being ended")
        self._check_free()
        task = asyncio.create_task(self._residents.load(request))
        self._loading, self._loading_since = task, time.time()
        task.add_done_callback(self._load_ended)
        await asyncio.shield(task)
        return self.status

    @contextlib.asynccontextmanager
    async def set_aside(self, why: str) -> AsyncGenerator[None, None]:
        """Leave the machine to something else for the time of the block: no model is in memory, and none is loaded.

        The model that was loaded is brought back at the end. `why` is told to whoever asks for a reply or a load
        meanwhile. Raises `Busy` where a load or a reply is on.
        """
        self._check_free()
        if self.status.running or self.status.queued:
            raise Busy("A reply is being written.", hint="Start this again when it is finished, or stop it.")
        before = self._as_loaded()
        self._set_aside = why
        try:
            await self._residents.unload()
            yield
        finally:
            self._set_aside = ""
            if before is not None and not self._closed:
                with contextlib.suppress(AppError):  # the status and the history tell it
                    await self.load(before)

    def _check_free(self) -> None:
        if self._set_aside:
            raise Busy(self._set_aside, hint="Wait until that is done, or stop it.")
        if self._loading is not None:
            raise Busy("Another model is being loaded.", hint="Wait for it, or cancel it first.")

    def _as_loaded(self) -> LoadRequest | None:
        """How to ask again for the model that answers; as its user asked for it, where that is known."""
        status = self.status
        if status.model is None or status.facts is None or status.loader is None:
            return None
        if status.asked is not None and status.asked.facts.path == status.facts.path:
            return replace(status.asked, running="finish")
        return LoadRequest(status.facts, status.loader, status.parameters)

    async def cancel_load(self) -> None:
        """End the load that is on, if there is one, and return when everything it started is gone."""
        if (task := self._loading) is not None:
            await asyncio.sleep(0)  # a task that is cancelled before its first step ends without a word
            task.cancel()
            await asyncio.wait([task])

    async def unload(self) -> None:
        """Let the model go: its jobs are cancelled, its process ends, its memory is the system's again."""
        await self._stop_loading()
        self._latest = None
        await self._residents.unload()

    def load_no_more(self) -> None:
        """The app is being ended: from now on nothing is loaded, and nothing that was set aside is brought back."""
        self._closed = True

    async def close(self) -> None:
        """End every worker. Nothing is left behind, and nothing can be loaded any more."""
        self.load_no_more()
        await self._stop_loading()
        await self._residents.close()

    async def _stop_loading(self) -> None:
        """End the load that is on, and do not bring back the model before it."""
        while self._loading is not None:
            self._residents.no_way_back()
            await self.cancel_load()

    def _load_ended(self, task: asyncio.Task[None]) -> None:
        self._loading = self._loading_since = None
        if not task.cancelled():
            task.exception()  # looked at, as the caller may be gone (a closed page); it is in the history
        self._signal.fire()

    # --- jobs ---------------------------------------------------------------------------------------------------

    def submit(
        self,
        request: GenerationRequest,
        *,
        owner: str,
        made_for: ModelFacts | None = None,
        remake: Remake | None = None,
    ) -> Job:
        """Queue a generation. While a first model is loading it waits for it. Raises `NotLoaded` or `Busy`.

        `made_for` is the model whose template made the prompt; should another one have to answer, or go on with a
        reply that was begun, `remake` makes the request for it.
        """
        target = self._residents.target
        if target is None:
            raise absence(self.status)
        job = Job(request, owner, made_for=made_for, remake=remake)
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

    async def tokenize(self, text: str, *, add_bos: bool = True, by: LoadedModel | None = None) -> list[int]:
        """Token ids of `text` by the model that takes new jobs, for which it waits while it is loading, or by another
        one that is loaded. Raises `NotLoaded`.
        """
        target = self._residents.target if by is None else self._residents.holding(by)
        if target is None:
            raise absence(self.status)
        return await target.tokenize(text, add_bos=add_bos)

    # --- small parts --------------------------------------------------------------------------------------------

    def _state(self) -> PoolState:
        if self._loading is not None and not self._loading.done():
            return PoolState.LOADING
        current = self._residents.current
        if current is None:
            return PoolState.FAILED if self._residents.failure is not None else PoolState.EMPTY
        if current.failed is not None:
            return PoolState.FAILED
        return PoolState.READY if current.ready else PoolState.LOADING

    def _worker_memory(self) -> int | None:
        """Sampled at most every two seconds: walking the process table takes milliseconds."""
        current = self._residents.current
        if current is None or current.worker is None:
            return None
        now = time.monotonic()
        if now - self._memory[0] > MEMORY_SAMPLE_SECONDS:
            self._memory = (now, current.worker.memory_bytes())
        return self._memory[1]


def _notes(current: Residency | None) -> tuple[str, ...]:
    """What is to be said of the model that answers: that it was started again, and the engine's own remarks."""
    loaded = current.loaded.notes if current and current.loaded else ()
    restarted = (current.restart_note,) if current and current.restart_note else ()
    return (*restarted, *loaded)


@contextlib.asynccontextmanager
async def open_pool(
    settings: Callable[[], Settings], loaders: Mapping[str, LoaderSpec], **options: Any
) -> AsyncGenerator[Pool, None]:
    """A pool that is closed at the end of the block, for programs and commands; `options` are those of `Pool`."""
    pool = Pool(settings, loaders, **options)
    try:
        yield pool
    finally:
        await pool.close()
