"""Trends of a simulated month: what a person would see in it, and what changed when."""

from __future__ import annotations

import math
import statistics
from dataclasses import replace

import pytest

from tests.benchmarks.month_of_use import DAYS, DRIVER, LARGE, SMALL, THREADS, UPDATED, simulate
from webui.planning.plan import DevicePlan, MemoryPlan
from webui.planning.record import Record
from webui.planning.record_advice import advise
from webui.planning.record_forecast import Footprint, warned
from webui.planning.record_rules import DAY_SECONDS, Here
from webui.planning.record_trend import FIGURES, Trend, models_of, trends, usage
from webui.tabs.present import size
from webui.tabs.trend_plot import trend_html
from webui.tabs.trends import trends_html

NOW = 20_833 * DAY_SECONDS + 22 * 3600
"""In the evening, so that each day's work lies in one day."""
GIB = 1 << 30


@pytest.fixture(scope="module")
def month() -> tuple[Record, Here]:
    metrics, here = simulate(None, NOW)
    return metrics.record(), here


def line(trend: Trend, loader: str) -> dict[int, float]:
    found = next(one for one in trend.lines if one.loader == loader)
    return {point.day - trend.first: point.value for point in found.points}


def test_the_month_shows_what_happened_in_it(month: tuple[Record, Here]) -> None:
    record, _here = month
    assert models_of(record) == [LARGE, SMALL]
    found = {trend.figure: trend for trend in trends(record, LARGE, NOW, DAYS)}
    assert tuple(found) == FIGURES
    speeds = line(found["speed"], "xllamacpp")
    before = statistics.median(value for day, value in speeds.items() if day < UPDATED)
    between = statistics.median(value for day, value in speeds.items() if UPDATED < day < THREADS)
    after = statistics.median(value for day, value in speeds.items() if day > THREADS)
    assert 0.68 < between / before < 0.8 and 0.72 < after / between < 0.88
    assert set(line(found["speed"], "llama-cpp-python")) <= set(range(6))
    changes = {change.said: math.floor((change.at - NOW) / DAY_SECONDS) + DAYS for change in found["speed"].changes}
    assert abs(changes["xllamacpp 2026.10 → 2026.11"] - UPDATED) <= 1
    assert abs(changes["driver nvidia 550.54 → nvidia 560.35"] - DRIVER) <= 1
    assert abs(changes["threads 8 → 4"] - THREADS) <= 1


def test_older_days_are_told_by_their_sums(month: tuple[Record, Here]) -> None:
    record, _here = month
    exact = {trend.figure: trend for trend in trends(record, LARGE, NOW, DAYS)}
    sums = {trend.figure: trend for trend in trends(replace(record, replies=(), loads=()), LARGE, NOW, DAYS)}
    for figure in ("speed", "prompt", "load"):
        one, other = line(exact[figure], "xllamacpp"), line(sums[figure], "xllamacpp")
        assert one.keys() == other.keys()
        assert all(0.7 < other[day] / one[day] < 1.4 for day in one), figure
    assert {change.said for change in sums["speed"].changes} >= {"xllamacpp 2026.10 → 2026.11", "threads 8 → 4"}


def test_the_use_of_each_backend(month: tuple[Record, Here]) -> None:
    record, _here = month
    found = usage(record, NOW, DAYS)
    assert found[0].loader == "xllamacpp"
    assert sum(one.replies for one in found) == len(record.replies)
    assert sum(one.loads for one in found) == len(record.loads)
    ctransformers = next(one for one in found if one.loader == "ctransformers")
    assert (ctransformers.loads, ctransformers.loads_failed, ctransformers.replies) == (4, 4, 0)
    assert sum(one.replies for one in usage(record, NOW, 3)) < len(record.replies) / 4


def test_the_month_is_advised_upon(month: tuple[Record, Here]) -> None:
    found = advise(*month)
    assert {one.rule for one in found} >= {
        "backend-never-works",
        "failing-at-context",
        "growing-memory",
        "slower-since",
    }
    assert [one.weight for one in found] == sorted((one.weight for one in found), reverse=True)


def test_the_plots_say_in_words_what_they_show(month: tuple[Record, Here]) -> None:
    record, _here = month
    html = trends_html(record, LARGE, NOW, DAYS)
    assert html.count("<figure") == len(FIGURES)
    assert "threads 8 → 4" in html and 'aria-label="Speed of replies of' in html
    assert "nan" not in html and "inf" not in html
    assert "Nothing in this time" in trends_html(replace(record, days=(), replies=(), loads=()), "x", NOW, 7)


def test_one_value_makes_a_plot(month: tuple[Record, Here]) -> None:
    record, _here = month
    one = replace(record, replies=record.replies[-1:], loads=(), days=())
    for trend in trends(one, record.replies[-1].under.model, NOW, 7):
        assert "<circle" in trend_html(trend)


def test_names_from_files_are_shown_as_text(month: tuple[Record, Here]) -> None:
    record, _here = month
    evil = "<img src=x onerror=alert(1)>"
    under = replace(record.replies[-1].under, model=evil, loader=evil, version=evil)
    odd = Record(replies=[replace(one, under=under) for one in record.replies[-3:]], days=())
    assert "<img" not in trends_html(odd, evil, NOW, 30)


def plan(total: int, available: int, mapped: int = 0) -> MemoryPlan:
    host = DevicePlan("cpu", "RAM", weights=total, available=available, mapped=mapped)
    return MemoryPlan("m", "toy", False, True, "", (host,))


@pytest.mark.parametrize(
    ("total", "available", "mapped", "footprint", "told"),
    [
        (4 * GIB, 5 * GIB, 0, None, False),
        (4 * GIB, 5 * GIB, 0, Footprint(5, 1.05, 0), False),
        (4 * GIB, 5 * GIB, 0, Footprint(5, 1.4, 0), True),
        (4 * GIB, 5 * GIB, 0, Footprint(5, 1.0, 2 * GIB), True),
        (4 * GIB, 5 * GIB, 3 * GIB, Footprint(5, 1.4, 0), False),
        (6 * GIB, 5 * GIB, 0, Footprint(5, 1.4, 0), False),
    ],
)
def test_memory_that_will_run_out_is_told_before_the_load(
    total: int, available: int, mapped: int, footprint: Footprint | None, told: bool
) -> None:
    found = warned(plan(total, available, mapped), footprint)
    assert len(found.warnings) == int(told)
    if told and footprint is not None:
        assert "Memory may run out in use: 5 earlier loads" in found.warnings[0]
        assert footprint.growth == 0 or f"grew by up to {size(footprint.growth)[:3]}" in found.warnings[0]
