"""The steps of one load or restart, as they are shown while it is on and told in the history afterwards."""

from __future__ import annotations

import time
from collections.abc import Callable

from webui.errors import AppError, MissingPackage
from webui.models.facts import ModelFacts
from webui.models.inspect import model_id
from webui.pool.choosing import AUTO
from webui.pool.climb import Climb
from webui.pool.residency import Residency
from webui.pool.status import Cause, LoadStory, Outcome, Rung


class Ladder:
    """See the module. `step` and `share` say what it is doing at this moment; both are empty when it has ended."""

    def __init__(self, cause: Cause, facts: ModelFacts, asked_loader: str, on_change: Callable[[], None]) -> None:
        self.climbs: list[Climb] = []
        self.step = ""
        self.share: float | None = None
        self._cause = cause
        self._facts = facts
        self._asked_loader = "auto" if asked_loader in AUTO else asked_loader
        self._on_change = on_change
        self._began = time.time()

    @property
    def rungs(self) -> tuple[Rung, ...]:
        """All steps so far. That a loader is not installed belongs to the story only where something failed."""
        rungs = tuple(rung for climb in self.climbs for rung in climb.rungs)
        if any(rung.state == "failed" for rung in rungs):
            return rungs
        return tuple(rung for rung in rungs if not isinstance(rung.error, MissingPackage))

    def progress(self, step: str, share: float | None) -> None:
        """It does `step` now, of which `share` (0 … 1) is done, where that is known."""
        self.step, self.share = step, share
        self._on_change()

    def end(self, outcome: Outcome, error: AppError | None, loaded: Residency | None) -> LoadStory:
        """The story of it; `loaded` is the model that stands because of it."""
        self.step, self.share = "", None
        return LoadStory(
            model_id(self._facts),
            str(self._facts.path),
            self._asked_loader,
            self._cause,
            self._began,
            time.time() - self._began,
            self.rungs,
            outcome,
            loader=loaded.attempt.loader if loaded is not None and loaded.attempt is not None else "",
            error=error,
            degraded=loaded.degraded if loaded is not None else None,
        )
