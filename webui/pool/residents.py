"""The models in memory: the one that answers, the one that is coming, and those that finish what they are writing.

Here a load is carried out: the choice, the ladder, the swap with its way back, and the restart of a model whose worker
has died. `webui.pool.pool` is the door to it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

from webui.errors import AppError, NotLoaded
from webui.loaders.contract import Finished, LoadedModel
from webui.loaders.supervisor import WorkerLimits
from webui.models.facts import ModelFacts
from webui.models.inspect import model_id
from webui.planning.attempts import need_of
from webui.planning.decisions import LadderQuestion
from webui.planning.memory import fits_beside
from webui.planning.recovery import Attempt, GiveUp, Situation, StepKind, Tried
from webui.planning.selection import Candidate
from webui.pool.choosing import Chooser
from webui.pool.climb import Climb
from webui.pool.decision_log import DecisionLog
from webui.pool.experience import Experience
from webui.pool.history import History
from webui.pool.jobs import Job
from webui.pool.ladder import Ladder
from webui.pool.recorder import Recorder
from webui.pool.reply_speeds import ReplySpeeds
from webui.pool.residency import Residency, Surroundings
from webui.pool.status import Failure, LoadRequest, LoadStory, Outcome, Rung, RunningJobs
from webui.pool.tasks import as_app_error, to_the_end
from webui.settings import Settings

log = logging.getLogger(__name__)

MEBIBYTE = 1024 * 1024
KEPT_FAILURES = 6
"""Failed attempts that a restart still knows of; each restart has its own bound of steps."""


class Residents:
    """See the module. `on_change` is called when anything a status shows has changed.

    `current` answers; `incoming` is being loaded, or brought back; `accepting`, when set, takes new jobs before
    `current` does, which is about to leave. `failure` is that of the last load, if it failed.
    """

    def __init__(
        self,
        settings: Callable[[], Settings],
        chooser: Chooser,
        *,
        available_memory: Callable[[], int | None],
        device_memory: Callable[[], int | None],
        device_total: Callable[[], int | None],
        history: History,
        experience: Experience,
        speeds: ReplySpeeds,
        decisions: DecisionLog,
        recorder: Recorder,
        on_change: Callable[[], None],
    ) -> None:
        self.current: Residency | None = None
        self.incoming: Residency | None = None
        self.accepting: Residency | None = None
        self.retiring: dict[asyncio.Task[None], Residency] = {}
        self.asked: LoadRequest | None = None
        self.candidates: tuple[Candidate, ...] = ()
        self.failure: AppError | None = None
        self._shown: Ladder | None = None
        self._loading = False
        self._restarts: dict[Residency, Ladder] = {}
        self._way_back: Residency | None = None
        self._settings = settings
        self._chooser = chooser
        self._available_memory = available_memory
        self._device_memory = device_memory
        self._device_total = device_total
        self._history = history
        self._experience = experience
        self._speeds, self._recorder, self._decisions = speeds, recorder, decisions
        self._changed = on_change

    @property
    def target(self) -> Residency | None:
        """Who takes new jobs."""
        for residency in (self.accepting, self.current, self.incoming):
            if residency is not None and residency.failed is None:
                return residency
        return None

    def holding(self, model: LoadedModel) -> Residency | None:
        """Whose engine holds `model`."""
        known = (self.current, self.incoming, *self.retiring.values())
        return next((one for one in known if one is not None and one.loaded is model), None)

    @property
    def rungs(self) -> tuple[Rung, ...]:
        """The steps of the load that is on; else of the restart that is on; else of the last of either."""
        return self._shown.rungs if self._shown is not None else ()

    @property
    def step(self) -> str:
        """What the load or restart that is on does at this moment; empty when there is none."""
        return self._shown.step if self._shown is not None else ""

    @property
    def share(self) -> float | None:
        """How much of the step is done, 0 … 1, where that is known."""
        return self._shown.share if self._shown is not None else None

    @property
    def finishing(self) -> int:
        """Replies that models on their way out are still writing."""
        return sum(len(residency.scheduler.running) for residency in self.retiring.values())

    async def load(self, request: LoadRequest) -> None:
        """Load a model in the place of the one that answers. Raises the error it ends with, `Cancelled` among them."""
        self.asked, self.failure, self.candidates = request, None, ()
        ladder = self._shown = Ladder("load", request.facts, request.loader, self._changed)
        ladder.progress("choosing a loader", None)
        self._loading = True
        if self.current is not None and self.current.failed is not None:
            self.let_go()
        self._way_back = self.current
        incoming = self.incoming = self._new_residency(request.facts)
        outcome: Outcome = "failed"
        error: AppError | None = None
        try:
            await self._choose_and_swap(request, incoming, ladder)
            outcome = "loaded"
        except asyncio.CancelledError as cancelled:
            outcome, error = "cancelled", as_app_error(cancelled, "Loading")
            raise error from None
        except Exception as failed:
            self.failure = error = as_app_error(failed, "Loading")
            if error is not failed:
                log.exception("Loading broke")
            raise error from None
        finally:
            self._loading, self.incoming, self.accepting, self._way_back = False, None, None, None
            self._tell(
                ladder, ladder.end(outcome, error, incoming if outcome == "loaded" else None), request.parameters
            )
            if self.current in self._restarts:
                self._shown = self._restarts[self.current]
            self._changed()

    def no_way_back(self) -> None:
        """Should the load that is on not come to its end, no model is brought back."""
        self._way_back = None

    def let_go(self) -> asyncio.Task[None] | None:
        """Begin to end the model that answers, cancelling its jobs; the task is done when it is gone."""
        current, self.current = self.current, None
        if current is None:
            return None
        log.info("Unloading %s", model_id(current.facts))
        return self._retire(current, "cancel")

    async def unload(self) -> None:
        """End the model that answers, cancelling its jobs."""
        self.failure, self._shown = None, None
        ended = self.let_go()
        self._changed()
        if ended is not None:
            await asyncio.wait([ended])

    async def close(self) -> None:
        """End every model, also those that were still finishing."""
        self.failure, self._shown = None, None
        self.let_go()
        for residency in list(self.retiring.values()):
            self._retire(residency, "cancel")
        while self.retiring:
            await asyncio.wait(list(self.retiring))
        await self._speeds.close()
        await self._decisions.close()
        await self._recorder.close()

    # --- how a load goes ------------------------------------------------------------------------------------------

    async def _choose_and_swap(self, request: LoadRequest, incoming: Residency, ladder: Ladder) -> None:
        previous = self.current
        try:
            choice = await asyncio.to_thread(self._chooser.choose, request)
            self.candidates, incoming.environment = choice.candidates, choice.devices.environment
            climb = self._climb(incoming, choice.situation, choice.versions, ladder)
            for loader, error in choice.passed_over:
                reason = "It stands first in the order of priority."
                climb.skip(Attempt(StepKind.ASKED, loader, {}, reason=reason), error)
            await self._wait_for_memory()
            first = climb.decide(LadderQuestion(await self._with_room(choice.situation, previous)))
            if isinstance(first, GiveUp):
                raise first.error
            beside = previous is None or self._fits_beside(previous, climb.situation, first)
            if previous is not None and not beside:
                await self._make_room(previous, incoming, climb, request.running, ladder)
            await climb.up(first)
        except BaseException as error:
            await self._go_back(previous, incoming, as_app_error(error, "Loading"), ladder)
            raise
        self.current, self.incoming, self.accepting = incoming, None, None
        if previous is not None and beside:
            self._retire(previous, request.running if previous.ready else "hand over")

    async def _wait_for_memory(self) -> None:
        """Models that are being ended give theirs back within seconds; what is planned before that is planned wrong."""
        if ending := [task for task, residency in self.retiring.items() if residency.closing]:
            await asyncio.wait(ending)

    async def _with_room(self, situation: Situation, previous: Residency | None) -> Situation:
        """What there is to plan with: the memory that is free, and what the model before it would give back."""
        freed = previous.worker.memory_bytes() if previous is not None and previous.worker is not None else None
        free = self._free_memory()
        return replace(
            situation,
            host_available=None if free is None else free + (freed or 0),
            device_available=await asyncio.to_thread(self._device_memory),
            device_total=await asyncio.to_thread(self._device_total),
        )

    async def _make_room(
        self, previous: Residency, incoming: Residency, climb: Climb, running: RunningJobs, ladder: Ladder
    ) -> None:
        """Let the model before it finish or hand over what it is writing, and end it."""

        async def leave() -> None:
            self.accepting = incoming
            if running == "hand over" or not previous.ready:
                previous.scheduler.release()
            await previous.scheduler.drain()
            self.current = None
            await to_the_end(previous.close(finish_jobs=True))

        name = model_id(previous.facts)
        ladder.progress(f"unloading {name}", None)
        loader = previous.spec.name if previous.spec is not None else ""
        why = "both do not fit in memory together" if previous.ready else "it was about to be started again"
        why = f"{name} is unloaded first: {why}."
        await climb.aside(Attempt(StepKind.PREVIOUS_MODEL, loader, {}, reason=why), leave())

    async def _go_back(self, previous: Residency | None, incoming: Residency, error: AppError, ladder: Ladder) -> None:
        """After a failed load: the model before it answers on, or is brought back, also those who waited for the new.

        Nobody who waits is forgotten: where no model is left, each is told why.
        """
        self.accepting = self.incoming = None
        restored: Residency | None = None
        if previous is not None and self.current is previous:
            previous.resume()
        elif previous is not None and previous is self._way_back:
            restored = self.incoming = self._new_residency(previous.facts)
        incoming.give_up(NotLoaded("No model is loaded.", cause=error.message))
        if previous is not None and restored is not None:
            await self._bring_back(previous, restored, ladder)

    async def _bring_back(self, previous: Residency, restored: Residency, ladder: Ladder) -> None:
        """Load `previous` again as `restored`; a cancellation ends only this."""
        if previous.attempt is None or previous.situation is None:
            raise AssertionError("a model that answered knows how it was loaded")
        ladder.progress(f"bringing back {model_id(previous.facts)}", None)
        restored.environment = previous.environment
        climb = self._climb(restored, replace(previous.situation, tried=(), elapsed_seconds=0.0), {}, ladder)
        why = "Brought back: the new model could not be loaded."
        try:
            await climb.up(replace(previous.attempt, kind=StepKind.PREVIOUS_MODEL, reason=why), phase="restore")
        except (AppError, asyncio.CancelledError) as error:
            self.incoming, self.failure = None, as_app_error(error, "Bringing back the model before it")
            restored.give_up(NotLoaded("No model is loaded.", cause=self.failure.message))
        else:
            self.current, self.incoming = restored, None

    async def _restart(self, residency: Residency, death: AppError, deaths: int) -> None:
        """Bring a model back whose worker has died. Raises the error to give up with."""
        situation = residency.situation
        if situation is None:
            raise AssertionError("a model that answered knows how it was loaded")
        asked_loader = situation.candidates[0].loader if situation.forced and situation.candidates else "auto"
        ladder = self._restarts[residency] = Ladder("restart", residency.facts, asked_loader, self._changed)
        if not self._loading:
            self._shown = ladder
        situation = replace(situation, host_available=self._free_memory(), elapsed_seconds=0.0)
        failed = [one for one in situation.tried[:-1] if one.error is not None][-KEPT_FAILURES:]
        died = Tried(situation.tried[-1].attempt, death)
        climb = self._climb(residency, replace(situation, tried=(*failed, died)), {}, ladder)
        outcome: Outcome = "failed"
        error: AppError | None = None
        try:
            await climb.up(climb.decide(LadderQuestion(situation, death, deaths)), phase="restart")
            outcome = "loaded"
        except asyncio.CancelledError as cancelled:
            outcome, error = "cancelled", as_app_error(cancelled, "Starting it again")
            raise
        except Exception as broken:
            error = as_app_error(broken, "Starting it again")
            if error is not broken:
                log.exception("Starting a model again broke")
            raise error from None
        finally:
            del self._restarts[residency]
            self._tell(ladder, ladder.end(outcome, error, residency if outcome == "loaded" else None), {})
            self._changed()

    def _pass_on(self, jobs: Sequence[Job], error: AppError) -> None:
        """Give jobs that their model does not answer to the one that takes jobs now; each ends with `error` if none."""
        target = self.target
        if target is not None:
            target.scheduler.adopt(jobs)
            return
        for job in jobs:
            job.fail(error)

    def _climb(
        self, residency: Residency, situation: Situation, versions: Mapping[str, str | None], ladder: Ladder
    ) -> Climb:
        """A climb whose steps are shown after those of the climbs of `ladder` before it."""
        climb = Climb(
            residency,
            situation,
            memory=self._free_memory,
            device_memory=self._device_memory,
            experience=self._experience,
            versions=versions,
            on_step=self._changed,
            on_failure=lambda phase, loader, error: self._failed(residency, phase, loader, error),
            progress=ladder.progress,
        )
        ladder.climbs.append(climb)
        return climb

    def _new_residency(self, facts: ModelFacts) -> Residency:
        limits = self._settings().limits
        surroundings = Surroundings(
            on_change=self._changed,
            on_failure=lambda phase, loader, error: self._failed(residency, phase, loader, error),
            on_reply=self._history.add_reply,
            on_answered=self._recorder.reply_ended,
            on_measured=self._measured,
            restart=self._restart,
            pass_on=self._pass_on,
        )
        residency = Residency(
            facts,
            surroundings,
            queue_length=limits.queue_length,
            limits=WorkerLimits(limits.start_timeout_seconds, limits.load_timeout_seconds, self._memory_limit()),
            silence_seconds=limits.silence_timeout_seconds,
        )
        return residency

    def _fits_beside(self, previous: Residency, situation: Situation, first: Attempt) -> bool:
        """Both models at once: only where the host has room, and never where they would share a GPU."""
        if previous.loaded is None or previous.loaded.device_kind != "cpu":
            return False
        return fits_beside(need_of(situation, first), self._free_memory())

    def _retire(self, residency: Residency, running: RunningJobs | Literal["cancel"]) -> asyncio.Task[None]:
        """Let a model go, and with its replies do as `running` says."""
        residency.retiring = True
        if running == "hand over":
            residency.scheduler.release()
        task = asyncio.create_task(residency.close(finish_jobs=running != "cancel"))
        self.retiring[task] = residency
        task.add_done_callback(self._retired)
        return task

    def _retired(self, task: asyncio.Task[None]) -> None:
        residency = self.retiring.pop(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("Ending %s broke", model_id(residency.facts), exc_info=error)
        self._changed()

    # --- small parts ----------------------------------------------------------------------------------------------

    def _tell(self, ladder: Ladder, story: LoadStory, parameters: Mapping[str, Any]) -> None:
        """Keep what came of a load or restart, its figures, and what was decided on the way."""
        self._history.add_load(story)
        self._recorder.load_ended(ladder)
        self._decisions.note(story, parameters, [climb.decisions for climb in ladder.climbs if climb.decisions])

    def _measured(self, residency: Residency, finished: Finished) -> None:
        if residency is self.current and self.incoming is None and not self.retiring:
            self._speeds.note(residency, finished)

    def _free_memory(self) -> int | None:
        """Bytes that a worker may take: what is free, and no more than the configured limit."""
        free, limit = self._available_memory(), self._memory_limit()
        return limit if free is None else min(free, limit or free)

    def _memory_limit(self) -> int | None:
        mebibytes = self._settings().limits.worker_memory_mib
        return mebibytes * MEBIBYTE if mebibytes else None

    def _failed(self, residency: Residency, phase: str, loader: str, error: AppError) -> None:
        self._history.add_failure(Failure(phase, loader, model_id(residency.facts), error))
