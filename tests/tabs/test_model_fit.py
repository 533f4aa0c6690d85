"""Whether a model of the catalogue fits: from the plans of the loaders that open it, and not asked again at once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import pytest

from tests.loaders import toy
from tests.tabs.plans import ENORMOUS, FITS, LAPTOP, PAGED, UNKNOWN_ROOM
from tests.tabs.stories import FACTS, OTHER
from webui.context import AppContext
from webui.errors import InvalidSetting
from webui.loaders.contract import Verdict
from webui.models.facts import ModelFacts
from webui.planning.plan import Alternative, MemoryPlan
from webui.tabs.model_catalogue import catalogue_html
from webui.tabs.model_fit import SECONDS_PER_LIST, SECONDS_VALID, Fit, Fits, fit_of

SMALLER_FILE_ALONE = replace(LAPTOP, alternatives=(Alternative("a smaller file", 1, True),))
TOO_MUCH_ANYWAY = replace(LAPTOP, alternatives=(Alternative("8-bit cache", 1, False, {"cache_type_k": "q8_0"}),))


class Machine:
    """Loaders with a plan each, a clock that stands still, and a count of the plans that were made."""

    def __init__(self, plans: Mapping[str, MemoryPlan], converting: str = "", disabled: str = "") -> None:
        self.plans, self.asked, self.now, self.costs = plans, 0, 0.0, 0.0
        self.loaders = {
            name: replace(toy.SPEC, name=name, can_open=self._verdict(name == converting)) for name in plans
        }
        enabled = SimpleNamespace(enabled=lambda name: name != disabled)
        self.settings = SimpleNamespace(backends=enabled)
        self.fits = Fits(cast(AppContext, self), lambda: self.now)

    def _verdict(self, converts: bool) -> Any:
        return lambda facts: Verdict(True, "opens it", converts=converts)

    def plan(self, facts: ModelFacts, loader: str, parameters: Mapping[str, Any]) -> MemoryPlan:
        assert parameters == {}
        self.asked += 1
        self.now += self.costs
        if self.plans[loader] is ENORMOUS and loader == "wrong":
            raise InvalidSetting("threads is -1")
        return self.plans[loader]


@pytest.mark.parametrize(
    ("plan", "fit"),
    [
        (FITS, "fits"),
        (PAGED, "paged"),
        (replace(LAPTOP, devices=LAPTOP.devices[:1]), "paged"),
        (LAPTOP, "changed"),
        (SMALLER_FILE_ALONE, "too large"),
        (TOO_MUCH_ANYWAY, "too large"),
        (ENORMOUS, "too large"),
        (UNKNOWN_ROOM, "unknown"),
    ],
)
def test_a_plan_as_one_word(plan: MemoryPlan, fit: Fit) -> None:
    assert fit_of(plan) == fit


@pytest.mark.parametrize(
    ("plans", "more", "fit"),
    [
        ({"a": LAPTOP, "b": FITS}, {}, "fits"),
        ({"a": ENORMOUS, "b": LAPTOP}, {}, "changed"),
        ({"a": ENORMOUS, "b": FITS}, {"converting": "b"}, "too large"),
        ({"b": FITS}, {"converting": "b"}, "fits"),
        ({"a": ENORMOUS, "b": FITS}, {"disabled": "b"}, "too large"),
        ({"wrong": ENORMOUS, "b": LAPTOP}, {}, "changed"),
        ({"wrong": ENORMOUS}, {}, "unknown"),
        ({}, {}, "unknown"),
    ],
)
def test_the_loader_with_which_it_fits_best_decides(plans: Any, more: dict[str, str], fit: Fit) -> None:
    assert Machine(plans, **more).fits.for_a_list()(FACTS) == fit


def test_an_answer_holds_for_a_while() -> None:
    machine = Machine({"a": FITS})
    assert [machine.fits.for_a_list()(FACTS) for _ in range(3)] == ["fits"] * 3
    assert machine.asked == 1
    machine.now += SECONDS_VALID
    machine.plans = {"a": ENORMOUS}
    assert machine.fits.for_a_list()(FACTS) == "too large"


def test_a_long_list_is_not_kept_waiting_and_is_finished_the_next_time() -> None:
    machine = Machine({"a": FITS})
    machine.costs = SECONDS_PER_LIST * 1.5
    judge = machine.fits.for_a_list()
    assert (judge(FACTS), judge(OTHER)) == ("fits", "unknown")
    judge = machine.fits.for_a_list()
    assert (judge(FACTS), judge(OTHER)) == ("fits", "fits")


def test_rows_say_it() -> None:
    words: dict[str, Fit] = {"big": "too large", "other": "changed"}
    html = catalogue_html([FACTS, OTHER], search="", chosen="", folder=None, fit=lambda facts: words[facts.path.stem])
    assert html.index("too large for now") < html.index("fits with other settings")
    assert "fits" not in catalogue_html([FACTS, OTHER], search="", chosen="", folder=None)
