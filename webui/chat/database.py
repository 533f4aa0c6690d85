"""The file that conversations are kept in: its tables, how it is opened, and its transactions.

What is written into it is `webui.chat.conversations`' business. SQLite in WAL mode: a change is whole or not there, and
readers do not wait for writers.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from webui.errors import ConfigurationError

SCHEMA_VERSION = 1

_SCHEMA = """
CREATE TABLE conversations (
    id TEXT PRIMARY KEY,
    title TEXT NOT NULL,
    named INTEGER NOT NULL DEFAULT 0,
    created_at REAL NOT NULL,
    updated_at REAL NOT NULL,
    system_prompt TEXT NOT NULL DEFAULT '',
    preset TEXT NOT NULL DEFAULT '',
    sampling TEXT NOT NULL DEFAULT '{}'
);
CREATE TABLE messages (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    conversation TEXT NOT NULL REFERENCES conversations(id) ON DELETE CASCADE,
    role TEXT NOT NULL,
    content TEXT NOT NULL,
    created_at REAL NOT NULL,
    writing INTEGER NOT NULL DEFAULT 0,
    partial INTEGER NOT NULL DEFAULT 0,
    error TEXT,
    timings TEXT,
    loader TEXT NOT NULL DEFAULT '',
    model TEXT NOT NULL DEFAULT '',
    notes TEXT NOT NULL DEFAULT '[]'
);
CREATE INDEX messages_by_conversation ON messages(conversation, number);
CREATE INDEX conversations_by_time ON conversations(updated_at DESC);
CREATE INDEX messages_being_written ON messages(writing) WHERE writing;
"""
_SEARCH = """
CREATE VIRTUAL TABLE search USING fts5(content, content='messages', content_rowid='number', tokenize='unicode61');
CREATE TRIGGER search_added AFTER INSERT ON messages BEGIN
    INSERT INTO search(rowid, content) VALUES (new.number, new.content);
END;
CREATE TRIGGER search_removed AFTER DELETE ON messages BEGIN
    INSERT INTO search(search, rowid, content) VALUES ('delete', old.number, old.content);
END;
CREATE TRIGGER search_changed AFTER UPDATE OF content ON messages BEGIN
    INSERT INTO search(search, rowid, content) VALUES ('delete', old.number, old.content);
    INSERT INTO search(rowid, content) VALUES (new.number, new.content);
END;
"""


class Database:
    """One connection, used by one thread at a time. Raises `ConfigurationError` where the file cannot be used."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path = path
        self._lock = threading.RLock()
        try:
            self._connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=5)
            self._connection.row_factory = sqlite3.Row
            self._prepare()
        except sqlite3.DatabaseError as error:
            raise ConfigurationError(
                f"The conversations in {path} cannot be opened: {error}.",
                hint="Move the file away to start with an empty list; it is not changed.",
            ) from error

    def _prepare(self) -> None:
        run = self._connection.execute
        run("PRAGMA journal_mode=WAL")
        run("PRAGMA synchronous=NORMAL")
        run("PRAGMA foreign_keys=ON")
        version = run("PRAGMA user_version").fetchone()[0]
        if version > SCHEMA_VERSION:
            raise ConfigurationError(
                f"{self.path} was written by a newer version of this app.",
                hint="Update the app, or move the file away.",
            )
        if version == 0:
            with self.transaction():
                for statement in _statements(_SCHEMA):
                    run(statement)
                if _has_fts5(self._connection):
                    for statement in _statements(_SEARCH):
                        run(statement)
                run(f"PRAGMA user_version={SCHEMA_VERSION}")
        self.has_search = run("SELECT 1 FROM sqlite_master WHERE name='search'").fetchone() is not None

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """All or nothing, one at a time. May be nested; the outermost commits."""
        with self._lock:
            if self._connection.in_transaction:
                yield self._connection
                return
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield self._connection
            except BaseException:
                self._connection.execute("ROLLBACK")
                raise
            self._connection.execute("COMMIT")

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """The connection, for as long as it takes to read."""
        with self._lock:
            yield self._connection

    def close(self) -> None:
        with self._lock:
            self._connection.close()


def _statements(script: str) -> Iterator[str]:
    """The statements of `script`, one by one: `executescript` would commit before it begins."""
    statement = ""
    for line in script.strip().splitlines():
        statement += line + "\n"
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""


def _has_fts5(connection: sqlite3.Connection) -> bool:
    query = "SELECT 1 FROM pragma_compile_options WHERE compile_options='ENABLE_FTS5'"
    with closing(connection.execute(query)) as rows:
        return rows.fetchone() is not None
