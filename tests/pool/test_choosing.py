"""The pool chooses by what it knows: measurements, plans and what the engines use here."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

from tests.loaders import toy
from tests.pool.conftest import facts, loader
from webui.models.facts import ModelFacts
from webui.planning.evidence import Engines
from webui.planning.plan import CPU, DevicePlan, MemoryPlan
from webui.pool import LoadRequest, Pool
from webui.pool.measurements import Measurements, Speed

MakePool = Callable[..., Pool]
MODEL = facts("one")
LOADERS = (loader("first"), loader("second"))
DEFAULTS = toy.ToyParameters().model_dump(mode="json")


def measured(**rates: float) -> Measurements:
    kept = Measurements(None, lambda: "this one")
    for name, rate in rates.items():
        kept.add(MODEL, None, Speed(name, DEFAULTS, rate))
    return kept


def plan(of: ModelFacts, name: str, parameters: Mapping[str, Any]) -> MemoryPlan:
    """The first loader needs a hundred times what is free; who asks for a long context needs no more."""
    weights = 100 if name == "first" and parameters["context_size"] < 1000 else 0
    return MemoryPlan(of.name, name, False, not weights, "", (DevicePlan(CPU, "Memory", weights, available=1),))


async def test_the_faster_loader_opens_the_file_and_says_so(make_pool: MakePool) -> None:
    pool = make_pool(LOADERS, measurements=measured(first=20, second=30))
    status = await pool.load(LoadRequest(MODEL))
    assert (status.loader, status.degraded) == ("second", None)
    reason = "1.5 × faster than first for this model here: 30 against 20 tokens/s"
    assert [one.chosen_because for one in status.candidates] == [
        reason,
        "next, if those before it fail: 20 tokens/s here",
    ]
    assert [one.loader for one in pool.rank(facts("another"))] == ["first", "second"]


async def test_a_forced_loader_is_taken_however_slow(make_pool: MakePool) -> None:
    pool = make_pool(LOADERS, measurements=measured(first=20, second=30))
    assert (await pool.load(LoadRequest(MODEL, "first"))).loader == "first"


async def test_plans_are_made_with_what_is_asked_for(make_pool: MakePool) -> None:
    pool = make_pool(LOADERS, plan=plan)
    assert [one.loader for one in pool.rank(MODEL)] == ["second", "first"]
    assert [one.loader for one in pool.rank(MODEL, parameters={"context_size": 2000})] == ["first", "second"]


async def test_wrong_parameters_and_broken_loaders_make_no_evidence(make_pool: MakePool) -> None:
    def broken(of: ModelFacts) -> Any:
        raise KeyError("llama")

    pool = make_pool((*LOADERS, dataclasses.replace(loader("third"), can_open=broken)), plan=plan)
    assert [one.loader for one in pool.rank(MODEL)] == ["second", "first", "third"]
    assert [one.loader for one in pool.rank(MODEL, parameters={"slots": 99})] == ["first", "second", "third"]


async def test_an_engine_that_would_end_at_once_is_not_chosen(make_pool: MakePool) -> None:
    pool = make_pool(LOADERS, engines=lambda: Engines(obstacles={"first": "It needs another processor."}))
    assert [(one.loader, one.suitable) for one in pool.rank(MODEL)] == [("second", True), ("first", False)]
    assert pool.rank(MODEL, "first")[0].suitable
