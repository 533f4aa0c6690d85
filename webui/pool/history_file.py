"""The file of the history: its tables, how it is opened, and what is thrown away.

SQLite in WAL mode, so that two apps with the same home may write to it. A file that is damaged is set aside under
another name and a new one begun; a file of a newer version of the app is left alone. Used by one thread.
"""

from __future__ import annotations

import json
import logging
import sqlite3
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

log = logging.getLogger(__name__)

SCHEMA_VERSION = 1
DAY_SECONDS = 86400.0
BUSY_SECONDS = 5.0
DAMAGED = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})
BESIDE = ("-wal", "-shm")
"""SQLite's own files beside the database."""

_SCHEMA = (
    "CREATE TABLE loads (number INTEGER PRIMARY KEY AUTOINCREMENT, at REAL NOT NULL, record TEXT NOT NULL)",
    "CREATE TABLE failures (number INTEGER PRIMARY KEY AUTOINCREMENT, at REAL NOT NULL, record TEXT NOT NULL)",
    "CREATE TABLE counts (day INTEGER NOT NULL, loader TEXT NOT NULL, category TEXT NOT NULL, code TEXT NOT NULL,"
    " number INTEGER NOT NULL, PRIMARY KEY (day, loader, category, code)) WITHOUT ROWID",
)

R = TypeVar("R")


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
    """Opened at its first use, and again after a fault. Methods raise `OSError` or `sqlite3.Error`."""

    def __init__(self, path: Path, kept: Kept) -> None:
        self.path = path
        self._kept = kept
        self._connection: sqlite3.Connection | None = None

    def read(self, table: Table) -> list[str]:
        """The kept records of `table` as JSON, oldest first."""
        query = f"SELECT record FROM {table} ORDER BY number DESC LIMIT ?"
        rows = self._work(lambda database: database.execute(query, (self._kept.of(table),)).fetchall())
        return [record for (record,) in reversed(rows)]

    def counts(self) -> dict[Counted, int]:
        query = "SELECT day, loader, category, code, number FROM counts"
        rows = self._work(lambda database: database.execute(query).fetchall())
        return {Counted(*key): number for *key, number in rows}

    def add(self, records: Sequence[Record], today: int) -> None:
        """Write `records` in one transaction, and throw away what is too old or too much."""
        self._work(lambda database: self._add(database, records, today))

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

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

    def _work(self, work: Callable[[sqlite3.Connection], R]) -> R:
        """`work` with the open database; a damaged file is set aside, and `work` done with a new one."""
        try:
            return work(self._open())
        except sqlite3.Error as error:
            self.close()
            if not _damaged(error):
                raise
            self._set_aside(error)
            return work(self._open())

    def _open(self) -> sqlite3.Connection:
        if self._connection is None:
            self._connection = self._connect()
        return self._connection

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self.path, isolation_level=None, timeout=BUSY_SECONDS)
        try:
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute("PRAGMA synchronous=NORMAL")
            with connection:
                connection.execute("BEGIN IMMEDIATE")
                self._prepare(connection)
        except BaseException:
            connection.close()
            raise
        return connection

    def _prepare(self, connection: sqlite3.Connection) -> None:
        version = connection.execute("PRAGMA user_version").fetchone()[0]
        if version > SCHEMA_VERSION:
            raise OSError(f"{self.path} was written by a newer version of this app")
        if version < SCHEMA_VERSION:
            for statement in _SCHEMA:
                connection.execute(statement)
            connection.execute(f"PRAGMA user_version={SCHEMA_VERSION}")

    def _set_aside(self, error: sqlite3.Error) -> None:
        """Give the damaged file another name, in place of one set aside earlier. Raises `OSError`."""
        aside = self.path.with_suffix(".damaged")
        self.path.replace(aside)
        for suffix in BESIDE:
            self.path.with_name(self.path.name + suffix).unlink(missing_ok=True)
        log.warning("The history was damaged (%s); it lies in %s now, and a new one is begun.", error, aside)


def _damaged(error: sqlite3.Error) -> bool:
    """By the primary result code; errors of this module's own making carry none."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF in DAMAGED
