"""The record of use in a few figures: for each model and backend, how much was done and how it went."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from webui.planning.record import DayRecord, LoadRecord, Record, ReplyRecord
from webui.planning.record_rules import DAY_SECONDS


@dataclass(frozen=True, slots=True)
class Summary:
    """One model with one backend. Counts are of all that was asked for; the other figures are medians of what single
    records are still kept of, `None` where there are none. `errors` counts failures by kind.
    """

    model: str
    loader: str
    loads: int
    loads_failed: int
    replies: int
    replies_failed: int
    prompt_tokens: int
    tokens: int
    load_seconds: float | None
    first_token_seconds: float | None
    prompt_speed: float | None
    speed: float | None
    memory: int | None
    planned: int | None
    errors: dict[str, int] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def summaries(record: Record, now: float, days: int, model: str = "", loader: str = "") -> list[Summary]:
    """Of the last `days`, the most used first; `model` and `loader` leave others out."""
    first = int(now // DAY_SECONDS) - days + 1
    grouped: defaultdict[tuple[str, str], list[DayRecord]] = defaultdict(list)
    for one in record.days:
        under = one.under
        if one.day >= first and model in ("", under.model) and loader in ("", under.loader):
            grouped[under.model, under.loader].append(one)
    found = [_summary(record, key, sums, first) for key, sums in grouped.items()]
    return sorted(found, key=lambda one: (-one.replies, -one.loads, one.model, one.loader))


def _summary(record: Record, key: tuple[str, str], sums: Sequence[DayRecord], first: int) -> Summary:
    def mine(one: LoadRecord | ReplyRecord) -> bool:
        return (one.under.model, one.under.loader) == key and one.at >= first * DAY_SECONDS

    loads = [one for one in record.loads if mine(one)]
    replies = [one for one in record.replies if mine(one)]
    errors: defaultdict[str, int] = defaultdict(int)
    for count in record.errors:
        if (count.model, count.loader) == key and count.day >= first:
            errors[count.code] += count.number
    memory = _median(one.memory for one in replies)
    planned = _median(one.planned for one in loads)
    return Summary(
        *key,
        sum(one.loads for one in sums),
        sum(one.loads_failed for one in sums),
        sum(one.replies for one in sums),
        sum(one.replies_failed for one in sums),
        sum(one.prompt_tokens for one in sums),
        sum(one.tokens for one in sums),
        _median(one.seconds for one in loads if one.outcome == "worked"),
        _median(one.first_token for one in replies),
        _median(one.prompt_speed for one in replies if not one.shared),
        _median(one.speed for one in replies if not one.shared),
        int(memory) if memory is not None else None,
        int(planned) if planned is not None else None,
        dict(sorted(errors.items(), key=lambda item: (-item[1], item[0]))),
    )


def _median(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return statistics.median(known) if known else None
