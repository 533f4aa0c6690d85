"""The models in memory: the one that answers, the one that is coming, and those that finish what they are writing.

Here a load is carried out: the choice, the ladder, the swap with its way back, and the restart of a model whose worker
has died. `webui.pool.pool` is the door to it.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import replace
from typing import Any

from webui.errors import AppError, Cancelled, MissingPackage, NotLoaded
from webui.loaders.supervisor import WorkerLimits
from webui.models.facts import ModelFacts
from webui.models.inspect import model_id
from webui.planning.attempts import need_of
from webui.planning.memory import fits_beside
from webui.planning.recovery import Attempt, GiveUp, Situation, StepKind, Tried, next_attempt, restart_attempt
from webui.planning.selection import Candidate
from webui.pool.choosing import AUTO, Chooser
from webui.pool.climb import Climb
from webui.pool.experience import Experience
from webui.pool.history import History
from webui.pool.residency import Residency, Surroundings
from webui.pool.status import Cause, Failure, LoadRequest, LoadStory, Outcome, Rung, RunningJobs
from webui.settings import Settings

log = logging.getLogger(__name__)

MEBIBYTE = 1024 * 1024
KEPT_FAILURES = 6
"""Failed attempts that a restart still knows of; each restart has its own bound of steps."""


class Residents:
    """See the module. `on_change` is called when anything a status shows has changed.

    `current` answers; `incoming` is being loaded; `accepting`, when set, takes new jobs before `current` does, which
    is about to leave. `step` and `share` are of the load that is on, `failure` is that of the last one, if it failed.
    """

    def __init__(
        self,
        settings: Callable[[], Settings],
        chooser: Chooser,
        *,
        available_memory: Callable[[], int | None],
        device_memory: Callable[[], int | None],
        history: History,
        experience: Experience,
        on_change: Callable[[], None],
    ) -> None:
        self.current: Residency | None = None
        self.incoming: Residency | None = None
        self.accepting: Residency | None = None
        self.retiring: dict[asyncio.Task[None], Residency] = {}
        self.asked: LoadRequest | None = None
        self.candidates: tuple[Candidate, ...] = ()
        self.failure: AppError | None = None
        self.step = ""
        self.share: float | None = None
        self._climbs: tuple[Climb, ...] = ()
        self._settings = settings
        self._chooser = chooser
        self._available_memory = available_memory
        self._device_memory = device_memory
        self._history = history
        self._experience = experience
        self._changed = on_change

    @property
    def target(self) -> Residency | None:
        """Who takes new jobs."""
        return self.accepting or self.current or self.incoming

    @property
    def rungs(self) -> tuple[Rung, ...]:
        """The steps of the load or restart that is on, or of the last one.

        That a loader is not installed belongs to the story only where something failed.
        """
        rungs = tuple(rung for climb in self._climbs for rung in climb.rungs)
        if any(rung.state == "failed" for rung in rungs):
            return rungs
        return tuple(rung for rung in rungs if not isinstance(rung.error, MissingPackage))

    @property
    def finishing(self) -> int:
        """Replies that models on their way out are still writing."""
        return sum(len(residency.scheduler.running) for residency in self.retiring.values())

    async def load(self, request: LoadRequest) -> None:
        """Load a model in the place of the one that answers. Raises the error it ends with, `Cancelled` among them."""
        self.asked, self.failure, self.candidates, self._climbs = request, None, (), ()
        self.step, self.share = "choosing a loader", None
        outcome: Outcome = "failed"
        error: AppError | None = None
        began = time.time()
        try:
            await self._choose_and_swap(request)
            outcome = "loaded"
        except asyncio.CancelledError:
            outcome, error = "cancelled", Cancelled("Loading was cancelled.")
            raise error from None
        except AppError as failed:
            self.failure = error = failed
            raise
        finally:
            self.incoming = self.accepting = None
            self.step, self.share = "", None
            self._tell("load", request.facts, request.loader, began, outcome, error)
            self._changed()

    async def unload(self) -> None:
        """End the model that answers, cancelling its jobs."""
        current, self.current = self.current, None
        self.failure, self._climbs = None, ()
        if current is not None:
            await to_the_end(current.close(finish_jobs=False))
            log.info("Unloaded %s", model_id(current.facts))
        self._changed()

    async def close(self) -> None:
        """End every model, also those that were still finishing."""
        await self.unload()
        for residency in list(self.retiring.values()):
            await residency.scheduler.cancel_all()
        if self.retiring:
            await asyncio.wait(list(self.retiring))

    # --- how a load goes ------------------------------------------------------------------------------------------

    async def _choose_and_swap(self, request: LoadRequest) -> None:
        previous = self.current
        choice = await asyncio.to_thread(self._chooser.choose, request)
        self.candidates = choice.candidates
        incoming = self._new_residency(request.facts)
        climb = self._climb(incoming, choice.situation, choice.versions)
        for loader, error in choice.passed_over:
            climb.skip(Attempt(StepKind.ASKED, loader, {}, reason="It stands first in the order of priority."), error)
        first = next_attempt(await self._with_room(choice.situation, previous))
        if isinstance(first, GiveUp):
            raise first.error
        self.incoming = incoming
        self._changed()
        beside = previous is None or self._fits_beside(previous, climb.situation, first)
        try:
            if previous is not None and not beside:
                await self._make_room(previous, incoming, climb, request.running)
            await climb.up(first)
        except BaseException as error:
            await self._go_back(previous, incoming, _as_app_error(error))
            raise
        self.current, self.incoming, self.accepting = incoming, None, None
        if previous is not None and beside:
            if request.running == "hand over":
                await to_the_end(_hand_over(previous, incoming))
            self._retire(previous)

    async def _with_room(self, situation: Situation, previous: Residency | None) -> Situation:
        """What there is to plan with: the memory that is free, and what the model before it would give back."""
        freed = previous.worker.memory_bytes() if previous is not None and previous.worker is not None else None
        free = self._free_memory()
        return replace(
            situation,
            host_available=None if free is None else free + (freed or 0),
            device_available=await asyncio.to_thread(self._device_memory),
        )

    async def _make_room(self, previous: Residency, incoming: Residency, climb: Climb, running: RunningJobs) -> None:
        """Let the model before it finish or hand over what it is writing, and end it."""

        async def leave() -> None:
            self.accepting = incoming
            if running == "hand over":
                await to_the_end(_hand_over(previous, incoming))
            else:
                await previous.scheduler.drain()
            self.current = None
            await to_the_end(previous.close(finish_jobs=True))

        self._progress(f"unloading {model_id(previous.facts)}", None)
        loader = previous.spec.name if previous.spec is not None else ""
        why = f"{model_id(previous.facts)} is unloaded first: both do not fit in memory together."
        await climb.aside(Attempt(StepKind.PREVIOUS_MODEL, loader, {}, reason=why), leave())

    async def _go_back(self, previous: Residency | None, incoming: Residency, error: AppError) -> None:
        """After a failed load: the model before it answers on, or is brought back, also those who waited for the new.

        Nobody who waits is forgotten: where no model is left, each is told why.
        """
        self.accepting = None
        jobs = await incoming.scheduler.release()
        incoming.give_up(error)
        if previous is not None and self.current is previous:
            previous.resume()
        elif previous is not None:
            self.current = await self._bring_back(previous)
        if self.current is not None:
            self.current.scheduler.adopt(jobs)
            return
        for job in jobs:
            job.fail(NotLoaded("No model is loaded.", cause=error.message))

    async def _bring_back(self, previous: Residency) -> Residency | None:
        if previous.attempt is None or previous.situation is None:
            return None
        self._progress(f"bringing back {model_id(previous.facts)}", None)
        restored = self._new_residency(previous.facts)
        climb = self._climb(restored, replace(previous.situation, tried=(), elapsed_seconds=0.0), {})
        why = "Brought back: the new model could not be loaded."
        try:
            await climb.up(replace(previous.attempt, kind=StepKind.PREVIOUS_MODEL, reason=why), phase="restore")
        except AppError as error:
            restored.give_up(error)
            return None
        return restored

    async def _restart(self, residency: Residency, death: AppError, deaths: int) -> None:
        """Bring a model back whose worker has died. Raises the error to give up with."""
        if residency.situation is None:
            raise death
        began = time.time()
        error: AppError | None = None
        outcome: Outcome = "cancelled"
        situation = replace(residency.situation, host_available=self._free_memory(), elapsed_seconds=0.0)
        self._climbs = ()
        failed = [one for one in situation.tried[:-1] if one.error is not None][-KEPT_FAILURES:]
        died = Tried(situation.tried[-1].attempt, death)
        climb = self._climb(residency, replace(situation, tried=(*failed, died)), {})
        try:
            await climb.up(restart_attempt(situation, death, deaths), phase="restart")
            outcome = "loaded"
        except AppError as failed:
            outcome, error = "failed", failed
            raise
        finally:
            loader = situation.candidates[0].loader if situation.forced and situation.candidates else "auto"
            self._tell("restart", residency.facts, loader, began, outcome, error)

    def _lost(self, residency: Residency) -> None:
        """A model died that was only finishing its jobs: those that had not begun go to the one that answers now."""
        jobs = residency.scheduler.take_waiting()
        if self.current is not None and self.current is not residency:
            self.current.scheduler.adopt(jobs)
        else:
            for job in jobs:
                job.fail(NotLoaded("The model was lost.", cause=residency.restart_note))

    def _climb(self, residency: Residency, situation: Situation, versions: Mapping[str, str | None]) -> Climb:
        """A climb whose steps the status shows after those of the climbs before it."""
        climb = Climb(
            residency,
            situation,
            memory=self._free_memory,
            device_memory=self._device_memory,
            experience=self._experience,
            versions=versions,
            on_step=self._changed,
            on_failure=lambda phase, loader, error: self._failed(residency, phase, loader, error),
            progress=self._progress,
        )
        self._climbs = (*self._climbs, climb)
        return climb

    def _new_residency(self, facts: ModelFacts) -> Residency:
        limits = self._settings().limits
        surroundings = Surroundings(
            on_change=self._changed,
            on_failure=lambda phase, loader, error: self._failed(residency, phase, loader, error),
            on_reply=self._history.add_reply,
            restart=self._restart,
            on_lost=self._lost,
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
        return fits_beside(need_of(situation, first).total, self._free_memory())

    def _retire(self, residency: Residency) -> None:
        residency.retiring = True
        task = asyncio.create_task(residency.close(finish_jobs=True))
        self.retiring[task] = residency
        task.add_done_callback(self._retired)

    def _retired(self, task: asyncio.Task[None]) -> None:
        del self.retiring[task]
        self._changed()

    # --- small parts ----------------------------------------------------------------------------------------------

    def _progress(self, step: str, share: float | None) -> None:
        self.step, self.share = step, share
        self._changed()

    def _free_memory(self) -> int | None:
        """Bytes that a worker may take: what is free, and no more than the configured limit."""
        free, limit = self._available_memory(), self._memory_limit()
        return limit if free is None else min(free, limit or free)

    def _memory_limit(self) -> int | None:
        mebibytes = self._settings().limits.worker_memory_mib
        return mebibytes * MEBIBYTE if mebibytes else None

    def _failed(self, residency: Residency, phase: str, loader: str, error: AppError) -> None:
        self._history.add_failure(Failure(phase, loader, model_id(residency.facts), error))

    def _tell(
        self,
        cause: Cause,
        facts: ModelFacts,
        asked_loader: str,
        began: float,
        outcome: Outcome,
        error: AppError | None,
    ) -> None:
        """Write the story of a load or restart into the history."""
        current = self.current if outcome == "loaded" else None
        story = LoadStory(
            model_id(facts),
            str(facts.path),
            "auto" if asked_loader in AUTO else asked_loader,
            cause,
            began,
            time.time() - began,
            self.rungs,
            outcome,
            loader=current.spec.name if current is not None and current.spec is not None else "",
            error=error,
            degraded=current.degraded if current is not None else None,
        )
        self._history.add_load(story)


def _as_app_error(error: BaseException) -> AppError:
    if isinstance(error, AppError):
        return error
    if isinstance(error, asyncio.CancelledError):
        return Cancelled("Loading was cancelled.")
    return AppError("Loading broke.", cause=repr(error))


async def to_the_end(doing: Coroutine[Any, Any, None]) -> None:
    """Await what must not be left half done: a cancellation takes effect when it has ended."""
    task = asyncio.create_task(doing)
    try:
        await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait([task])
        raise


async def _hand_over(old: Residency, new: Residency) -> None:
    new.scheduler.adopt(await old.scheduler.release())
