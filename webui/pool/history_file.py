"""The file of the history: its tables, and what is thrown away. Used by one thread."""

from __future__ import annotations

import json
import sqlite3
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any, NamedTuple

from webui.pool.database import DAY_SECONDS, DatabaseFile

SCHEMA_VERSION = 1
_SCHEMA = (
    "CREATE TABLE loads (number INTEGER PRIMARY KEY AUTOINCREMENT, at REAL NOT NULL, record TEXT NOT NULL)",
    "CREATE TABLE failures (number INTEGER PRIMARY KEY AUTOINCREMENT, at REAL NOT NULL, record TEXT NOT NULL)",
    "CREATE TABLE counts (day INTEGER NOT NULL, loader TEXT NOT NULL, category TEXT NOT NULL, code TEXT NOT NULL,"
    " number INTEGER NOT NULL, PRIMARY KEY (day, loader, category, code)) WITHOUT ROWID",
)


class Table(StrEnum):
    LOADS = "loads"
    FAILURES = "failures"


@dataclass(frozen=True, slots=True)
class Kept:
    """How much is kept: the latest loads, the latest failures, and of both nothing older than `days`."""

    loads: int
    failures: int
    days: int

    def of(self, table: Table) -> int:
        return self.loads if table is Table.LOADS else self.failures


class Counted(NamedTuple):
    """What is counted by the day (days since 1970): failures of one kind, or attempts, whose kind is empty."""

    day: int
    loader: str
    category: str
    code: str


@dataclass(frozen=True, slots=True)
class Record:
    """One thing to write: a row of `table` (none where only something is counted), and what it adds to the counts."""

    table: Table | None
    at: float
    data: dict[str, Any]
    counted: Counter[Counted] = field(default_factory=Counter)


class HistoryFile:
    """Methods raise `OSError` or `sqlite3.Error`."""

    def __init__(self, path: Path, kept: Kept) -> None:
        self._kept = kept
        self._file = DatabaseFile(path, version=SCHEMA_VERSION, schema=_SCHEMA, subject="the history")

    def read(self, table: Table) -> list[str]:
        """The kept records of `table` as JSON, oldest first."""
        query = f"SELECT record FROM {table} ORDER BY number DESC LIMIT ?"
        rows = self._file.work(lambda database: database.execute(query, (self._kept.of(table),)).fetchall())
        return [record for (record,) in reversed(rows)]

    def counts(self) -> dict[Counted, int]:
        query = "SELECT day, loader, category, code, number FROM counts"
        rows = self._file.work(lambda database: database.execute(query).fetchall())
        return {Counted(*key): number for *key, number in rows}

    def add(self, records: Sequence[Record], today: int) -> None:
        """Write `records` in one transaction, and throw away what is too old or too much."""
        self._file.work(lambda database: self._add(database, records, today))

    def close(self) -> None:
        self._file.close()

    def _add(self, connection: sqlite3.Connection, records: Sequence[Record], today: int) -> None:
        oldest_day = today - self._kept.days
        with connection:  # a transaction: committed at its end, rolled back by an error
            connection.execute("BEGIN IMMEDIATE")
            for record in records:
                if record.table is not None:
                    row = (record.at, json.dumps(record.data))
                    connection.execute(f"INSERT INTO {record.table} (at, record) VALUES (?, ?)", row)
                connection.executemany(
                    "INSERT INTO counts VALUES (?, ?, ?, ?, ?)"
                    " ON CONFLICT DO UPDATE SET number = number + excluded.number",
                    [(*counted, number) for counted, number in record.counted.items()],
                )
            for table in Table:
                connection.execute(
                    f"DELETE FROM {table} WHERE at < ? OR number <= (SELECT max(number) FROM {table}) - ?",
                    (oldest_day * DAY_SECONDS, self._kept.of(table)),
                )
            connection.execute("DELETE FROM counts WHERE day < ?", (oldest_day,))
