"""Counts of this process since its start, as Prometheus wants them: they only ever grow."""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections import Counter, defaultdict
from copy import deepcopy
from dataclasses import dataclass, field

from webui.planning.record import LoadRecord, ReplyRecord

BOUNDS = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0)
"""Upper bounds in seconds of the classes that times are counted in."""

Served = tuple[str, str]
"""A model and a loader."""


@dataclass(slots=True)
class Times:
    """How many times lay in each class of `BOUNDS`, the last being those beyond, and their sum."""

    counts: list[int] = field(default_factory=lambda: [0] * (len(BOUNDS) + 1))
    seconds: float = 0.0

    def add(self, seconds: float) -> None:
        self.counts[bisect_left(BOUNDS, seconds)] += 1
        self.seconds += seconds


@dataclass(slots=True)
class Counts:
    """`loads` and `replies` by model, loader and outcome, `errors` by loader, category and code."""

    loads: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    replies: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    errors: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    load_times: defaultdict[Served, Times] = field(default_factory=lambda: defaultdict(Times))
    first_tokens: defaultdict[Served, Times] = field(default_factory=lambda: defaultdict(Times))
    prompt_tokens: Counter[Served] = field(default_factory=Counter)
    cached_tokens: Counter[Served] = field(default_factory=Counter)
    tokens: Counter[Served] = field(default_factory=Counter)
    prompt_seconds: defaultdict[Served, float] = field(default_factory=lambda: defaultdict(float))
    seconds: defaultdict[Served, float] = field(default_factory=lambda: defaultdict(float))


class Totals:
    """May be used by any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts = Counts()

    def counts(self) -> Counts:
        """A copy of all of them at one moment."""
        with self._lock:
            return deepcopy(self._counts)

    def add_load(self, record: LoadRecord) -> None:
        under = record.under
        with self._lock:
            self._counts.loads[under.model, under.loader, record.outcome] += 1
            if record.outcome == "worked":
                self._counts.load_times[under.model, under.loader].add(record.seconds)
            self._count_error(record)

    def add_reply(self, record: ReplyRecord) -> None:
        key = (record.under.model, record.under.loader)
        with self._lock:
            counts = self._counts
            counts.replies[*key, record.outcome] += 1
            counts.prompt_tokens[key] += record.prompt_tokens
            counts.cached_tokens[key] += record.prompt_tokens - record.read
            counts.tokens[key] += record.tokens
            if record.first_token is not None:
                counts.first_tokens[key].add(record.first_token)
            if record.prompt_speed:
                counts.prompt_seconds[key] += record.read / record.prompt_speed
            if record.speed:
                counts.seconds[key] += (record.tokens - 1) / record.speed
            self._count_error(record)

    def _count_error(self, record: LoadRecord | ReplyRecord) -> None:
        if record.code:
            self._counts.errors[record.under.loader, record.category, record.code] += 1
