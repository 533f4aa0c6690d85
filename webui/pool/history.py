"""What happened in the pool, kept over restarts: loads with their ladders, failures, and how often each loader fails.

The truth of a running app is in memory, so that asking and adding cost the event loop next to nothing; a thread copies
what is new into a file. A disk that is full, read-only or slow therefore costs the copy and nothing else.
"""

from __future__ import annotations

import json
import logging
import threading
import time
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from webui.pool.database import DAY_SECONDS, Writer
from webui.pool.history_file import Counted, HistoryFile, Kept, Record, Table
from webui.pool.records import failure_from_dict, failure_to_dict, story_from_dict, story_to_dict
from webui.pool.status import Failure, LoadStory

log = logging.getLogger(__name__)

READ_SECONDS = 5.0
"""How long a reader waits for the records of earlier runs. They are there within milliseconds of the start."""
TRIED = frozenset({"worked", "failed"})
"""States of a rung that was an attempt with its loader."""
KEPT = Kept(loads=500, failures=2000, days=90)

T = TypeVar("T", bound=LoadStory | Failure)


@dataclass(frozen=True, slots=True)
class Rate:
    """How often one loader fails: loads tried and replies begun with it, and failures, in all and of each kind."""

    loader: str
    attempts: int
    failures: int
    by_category: dict[str, int] = field(default_factory=dict)
    by_code: dict[str, int] = field(default_factory=dict)

    @property
    def share(self) -> float | None:
        """Failures per attempt, at most 1; `None` where nothing was attempted."""
        return min(1.0, self.failures / self.attempts) if self.attempts else None


class History:
    """Newest first, bounded in number and age. With `path` None it is kept in memory alone. Never raises."""

    def __init__(self, path: Path | None, *, kept: Kept = KEPT, clock: Callable[[], float] = time.time) -> None:
        self._kept = kept
        self._clock = clock
        self._lock = threading.Lock()
        self._loads: deque[LoadStory] = deque(maxlen=kept.loads)
        self._failures: deque[Failure] = deque(maxlen=kept.failures)
        self._counts: Counter[Counted] = Counter()
        self._read = threading.Event()
        self._writer: Writer[Record] | None = None
        if path is None:
            self._read.set()
        else:
            file = HistoryFile(path, kept)
            self._writer = Writer(
                "the history of loads and failures",
                lambda batch: file.add(batch, self._today()),
                begin=lambda: self._recall(file),
                end=file.close,
            )

    # --- adding: any thread, the event loop above all ----------------------------------------------------------

    def add_load(self, story: LoadStory) -> None:
        """A load or restart that has ended, in whatever way."""
        data = story_to_dict(story)
        tried = [rung.attempt.loader for rung in story.rungs if rung.state in TRIED]
        counted = Counter(self._attempt(loader) for loader in tried)
        self._add(self._loads, story_from_dict(data), Record(Table.LOADS, story.at, data, counted))

    def add_failure(self, failure: Failure) -> None:
        """Something went wrong. A load's failed steps are added one by one, beside the load itself."""
        data = failure_to_dict(failure)
        counted = Counter([Counted(self._today(), failure.loader, failure.error.category, failure.error.code)])
        self._add(self._failures, failure_from_dict(data), Record(Table.FAILURES, failure.at, data, counted))

    def add_reply(self, loader: str) -> None:
        """A reply was begun with `loader`."""
        counted = Counter([self._attempt(loader)])
        with self._lock:
            self._counts.update(counted)
        self._put(Record(None, self._clock(), {}, counted))

    # --- asking ----------------------------------------------------------------------------------------------

    def loads(self, limit: int = 50) -> list[LoadStory]:
        """Loads and restarts, newest first."""
        return self._newest(self._loads, limit)

    def failures(self, limit: int = 100) -> list[Failure]:
        """What went wrong, newest first."""
        return self._newest(self._failures, limit)

    def rates(self) -> list[Rate]:
        """One rate for each loader that was ever tried within the days that are kept, by name."""
        self._read.wait(READ_SECONDS)
        oldest = self._today() - self._kept.days
        with self._lock:
            counts = [(counted, number) for counted, number in self._counts.items() if counted.day >= oldest]
        attempts: Counter[str] = Counter()
        categories: dict[str, Counter[str]] = {}
        codes: dict[str, Counter[str]] = {}
        for counted, number in counts:
            loader = counted.loader
            attempts[loader] += 0 if counted.code else number
            categories.setdefault(loader, Counter())
            codes.setdefault(loader, Counter())
            if counted.code:
                categories[loader][counted.category] += number
                codes[loader][counted.code] += number
        return [
            Rate(
                loader,
                attempts[loader],
                codes[loader].total(),
                dict(categories[loader].most_common()),
                dict(codes[loader].most_common()),
            )
            for loader in sorted(codes)
        ]

    def close(self) -> None:
        """Write what is still to be written, and let go of the file."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def _today(self) -> int:
        return int(self._clock() // DAY_SECONDS)

    def _attempt(self, loader: str) -> Counted:
        return Counted(self._today(), loader, "", "")

    def _add(self, records: deque[T], item: T, record: Record) -> None:
        with self._lock:
            records.append(item)
            self._counts.update(record.counted)
        self._put(record)

    def _put(self, record: Record) -> None:
        if self._writer is not None:
            self._writer.put(record)

    def _newest(self, records: deque[T], limit: int) -> list[T]:
        self._read.wait(READ_SECONDS)
        oldest = self._clock() - self._kept.days * DAY_SECONDS
        with self._lock:
            newest = [item for item in reversed(records) if item.at >= oldest]
        return newest[:limit]

    # --- the file: the writer's thread only ------------------------------------------------------------------

    def _recall(self, file: HistoryFile) -> None:
        """Put what earlier runs left before what this one has added meanwhile."""
        try:
            loads = _parsed(file.read(Table.LOADS), story_from_dict)
            failures = _parsed(file.read(Table.FAILURES), failure_from_dict)
            counts = file.counts()
            with self._lock:
                _put_before(self._loads, loads)
                _put_before(self._failures, failures)
                self._counts.update(counts)
        finally:
            self._read.set()


def _put_before(records: deque[T], earlier: list[T]) -> None:
    together = [*earlier, *records]
    records.clear()
    records.extend(together)


def _parsed(texts: list[str], read: Callable[[dict[str, Any]], T]) -> list[T]:
    """The records that can be read; one that cannot costs itself only."""
    found: list[T] = []
    for text in texts:
        try:
            found.append(read(json.loads(text)))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            log.info("A record of the history is left aside: %s: %s", type(error).__name__, error)
    return found
