"""The search for the best settings, on machines that are tables."""

from __future__ import annotations

import math
from typing import Any

import pytest

from tests.planning.surfaces import USUAL, Machine, grid, random_machine, some_space
from webui.planning.races import LEAST_GAIN, Duel, Result, Verdict, wait_seconds
from webui.planning.tunables import Axis, Setting, Space
from webui.planning.tuning import Search

SEEDS = range(24)
GRID_SECONDS = 2.0
"""What each point of a grid costs: it has to be loaded."""


def verdict_of(search: Search) -> Verdict:
    assert search.verdict is not None
    return search.verdict


def reached(noise: float, drift: float, cores: int) -> tuple[list[float], list[float]]:
    """By seed: the worth of the chosen setting, and the share of a grid's time that it took to find."""
    space = some_space(cores=cores)
    worth, share = [], []
    points = len(list(grid(space)))
    for seed in SEEDS:
        machine = random_machine(space, seed, noise=noise, drift=drift)
        search = machine.run(Search([space]))
        worth.append(machine.worth(verdict_of(search).setting, space))
        share.append(machine.clock / (points * GRID_SECONDS))
    return worth, share


@pytest.mark.parametrize(("noise", "drift"), [(0.0, 0.0), (0.01, 0.1)])
@pytest.mark.parametrize("cores", [2, 6])
def test_it_finds_about_the_best_in_a_fifth_of_the_time_of_a_grid(noise: float, drift: float, cores: int) -> None:
    worth, share = reached(noise, drift, cores)
    good = [one >= 0.98 for one in worth]
    quick = [one <= 0.2 for one in share]
    assert sum(good) >= 0.85 * len(good), sorted(worth)
    assert sum(quick) >= 0.85 * len(quick), sorted(share)
    assert min(worth) > 0.93


@pytest.mark.parametrize("noise", [0.02, 0.05, 0.1])
def test_it_never_keeps_what_is_slower_than_the_default(noise: float) -> None:
    space = some_space()
    for seed in SEEDS:
        machine = random_machine(space, seed, noise=noise, drift=0.3)
        verdict = verdict_of(machine.run(Search([space])))
        assert machine.truth(verdict.setting).wait <= machine.truth(verdict.default).wait * (1 + LEAST_GAIN / 2)


def flat(_loader: str, _full: dict[str, Any]) -> float:
    return 50.0


@pytest.mark.parametrize("noise", [0.0, 0.03, 0.1])
def test_where_nothing_matters_the_default_stays(noise: float) -> None:
    space = some_space()
    kept = 0
    for seed in SEEDS:
        machine = Machine([space], flat, flat, noise=noise, drift=0.1, seed=seed)
        verdict = verdict_of(machine.run(Search([space])))
        kept += not verdict.improved
    assert kept >= 0.85 * len(SEEDS)


def test_threads_of_replies_and_of_prompts_are_tuned_apart() -> None:
    space = some_space()

    def reply(_loader: str, full: dict[str, Any]) -> float:
        return 60.0 if full["threads"] == 1 else 45.0

    def prompt(_loader: str, full: dict[str, Any]) -> float:
        return 300.0 if (full["threads_batch"] or full["threads"] or 2) == 2 else 150.0

    machine = Machine([space], reply, prompt)
    verdict = verdict_of(machine.run(Search([space])))
    assert verdict.setting.parameters == {"threads": 1, "threads_batch": 2}
    assert verdict.gain == pytest.approx(wait_seconds(45, 300) / wait_seconds(60, 300))
    assert verdict.after is not None and (verdict.after.reply, verdict.after.prompt) == (60.0, 300.0)


def test_what_fails_is_tried_once_and_the_search_goes_on() -> None:
    space = some_space()

    def reply(_loader: str, full: dict[str, Any]) -> float:
        return 0.0 if full["cpu_repacking"] == "off" or full["threads"] == 1 else 60.0 - full["poll"] / 5

    machine = Machine([space], reply, reply)
    search = machine.run(Search([space]))
    assert verdict_of(search).setting.parameters == {"poll": 0}
    failed = [seen.trial.setting for seen in search.seen if seen.result.failure]
    assert len(failed) == len(set(failed)) == 2


def test_a_default_that_does_not_run_is_replaced_and_one_that_has_no_replacement_is_told() -> None:
    spaces = [Space("broken", USUAL, ()), some_space("working")]

    def reply(loader: str, _full: dict[str, Any]) -> float:
        return 0.0 if loader == "broken" else 40.0

    verdict = verdict_of(Machine(spaces, reply, reply).run(Search(spaces)))
    assert (verdict.setting, verdict.before, verdict.gain) == (Setting("working"), None, math.inf)
    nothing = Machine(spaces, lambda *_: 0.0, lambda *_: 0.0).run(Search(spaces))
    assert nothing.verdict is None


def test_loaders_are_compared_and_a_slow_one_is_not_tuned() -> None:
    spaces = [some_space("first"), some_space("second"), some_space("slow")]

    def reply(loader: str, full: dict[str, Any]) -> float:
        base = {"first": 50.0, "second": 55.0, "slow": 20.0}[loader]
        return base * (1.2 if loader == "first" and full["poll"] == 0 else 1.0)

    search = Machine(spaces, reply, reply).run(Search(spaces))
    assert verdict_of(search).setting == Setting("first", (("poll", 0),))
    assert {seen.trial.setting for seen in search.seen if seen.trial.setting.loader == "slow"} == {Setting("slow")}


@pytest.mark.parametrize("seconds", [0.0, 5.0, 15.0, 40.0, 90.0])
def test_it_keeps_to_the_time_it_is_given(seconds: float) -> None:
    space = some_space(cores=16)
    machine = random_machine(space, 3, noise=0.01)
    search = machine.run(Search([space]), seconds)
    verdict = verdict_of(search)
    assert machine.clock <= seconds + 4
    assert verdict.decided or not verdict.improved


def test_nothing_found_in_too_short_a_time_is_no_answer() -> None:
    space = some_space(cores=16)
    cut = Machine([space], flat, flat).run(Search([space]), 25.0)
    assert (verdict_of(cut).improved, verdict_of(cut).decided) == (False, False)
    whole = Machine([space], flat, flat).run(Search([space]))
    assert (verdict_of(whole).improved, verdict_of(whole).decided) == (False, True)


def test_a_verdict_needs_rounds_enough() -> None:
    default, found = Setting("a"), Setting("a", (("poll", 0),))
    slow, quick = Result(50.0, 300.0), Result(52.0, 300.0)
    duel = Duel()
    for _ in range(4):
        duel.add(slow, quick, slow)
    assert not duel.verdict(default, found).decided
    duel.add(slow, quick, slow)
    assert duel.verdict(default, found).setting == found
    for _ in range(2):
        duel.add(quick, slow, quick)
    assert duel.verdict(default, found).setting == default


def test_a_round_in_which_the_machine_changed_is_measured_again() -> None:
    space = Space("engine", USUAL, (Axis("poll", ({"poll": 50}, {"poll": 0}), 0),))
    search = Search([space])
    speeds = iter([50.0, 25.0, 24.0])  # it becomes slow in the middle of the first round
    for trial in iter(search.next, None):
        search.tell(trial, Result(next(speeds, 25.0 if trial.setting.changes else 24.0), 300.0))
    assert len(search.seen) > 3
    ratios = [seen.ratio for seen in search.seen if seen.ratio is not None]
    assert all(0.9 < ratio < 1.1 for ratio in ratios)


def test_only_the_trial_that_was_asked_for_is_answered() -> None:
    search = Search([some_space()])
    trial = search.next()
    assert trial is not None and trial is search.next()
    search.tell(trial, Result(50.0, 300.0, 1.0))
    with pytest.raises(ValueError, match="not asked for"):
        search.tell(trial, Result(50.0, 300.0, 1.0))
    with pytest.raises(ValueError, match="nothing to search"):
        Search([])


@pytest.mark.parametrize(
    ("reply", "prompt", "seconds"), [(50.0, 400.0, 4.5), (50.0, None, 4.0), (0.0, 100.0, math.inf), (10, 0, math.inf)]
)
def test_what_is_compared_is_the_time_of_a_typical_exchange(reply: float, prompt: float, seconds: float) -> None:
    assert wait_seconds(reply, prompt) == seconds
