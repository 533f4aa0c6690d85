"""The file of the metrics: its tables, and what is thrown away. Used by one thread at a time.

Each row of `loads` and `replies` is a record; `days` and `errors` hold their sums, which are kept longer. Sums are made
as records are written, so that throwing records away later changes nothing.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import astuple, dataclass, fields
from pathlib import Path
from typing import Any, TypeVar

from webui.planning.record import Conditions, DayRecord, ErrorCount, LoadRecord, Record, ReplyRecord
from webui.pool.database import DAY_SECONDS, DatabaseFile

SCHEMA_VERSION = 1
TYPES = {"float": "REAL", "float | None": "REAL", "int": "INTEGER", "int | None": "INTEGER", "bool": "INTEGER"}
"""Columns of fields of these types; others are text."""
UNDER = tuple(one.name for one in fields(Conditions))
DAY_KEY = ("day", *UNDER)
SUMS = tuple(one.name for one in fields(DayRecord) if one.name not in ("day", "under", "memory"))

Kind = TypeVar("Kind", LoadRecord, ReplyRecord, DayRecord)


@dataclass(frozen=True, slots=True)
class Kept:
    """For how many days single records and sums are kept, and how many records of a kind at most."""

    days: int = 42
    sums: int = 400
    records: int = 50_000


@dataclass(frozen=True, slots=True)
class Settings:
    """What a fingerprint of parameters stands for."""

    fingerprint: str
    parameters: Mapping[str, Any]
    at: float


@dataclass(frozen=True, slots=True)
class Dismissed:
    """Advice that somebody does not want to see: what it was about, and how large it was then."""

    key: str
    size: float
    at: float


Item = LoadRecord | ReplyRecord | Settings | Dismissed


def _columns(kind: type[Any]) -> list[tuple[str, str]]:
    """Names and types of the columns of a record; its conditions are spread out."""
    found = []
    for one in fields(kind):
        if one.name == "under":
            found += [
                (name, TYPES.get(str(part.type), "TEXT")) for name, part in zip(UNDER, fields(Conditions), strict=True)
            ]
        else:
            found.append((one.name, TYPES.get(str(one.type), "TEXT")))
    return found


def _table(name: str, kind: type[Any]) -> str:
    columns = ", ".join(f"{column} {sort}" for column, sort in _columns(kind))
    return f"CREATE TABLE {name} (number INTEGER PRIMARY KEY AUTOINCREMENT, {columns})"


_SCHEMA = (
    _table("loads", LoadRecord),
    _table("replies", ReplyRecord),
    "CREATE INDEX replies_at ON replies (at)",
    f"CREATE TABLE days ({', '.join(f'{column} {sort} NOT NULL' for column, sort in _columns(DayRecord))},"
    f" PRIMARY KEY ({', '.join(DAY_KEY)})) WITHOUT ROWID",
    "CREATE TABLE errors (day INTEGER NOT NULL, model TEXT NOT NULL, loader TEXT NOT NULL, category TEXT NOT NULL,"
    " code TEXT NOT NULL, number INTEGER NOT NULL, PRIMARY KEY (day, model, loader, category, code)) WITHOUT ROWID",
    "CREATE TABLE settings (fingerprint TEXT PRIMARY KEY, parameters TEXT NOT NULL, at REAL NOT NULL) WITHOUT ROWID",
    "CREATE TABLE dismissed (key TEXT PRIMARY KEY, size REAL NOT NULL, at REAL NOT NULL) WITHOUT ROWID",
)


class MetricsFile:
    """Methods raise `OSError` or `sqlite3.Error`."""

    def __init__(self, path: Path, kept: Kept) -> None:
        self._kept = kept
        self._file = DatabaseFile(path, version=SCHEMA_VERSION, schema=_SCHEMA, subject="the record of use")

    def add(self, items: Sequence[Item], now: float) -> None:
        """Write `items` in one transaction, and throw away what is too old or too much."""
        self._file.work(lambda database: _write(database, items, self._kept, now))

    def read(self, since: float = 0.0, most: int = -1) -> Record:
        """What is kept from `since` on, of each kind of records the latest `most`, oldest first; all of the sums."""

        latest = "WHERE at >= ? ORDER BY number DESC LIMIT ?"

        def work(database: sqlite3.Connection) -> Record:
            return Record(
                _rows(database, "loads", LoadRecord, latest, (since, most))[::-1],
                _rows(database, "replies", ReplyRecord, latest, (since, most))[::-1],
                _rows(database, "days", DayRecord, "ORDER BY day", ()),
                [ErrorCount(*row) for row in database.execute("SELECT * FROM errors ORDER BY day")],
                {
                    key: json.loads(text)
                    for key, text in database.execute("SELECT fingerprint, parameters FROM settings")
                },
            )

        return self._file.work(work)

    def dismissed(self) -> list[Dismissed]:
        return self._file.work(
            lambda database: [Dismissed(*row) for row in database.execute("SELECT key, size, at FROM dismissed")]
        )

    def close(self) -> None:
        self._file.close()


def flat(record: LoadRecord | ReplyRecord | DayRecord) -> list[Any]:
    """The values of a record in the order of its columns."""
    found: list[Any] = []
    for one in fields(record):
        value = getattr(record, one.name)
        found += astuple(value) if one.name == "under" else [value]
    return found


def day_of(record: LoadRecord | ReplyRecord) -> DayRecord:
    """What one record adds to the sums of its day."""
    day = int(record.at // DAY_SECONDS)
    failed = int(record.outcome == "failed")
    if isinstance(record, LoadRecord):
        return DayRecord(day, record.under, 1, failed, 0.0 if failed else record.seconds)
    timed = record.tokens - 1 if record.speed else 0
    read = record.read if record.prompt_speed else 0
    return DayRecord(
        day,
        record.under,
        replies=1,
        replies_failed=failed,
        prompt_tokens=record.prompt_tokens,
        tokens=record.tokens,
        timed_tokens=timed,
        seconds=timed / record.speed if record.speed else 0.0,
        timed_read=read,
        prompt_seconds=read / record.prompt_speed if record.prompt_speed else 0.0,
        first_tokens=int(record.first_token is not None),
        first_token_seconds=record.first_token or 0.0,
        memory=record.memory or 0,
    )


def _rows(database: sqlite3.Connection, table: str, kind: type[Kind], rest: str, values: tuple[Any, ...]) -> list[Kind]:
    names = [name for name, _sort in _columns(kind)]
    place = names.index(UNDER[0])
    end = place + len(UNDER)
    shared: dict[tuple[Any, ...], Conditions] = {}
    make: Callable[..., Kind] = kind
    found: list[Kind] = []
    for row in database.execute(f"SELECT {', '.join(names)} FROM {table} {rest}", values):
        key = row[place:end]
        if key not in shared:
            shared[key] = Conditions(*key)
        found.append(make(*row[:place], shared[key], *row[end:]))
    return found


def _write(database: sqlite3.Connection, items: Sequence[Item], kept: Kept, now: float) -> None:
    with database:  # a transaction: committed at its end, rolled back by an error
        database.execute("BEGIN IMMEDIATE")
        for item in items:
            if isinstance(item, Settings):
                row = (item.fingerprint, json.dumps(item.parameters, sort_keys=True), item.at)
                database.execute(
                    "INSERT INTO settings VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET at = excluded.at", row
                )
            elif isinstance(item, Dismissed):
                database.execute("INSERT OR REPLACE INTO dismissed VALUES (?, ?, ?)", astuple(item))
            else:
                _insert(
                    database, "loads" if isinstance(item, LoadRecord) else "replies", flat(item), _columns(type(item))
                )
        _add_up(database, [item for item in items if isinstance(item, LoadRecord | ReplyRecord)])
        _forget(database, kept, now)


def _insert(database: sqlite3.Connection, table: str, row: list[Any], columns: list[tuple[str, str]]) -> None:
    names, marks = ", ".join(name for name, _sort in columns), ", ".join("?" * len(row))
    database.execute(f"INSERT INTO {table} ({names}) VALUES ({marks})", row)


def _add_up(database: sqlite3.Connection, records: Iterable[LoadRecord | ReplyRecord]) -> None:
    names = [name for name, _sort in _columns(DayRecord)]
    sums = ", ".join(f"{name} = {name} + excluded.{name}" for name in SUMS)
    query = (
        f"INSERT INTO days ({', '.join(names)}) VALUES ({', '.join('?' * len(names))})"
        f" ON CONFLICT DO UPDATE SET {sums}, memory = max(memory, excluded.memory)"
    )
    for record in records:
        database.execute(query, flat(day_of(record)))
        if record.code:
            key = (int(record.at // DAY_SECONDS), record.under.model, record.under.loader, record.category, record.code)
            database.execute(
                "INSERT INTO errors VALUES (?, ?, ?, ?, ?, 1) ON CONFLICT DO UPDATE SET number = number + 1", key
            )


def _forget(database: sqlite3.Connection, kept: Kept, now: float) -> None:
    oldest, oldest_day = now - kept.days * DAY_SECONDS, int(now // DAY_SECONDS) - kept.sums
    for table in ("loads", "replies"):
        database.execute(
            f"DELETE FROM {table} WHERE at < ? OR number <= (SELECT max(number) FROM {table}) - ?",
            (oldest, kept.records),
        )
    for table in ("days", "errors"):
        database.execute(f"DELETE FROM {table} WHERE day < ?", (oldest_day,))
    for table in ("settings", "dismissed"):
        database.execute(f"DELETE FROM {table} WHERE at < ?", (oldest_day * DAY_SECONDS,))
