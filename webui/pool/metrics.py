"""What the use of models has shown, kept over restarts: every load and reply for some weeks, their sums for a year.

Adding costs the event loop next to nothing: a thread writes. What is not in the file yet, or cannot be written, is held
in memory and told with the rest, so that a disk that is full, read-only or slow costs the copy and nothing else.
"""

from __future__ import annotations

import logging
import sqlite3
import threading
import time
from collections import defaultdict, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from webui.planning.record import Conditions, DayRecord, ErrorCount, LoadRecord, Record, ReplyRecord
from webui.planning.record_forecast import Footprint, footprint_of
from webui.pool.database import DAY_SECONDS, Writer
from webui.pool.metric_totals import Totals
from webui.pool.metrics_file import SUMS, Dismissed, Item, Kept, MetricsFile, Settings, day_of

log = logging.getLogger(__name__)

KEPT = Kept()
HELD = 5000
"""Records that are kept in memory while they cannot be written."""
RECENT_LOADS = 12
RECENT_REPLIES = 200
"""Of each model and loader, what forecasts are made from."""
RECALLED = 4000

Key = tuple[str, str]
"""A model and a loader."""


class Metrics:
    """See the module. With `path` None everything is kept in memory alone. Never raises.

    `totals` counts what was added in this process, for Prometheus. `changes` grows with everything that is added.
    """

    def __init__(self, path: Path | None, *, kept: Kept = KEPT, clock: Callable[[], float] = time.time) -> None:
        self.totals = Totals()
        self.changes = 0
        self._kept, self._clock = kept, clock
        self._lock = threading.Lock()
        """Holds what is in memory together."""
        self._at_file = threading.Lock()
        """One thread at a time at the file; taken before `_lock`."""
        self._waiting: deque[tuple[int, Item]] = deque(maxlen=HELD)
        self._settings: dict[str, Mapping[str, Any]] = {}
        self._dismissed: dict[str, Dismissed] = {}
        self._loads: defaultdict[Key, deque[LoadRecord]] = defaultdict(lambda: deque(maxlen=RECENT_LOADS))
        self._replies: defaultdict[Key, deque[ReplyRecord]] = defaultdict(lambda: deque(maxlen=RECENT_REPLIES))
        self._file = MetricsFile(path, kept) if path is not None else None
        self._recalled = threading.Event()
        self._writer: Writer[int] | None = None
        if self._file is not None:
            self._writer = Writer("the record of use", self._write, begin=self._recall, end=self._file.close)
        else:
            self._recalled.set()

    # --- adding: any thread -------------------------------------------------------------------------------------

    def add_load(self, record: LoadRecord, parameters: Mapping[str, Any] | None = None) -> None:
        """An attempt to load has ended; `parameters` are what the fingerprint of its settings stands for."""
        self.totals.add_load(record)
        with self._lock:
            self._loads[record.under.model, record.under.loader].append(record)
        if parameters is not None:
            self._add(Settings(record.under.settings, parameters, record.at))
        self._add(record)

    def add_reply(self, record: ReplyRecord) -> None:
        """A reply that an engine was asked for has ended, in whatever way."""
        self.totals.add_reply(record)
        with self._lock:
            self._replies[record.under.model, record.under.loader].append(record)
        self._add(record)

    def dismiss(self, key: str, size: float) -> None:
        """The advice of this key is not wanted as long as it is about no more than `size`."""
        dismissed = Dismissed(key, size, self._clock())
        with self._lock:
            self._dismissed[key] = dismissed
        self._add(dismissed)

    # --- asking -------------------------------------------------------------------------------------------------

    def record(self, days: float | None = None) -> Record:
        """What is kept of the last `days`; of sums, all. Reads the file: to be called in a thread."""
        since = self._clock() - (self._kept.days if days is None else days) * DAY_SECONDS
        with self._at_file:
            found = self._read(since)
            with self._lock:
                waiting = [item for _number, item in self._waiting]
                settings = {**found.settings, **self._settings}
        records = [item for item in waiting if isinstance(item, LoadRecord | ReplyRecord)]
        recent = [item for item in records if item.at >= since]
        return Record(
            [*found.loads, *(item for item in recent if isinstance(item, LoadRecord))],
            [*found.replies, *(item for item in recent if isinstance(item, ReplyRecord))],
            _with_days(found.days, records),
            _with_errors(found.errors, records),
            settings,
        )

    def dismissed(self) -> dict[str, float]:
        """How large what was dismissed was, by the key of the advice."""
        self._recalled.wait(1.0)
        with self._lock:
            return {key: one.size for key, one in self._dismissed.items()}

    def footprint(self, model: str, loader: str, context: int) -> Footprint | None:
        """What loads of `model` have held beyond their plans, and have grown by in use. Instant."""
        with self._lock:
            loads = tuple(self._loads.get((model, loader), ()))
            replies = tuple(self._replies.get((model, loader), ()))
        return footprint_of(loads, replies, context)

    def close(self) -> None:
        """Write what is still to be written, and let go of the file."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    # --- small parts --------------------------------------------------------------------------------------------

    def _add(self, item: Item) -> None:
        with self._lock:
            self.changes += 1
            self._waiting.append((self.changes, item))
            if isinstance(item, Settings):
                self._settings[item.fingerprint] = item.parameters
        if self._writer is not None:
            self._writer.put(self.changes)

    def _read(self, since: float) -> Record:
        if self._file is None:
            return Record()
        try:
            return self._file.read(since)
        except (OSError, sqlite3.Error) as error:
            log.info("The record of use cannot be read: %s", error)
            return Record()

    # --- the file: the writer's thread --------------------------------------------------------------------------

    def _recall(self) -> None:
        """What forecasts and dismissals need of earlier runs, before what this one has added meanwhile."""
        assert self._file is not None
        try:
            with self._at_file:
                found, dismissed = self._file.read(most=RECALLED), self._file.dismissed()
            with self._lock:
                self._dismissed = {one.key: one for one in dismissed} | self._dismissed
                _put_before(self._loads, found.loads)
                _put_before(self._replies, found.replies)
        finally:
            self._recalled.set()

    def _write(self, numbers: list[int]) -> None:
        """Everything that waits, also what could not be written before."""
        assert self._file is not None
        with self._at_file:
            with self._lock:
                waiting = list(self._waiting)
            if not waiting:
                return
            self._file.add([item for _number, item in waiting], self._clock())
            with self._lock:
                while self._waiting and self._waiting[0][0] <= waiting[-1][0]:
                    self._waiting.popleft()


def _put_before(kept: defaultdict[Key, deque[Any]], earlier: Sequence[LoadRecord | ReplyRecord]) -> None:
    added = {key: list(items) for key, items in kept.items()}
    kept.clear()
    for item in earlier:
        kept[item.under.model, item.under.loader].append(item)
    for key, items in added.items():
        kept[key].extend(items)


def _with_days(days: Sequence[DayRecord], records: Sequence[LoadRecord | ReplyRecord]) -> list[DayRecord]:
    """The sums with those of records that are not in them yet."""
    found: dict[tuple[int, Conditions], DayRecord] = {(one.day, one.under): one for one in days}
    for record in records:
        new = day_of(record)
        old = found.get((new.day, new.under))
        if old is not None:
            sums = {name: getattr(old, name) + getattr(new, name) for name in SUMS}
            new = replace(new, **sums, memory=max(old.memory, new.memory))
        found[new.day, new.under] = new
    return sorted(found.values(), key=lambda one: one.day)


def _with_errors(errors: Sequence[ErrorCount], records: Sequence[LoadRecord | ReplyRecord]) -> list[ErrorCount]:
    found = list(errors)
    for record in records:
        if record.code:
            under = record.under
            day = int(record.at // DAY_SECONDS)
            found.append(ErrorCount(day, under.model, under.loader, record.category, record.code, 1))
    return found
