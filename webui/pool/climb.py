"""Climbing the recovery ladder: one attempt after the other, until the model stands or nothing is left to try."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from typing import Literal

from webui.errors import AppError, HardwareError, ModelError, ModelNotFound, NotLoaded
from webui.models.inspect import model_id
from webui.planning.decisions import Decision, LadderQuestion, decide
from webui.planning.recovery import Attempt, GiveUp, Known, Situation, StepKind, Tried, degradation
from webui.pool.experience import Experience
from webui.pool.residency import Progress, Residency
from webui.pool.status import Rung
from webui.pool.tasks import as_app_error, to_the_end

log = logging.getLogger(__name__)


class Climb:
    """One load or restart. `rungs` grows by one with each step; `on_step` is called at each change of it. `decisions`
    are what was decided on the way, with all that it was decided from.

    `memory` and `device_memory` are asked before each attempt (free bytes; `None`: unknown). `versions` are those of
    the engines, by loader; without them nothing is learnt for later loads. `on_failure` gets (phase, loader, error) of
    each attempt that failed.
    """

    def __init__(
        self,
        residency: Residency,
        situation: Situation,
        *,
        memory: Callable[[], int | None],
        device_memory: Callable[[], int | None],
        experience: Experience,
        versions: Mapping[str, str | None],
        on_step: Callable[[], None],
        on_failure: Callable[[str, str, AppError], None],
        progress: Progress,
    ) -> None:
        self.residency = residency
        self.situation = situation
        self.rungs: list[Rung] = []
        self.decisions: list[Decision] = []
        self._memory = memory
        self._device_memory = device_memory
        self._experience = experience
        self.versions = versions
        self._on_step = on_step
        self._on_failure = on_failure
        self._progress = progress
        self._began = time.monotonic()

    def decide(self, question: LadderQuestion) -> Attempt | GiveUp:
        """What to try, which `up` begins with."""
        self.decisions.append(decide(question))
        return self.decisions[-1].chosen

    async def up(self, chosen: Attempt | GiveUp, *, phase: str = "") -> None:
        """Begin with `chosen` and go on as the ladder says. Raises the error of giving up.

        `phase` names the failures of a climb that is not a plain load ("restart", "restore").
        """
        while isinstance(chosen, Attempt):
            error = await self._try(chosen, phase)
            if error is None:
                return
            chosen = self.decide(LadderQuestion(self.situation))
        raise chosen.error

    async def aside(self, attempt: Attempt, doing: Awaitable[None]) -> None:
        """A step that loads nothing (the model before it finishes and goes), shown like the others."""
        began = self._open(attempt)
        try:
            await doing
        except BaseException as error:
            self._close("failed", began, as_app_error(error, "Loading"))
            raise
        self._close("worked", began)

    def skip(self, attempt: Attempt, error: AppError) -> None:
        """A step that cannot even be tried, with the reason."""
        self._open(attempt)
        self._close("skipped", time.monotonic(), error)

    async def _try(self, attempt: Attempt, phase: str) -> AppError | None:
        """One attempt; returns its error, or `None` with the model loaded."""
        spec = self.situation.specs[attempt.loader]
        began = self._open(attempt)
        try:
            await self._look_around()
            parameters = spec.parameters.parse(attempt.parameters, where=f"the parameters of {spec.title}")
            await self.residency.load(spec, parameters, self._progress)
        except asyncio.CancelledError as cancelled:
            self._close("failed", began, as_app_error(cancelled, "Loading"))
            raise
        except Exception as failure:
            error = as_app_error(failure, "Loading")
            if error is not failure:
                log.exception("Loading with %s broke", spec.title)
            self._close("failed", began, error)
            if (known := self._ended(attempt, error, began)) is not None:
                await self._learn(known)
            log.warning("%s could not load %s: %s", spec.title, model_id(self.situation.facts), error.message)
            self._on_failure(phase or self.residency.phase, spec.name, error)
            return error
        self._close("worked", began)
        known = self._ended(attempt, None, began)
        self._settle(attempt)
        log.info("%s loaded %s in %.1f s", spec.title, model_id(self.situation.facts), time.monotonic() - began)
        if known is not None:
            with contextlib.suppress(asyncio.CancelledError):  # it stands: a cancellation comes too late
                await to_the_end(self._learn(known))
        return None

    def _settle(self, attempt: Attempt) -> None:
        """The residency knows how it came to stand, for the next restart and for the page."""
        situation, residency = self.situation, self.residency
        first = situation.candidates[0].loader if situation.candidates else attempt.loader
        asked = Attempt(StepKind.ASKED, first, situation.asked.get(first, attempt.parameters))
        residency.attempt, residency.situation = attempt, situation
        residency.degraded = degradation(asked, attempt, situation)

    def _ended(self, attempt: Attempt, error: AppError | None, began: float) -> Known | None:
        """Note how it ended for the next step of this climb. Returns what will hold for later loads, too."""
        situation = self.situation
        self.situation = replace(
            situation,
            tried=(*situation.tried, Tried(attempt, error, time.monotonic() - began)),
            elapsed_seconds=time.monotonic() - self._began,
        )
        nothing_new = error is None and len(self.situation.tried) == 1 and not situation.known
        if not self.versions or nothing_new or (error is not None and not _will_hold(error)):
            return None
        return Known(
            loader=attempt.loader,
            asked=dict(situation.asked.get(attempt.loader, {})),
            parameters=dict(attempt.parameters),
            worked=error is None,
            code=error.code if error is not None else "",
            message=error.message if error is not None else "",
            host_available=situation.host_available,
            device_available=situation.device_available,
            at=time.time(),
        )

    async def _learn(self, known: Known) -> None:
        version = self.versions.get(known.loader)
        await asyncio.to_thread(self._experience.remember, self.situation.facts, version, known)

    async def _look_around(self) -> None:
        on_devices = await asyncio.to_thread(self._device_memory)
        self.situation = replace(self.situation, host_available=self._memory(), device_available=on_devices)

    def _open(self, attempt: Attempt) -> float:
        self.rungs.append(Rung(attempt, "running", time.time()))
        self._on_step()
        return time.monotonic()

    def _close(
        self, state: Literal["worked", "failed", "skipped"], began: float, error: AppError | None = None
    ) -> None:
        self.rungs[-1] = replace(self.rungs[-1], state=state, seconds=time.monotonic() - began, error=error)
        self._on_step()


def _will_hold(error: AppError) -> bool:
    """Whether the same attempt would fail the same way again: not so for what an installation or a person changes."""
    return isinstance(error, HardwareError | ModelError) and not isinstance(error, ModelNotFound | NotLoaded)
