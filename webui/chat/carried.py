"""Conversations that come from elsewhere, under ids that their origin gives them: added once, and taken out again.

Works on the file of conversations beside whoever has it open; SQLite keeps the two apart.
"""

from __future__ import annotations

import sqlite3
import uuid
from collections.abc import Iterable, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from webui.chat.database import Database

if TYPE_CHECKING:
    from collections.abc import Iterator


@dataclass(frozen=True, slots=True)
class CarriedChat:
    """`messages` are (role, text, seconds since 1970) each; the role is user or assistant."""

    id: str
    title: str
    created_at: float
    messages: tuple[tuple[str, str, float], ...]
    system_prompt: str = ""

    @property
    def updated_at(self) -> float:
        return max(self.created_at, *(at for _, _, at in self.messages))


def add(path: Path, chats: Sequence[CarriedChat]) -> None:
    """Add those that are not there yet, all or none."""
    with _opened(path) as database, database.transaction() as connection:
        for chat in chats:
            added = connection.execute(
                "INSERT OR IGNORE INTO conversations (id, title, named, created_at, updated_at, system_prompt) "
                "VALUES (?,?,1,?,?,?)",
                (chat.id, chat.title, chat.created_at, chat.updated_at, chat.system_prompt),
            )
            if not added.rowcount:
                continue
            rows = [
                (uuid.uuid5(uuid.UUID(chat.id), str(number)).hex, chat.id, role, text, at)
                for number, (role, text, at) in enumerate(chat.messages)
            ]
            connection.executemany(
                "INSERT INTO messages (id, conversation, role, content, created_at) VALUES (?,?,?,?,?)", rows
            )


def changed(path: Path, chats: Iterable[CarriedChat]) -> list[CarriedChat]:
    """Those that somebody has gone on with or renamed since."""
    if not path.exists():
        return []
    found = []
    with _opened(path) as database, database.reading() as connection:
        for chat in chats:
            row = connection.execute(
                "SELECT title, updated_at, (SELECT count(*) FROM messages WHERE conversation=conversations.id) "
                "FROM conversations WHERE id=?",
                (chat.id,),
            ).fetchone()
            if row is not None and tuple(row) != (chat.title, chat.updated_at, len(chat.messages)):
                found.append(chat)
    return found


def remove(path: Path, ids: Iterable[str]) -> None:
    """Take conversations out, all or none; those that are not there are no error."""
    if path.exists():
        with _opened(path) as database, database.transaction() as connection:
            connection.executemany("DELETE FROM conversations WHERE id=?", [(one,) for one in ids])


def known(path: Path) -> frozenset[str]:
    """The ids of all conversations there are; looking makes no file and changes none."""
    if not path.exists():
        return frozenset()
    # A reader alone would leave SQLite's log behind.
    way = "mode=ro" if is_open(path) else "immutable=1"
    try:
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?{way}", uri=True, timeout=5)) as connection:
            return frozenset(row[0] for row in connection.execute("SELECT id FROM conversations"))
    except sqlite3.DatabaseError:  # the app says what is wrong with it when it opens it
        return frozenset()


def snapshot(path: Path) -> bytes | None:
    """The file's bytes with everything in it that was committed; None where there is no file."""
    if not path.exists():
        return None
    with closing(sqlite3.connect(path, isolation_level=None, timeout=5)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        connection.execute("BEGIN IMMEDIATE")  # nobody writes while it is copied
        content = path.read_bytes()
        connection.execute("ROLLBACK")
    return content


def is_open(path: Path) -> bool:
    """Whether somebody has the file open: SQLite keeps its log beside it for as long."""
    return path.with_name(f"{path.name}-wal").exists()


@contextmanager
def _opened(path: Path) -> Iterator[Database]:
    database = Database(path)
    try:
        yield database
    finally:
        database.close()
