"""Trends: how a figure of one model went day by day with each backend, and when what it ran under changed."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from webui.planning.record import Conditions, DayRecord, LoadRecord, Record, ReplyRecord
from webui.planning.record_advice_speed import differences
from webui.planning.record_rules import DAY_SECONDS
from webui.planning.robust import upper

Figure = Literal["speed", "prompt", "first token", "memory", "load"]
FIGURES: tuple[Figure, ...] = ("speed", "prompt", "first token", "memory", "load")


@dataclass(frozen=True, slots=True)
class Point:
    """The median of a day, and where four in five of its `count` values lie; of days long ago the mean alone."""

    day: int
    value: float
    low: float
    high: float
    count: int


@dataclass(frozen=True, slots=True)
class Line:
    loader: str
    points: tuple[Point, ...]


@dataclass(frozen=True, slots=True)
class Change:
    """Something changed between two loads with `loader`; `at` is when the new was first seen."""

    at: float
    loader: str
    said: str


@dataclass(frozen=True, slots=True)
class Trend:
    """One figure of one model from `first` to `last` (days since 1970)."""

    model: str
    figure: Figure
    first: int
    last: int
    lines: tuple[Line, ...]
    changes: tuple[Change, ...] = ()


@dataclass(frozen=True, slots=True)
class Usage:
    """What was done with one backend: `models` by how many replies each wrote with it."""

    loader: str
    replies: int
    replies_failed: int
    tokens: int
    loads: int
    loads_failed: int
    models: tuple[tuple[str, int], ...]


def trends(record: Record, model: str, now: float, days: int) -> list[Trend]:
    """Every figure of `model` of which there is something in the last `days`."""
    last = int(now // DAY_SECONDS)
    first = last - days + 1
    changes = tuple(_changes(record, model, first * DAY_SECONDS))
    found = [Trend(model, figure, first, last, _lines(record, model, figure, first), changes) for figure in FIGURES]
    return [trend for trend in found if trend.lines]


def usage(record: Record, now: float, days: int, model: str = "") -> list[Usage]:
    """By backend, the one that wrote most first."""
    first = int(now // DAY_SECONDS) - days + 1
    grouped: defaultdict[str, list[DayRecord]] = defaultdict(list)
    for one in record.days:
        if one.day >= first and model in ("", one.under.model):
            grouped[one.under.loader].append(one)
    found = [_usage(loader, sums) for loader, sums in grouped.items()]
    return sorted(found, key=lambda one: (-one.replies, -one.loads, one.loader))


def models_of(record: Record) -> list[str]:
    """The models there is something of, the one with most replies first."""
    counts: defaultdict[str, int] = defaultdict(int)
    for one in record.days:
        counts[one.under.model] += one.replies
    return sorted(counts, key=lambda name: (-counts[name], name))


def _usage(loader: str, sums: Sequence[DayRecord]) -> Usage:
    models: defaultdict[str, int] = defaultdict(int)
    for one in sums:
        models[one.under.model] += one.replies
    ordered = sorted(models.items(), key=lambda item: (-item[1], item[0]))
    return Usage(
        loader,
        sum(one.replies for one in sums),
        sum(one.replies_failed for one in sums),
        sum(one.tokens for one in sums),
        sum(one.loads for one in sums),
        sum(one.loads_failed for one in sums),
        tuple(ordered),
    )


def _lines(record: Record, model: str, figure: Figure, first: int) -> tuple[Line, ...]:
    """By backend; a day with records of its own is told by those, an older one by its sums."""
    values: defaultdict[str, defaultdict[int, list[float]]] = defaultdict(lambda: defaultdict(list))
    for at, under, value in _values(record, figure):
        if under.model == model and at >= first * DAY_SECONDS:
            values[under.loader][int(at // DAY_SECONDS)].append(value)
    points: defaultdict[str, dict[int, Point]] = defaultdict(dict)
    for loader, by_day in values.items():
        points[loader] = {day: _point(day, its) for day, its in by_day.items()}
    for (loader, day), sums in _by_day(record, model, first).items():
        if day not in points[loader] and (mean := _mean(sums, figure)) is not None:
            points[loader][day] = Point(day, mean[0], mean[0], mean[0], mean[1])
    lines = [Line(name, tuple(by_day[day] for day in sorted(by_day))) for name, by_day in points.items() if by_day]
    return tuple(sorted(lines, key=lambda line: (-sum(point.count for point in line.points), line.loader)))


def _values(record: Record, figure: Figure) -> Iterable[tuple[float, Conditions, float]]:
    if figure == "load":
        return [(one.at, one.under, one.seconds) for one in record.loads if one.outcome == "worked"]
    asked: dict[Figure, Callable[[ReplyRecord], float | None]] = {
        "speed": lambda one: None if one.shared else one.speed,
        "prompt": lambda one: None if one.shared else one.prompt_speed,
        "first token": lambda one: one.first_token,
        "memory": lambda one: one.memory,
    }
    ask = asked[figure]
    return [(one.at, one.under, value) for one in record.replies if (value := ask(one)) is not None]


def _by_day(record: Record, model: str, first: int) -> dict[tuple[str, int], list[DayRecord]]:
    found: defaultdict[tuple[str, int], list[DayRecord]] = defaultdict(list)
    for one in record.days:
        if one.under.model == model and one.day >= first:
            found[one.under.loader, one.day].append(one)
    return dict(found)


def _mean(sums: Sequence[DayRecord], figure: Figure) -> tuple[float, int] | None:
    """The mean and how many values it is of, as far as sums tell it."""
    if figure == "memory":
        most = max(one.memory for one in sums)
        return (float(most), sum(one.replies for one in sums)) if most else None
    above, below, count = {
        "speed": ("timed_tokens", "seconds", "replies"),
        "prompt": ("timed_read", "prompt_seconds", "replies"),
        "first token": ("first_token_seconds", "first_tokens", "first_tokens"),
        "load": ("load_seconds", "", "loads"),
    }[figure]
    number = sum(getattr(one, count) for one in sums)
    if figure == "load":
        number -= sum(one.loads_failed for one in sums)
    divisor = sum(getattr(one, below) for one in sums) if below else number
    total = sum(getattr(one, above) for one in sums)
    return (total / divisor, number) if divisor > 0 and total > 0 else None


def _point(day: int, values: Sequence[float]) -> Point:
    return Point(day, statistics.median(values), upper(values, 0.1), upper(values), len(values))


def _changes(record: Record, model: str, since: float) -> list[Change]:
    """When version, driver, settings or device became others. What several backends saw is told once, by the first."""
    found: list[Change] = []
    before: dict[str, Conditions] = {}
    for at, under in _seen(record, model):
        old = before.get(under.loader)
        before[under.loader] = under
        if old is None or at < since:
            continue
        for said in _said(old, under, record):
            if not any(one.said == said and one.loader != under.loader for one in found):
                found.append(Change(at, under.loader, said))
    return found


def _seen(record: Record, model: str) -> list[tuple[float, Conditions]]:
    """What it ran under, in order of time: from the records, and before those from the sums of days."""
    records: list[LoadRecord | ReplyRecord] = [
        *(one for one in record.loads if one.outcome == "worked"),
        *record.replies,
    ]
    exact = sorted(((one.at, one.under) for one in records if one.under.model == model), key=lambda one: one[0])
    begin = int(exact[0][0] // DAY_SECONDS) if exact else None
    older = [
        (one.day * DAY_SECONDS, one.under)
        for one in record.days
        if one.under.model == model and one.replies and (begin is None or one.day < begin)
    ]
    return [*older, *exact]


def _said(old: Conditions, new: Conditions, record: Record) -> Iterator[str]:
    if old.version != new.version:
        yield f"{new.loader} {old.version or '?'} → {new.version or '?'}"
    if old.driver != new.driver:
        yield f"driver {old.driver or 'none'} → {new.driver or 'none'}"
    if old.settings != new.settings:
        yield differences(record.settings.get(old.settings, {}), record.settings.get(new.settings, {}))
    if old.device != new.device:
        yield f"{new.loader} on {old.device or '?'} → {new.device or '?'}"
