"""Records in SQLite: how their file is opened and mended, and the thread that writes to it.

WAL mode, so that two apps with the same home may write to one file. A file that is damaged is set aside under another
name and a new one begun; a file of a newer version of the app is left alone.
"""

from __future__ import annotations

import logging
import queue
import sqlite3
import threading
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Generic, TypeVar

log = logging.getLogger(__name__)

DAY_SECONDS = 86400.0
BUSY_SECONDS = 5.0
CLOSE_SECONDS = 5.0
DAMAGED = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})
BESIDE = ("-wal", "-shm")
"""SQLite's own files beside the database."""

R = TypeVar("R")
T = TypeVar("T")


class DatabaseFile:
    """Opened at its first use, and again after a fault. Used by one thread at a time.

    `schema` makes the tables of `version`; `subject` names it in the log ("the history").
    """

    def __init__(self, path: Path, *, version: int, schema: Sequence[str], subject: str) -> None:
        self.path = path
        self._version, self._schema, self._subject = version, schema, subject
        self._connection: sqlite3.Connection | None = None

    def work(self, work: Callable[[sqlite3.Connection], R]) -> R:
        """`work` with the open database; a damaged file is set aside, and `work` done with a new one.

        Raises `OSError` or `sqlite3.Error`.
        """
        try:
            return work(self._open())
        except sqlite3.Error as error:
            self.close()
            if not _damaged(error):
                raise
            self._set_aside(error)
            return work(self._open())

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _open(self) -> sqlite3.Connection:
        if self._connection is None:
            self._connection = self._connect()
        return self._connection

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self.path, isolation_level=None, timeout=BUSY_SECONDS, check_same_thread=False)
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
        if version > self._version:
            raise OSError(f"{self.path} was written by a newer version of this app")
        if version < self._version:
            for statement in self._schema:
                connection.execute(statement)
            connection.execute(f"PRAGMA user_version={self._version}")

    def _set_aside(self, error: sqlite3.Error) -> None:
        """Give the damaged file another name, in place of one set aside earlier. Raises `OSError`."""
        aside = self.path.with_suffix(".damaged")
        self.path.replace(aside)
        for suffix in BESIDE:
            self.path.with_name(self.path.name + suffix).unlink(missing_ok=True)
        subject = self._subject.capitalize()
        log.warning("%s was damaged (%s); it lies in %s now, and a new one is begun.", subject, error, aside)


class Writer(Generic[T]):
    """A thread that hands on what is put to it, in batches. A fault of the disk is told once, until it works again.

    `begin` is called first and `end` last, both in the thread; all three may raise `OSError` or `sqlite3.Error`.
    """

    def __init__(
        self,
        subject: str,
        write: Callable[[list[T]], None],
        *,
        begin: Callable[[], None],
        end: Callable[[], None],
    ) -> None:
        self._subject, self._write, self._begin, self._end = subject, write, begin, end
        self._queue: queue.SimpleQueue[T | None] = queue.SimpleQueue()
        self._complained = False
        self._thread: threading.Thread | None = threading.Thread(target=self._run, name=subject, daemon=True)
        self._thread.start()

    def put(self, item: T) -> None:
        """Any thread, the event loop above all: nothing is waited for."""
        self._queue.put(item)

    def close(self) -> None:
        """Write what is still to be written. May be called twice."""
        if self._thread is not None:
            self._queue.put(None)
            self._thread.join(CLOSE_SECONDS)
            self._thread = None

    def _run(self) -> None:
        self._on_disk(self._begin)
        going_on = True
        while going_on:
            batch, going_on = self._next_batch()
            if batch:
                self._on_disk(partial(self._write, batch))
        self._on_disk(self._end)

    def _next_batch(self) -> tuple[list[T], bool]:
        """What is waiting, at least one thing; and whether there is more to come."""
        batch: list[T] = []
        item = self._queue.get()
        while item is not None:
            batch.append(item)
            if self._queue.empty():
                return batch, True
            item = self._queue.get()
        return batch, False

    def _on_disk(self, work: Callable[[], None]) -> None:
        try:
            work()
        except (OSError, sqlite3.Error) as error:
            if not self._complained:
                log.warning("%s is not kept on disk for now: %s", self._subject.capitalize(), error)
            self._complained = True
        else:
            self._complained = False


def _damaged(error: sqlite3.Error) -> bool:
    """By the primary result code; errors of this module's own making carry none."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF in DAMAGED
