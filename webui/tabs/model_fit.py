"""Which models of the catalogue fit this machine: one word for each row, from its memory plan."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Literal

from webui.context import AppContext
from webui.errors import AppError
from webui.models.facts import ModelFacts
from webui.planning.plan import MemoryPlan
from webui.planning.selection import verdict_of
from webui.tabs.memory_bars import beyond

Fit = Literal["fits", "changed", "paged", "too large", "unknown"]
"""As it would be loaded; with other parameters; only by reading the file again and again; not at all; not known."""

SECONDS_VALID = 30.0
SECONDS_PER_LIST = 0.25
MOST_KEPT = 2000
_BEST_FIRST: tuple[Fit, ...] = ("fits", "changed", "paged", "too large", "unknown")


class Fits:
    """Asks for plans and remembers the answers for a while. For any thread."""

    def __init__(self, context: AppContext, clock: Callable[[], float] = time.monotonic) -> None:
        self._context, self._clock = context, clock
        self._known: OrderedDict[tuple[Path, int], tuple[float, Fit]] = OrderedDict()

    def for_a_list(self) -> Callable[[ModelFacts], Fit]:
        """A judge for the rows of one list, which stops planning when the list has waited long enough for it: what is
        left is unknown, until the list is drawn again.
        """
        until = self._clock() + SECONDS_PER_LIST

        def judge(facts: ModelFacts) -> Fit:
            now, key = self._clock(), (facts.path, facts.file_bytes)
            known = self._known.get(key)
            if known is not None and (now - known[0] < SECONDS_VALID or now > until):
                return known[1]
            if now > until:
                return "unknown"
            found = self._judged(facts)
            self._known[key] = now, found
            while len(self._known) > MOST_KEPT:
                self._known.popitem(last=False)
            return found

        return judge

    def _judged(self, facts: ModelFacts) -> Fit:
        """By the loader with which it fits best, of those that open it as it is, or of all where none does."""
        backends = self._context.settings.backends
        verdicts = {
            name: verdict_of(spec, facts) for name, spec in self._context.loaders.items() if backends.enabled(name)
        }
        opening = [name for name, verdict in verdicts.items() if verdict.ok]
        plain = [name for name in opening if not verdicts[name].converts]
        best: Fit = "unknown"
        for name in plain or opening:
            try:
                found = fit_of(self._context.plan(facts, name, {}))
            except AppError:  # the configured parameters of this loader are wrong, which the Model tab says itself
                continue
            best = min(best, found, key=_BEST_FIRST.index)
            if best == "fits":
                break
        return best


def fit_of(plan: MemoryPlan) -> Fit:
    free = [device.available for device in plan.devices if device.available is not None]
    if len(free) < len(plan.devices):
        return "unknown"
    if plan.fits:
        return "paged" if any(beyond(device) for device in plan.devices) else "fits"
    fitting = [one for one in plan.alternatives if one.fits and one.parameters]
    if any(one.total <= sum(free) for one in fitting):
        return "changed"
    return "paged" if fitting else "too large"
