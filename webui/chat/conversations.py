"""Conversations on disk: one SQLite file, written so that nothing is lost when the app dies.

Every change is one transaction in WAL mode. A reply that is being written is a row of its own from the first moment and
is brought up to date while the job runs; when the app is started again, what is left of it becomes a partial reply.
Until it ends it is not among a conversation's messages: `webui.chat.service` has the job. Calls are short (indexed rows
of one chat) and may come from any thread.
"""

from __future__ import annotations

import json
import sqlite3
import time
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from webui.chat.database import Database
from webui.errors import Cancelled, InvalidRequest, NotFound

TITLE_LENGTH = 60
NEW_TITLE = "New chat"


@dataclass(frozen=True, slots=True)
class Message:
    """One turn. `partial` marks a reply that was cut short, by whom or what `error` says (`AppError.to_dict`).

    `timings` are those of `webui.chat.service.timings`; `notes` say what was done to the prompt, a sentence each.
    """

    id: str
    role: str
    content: str
    created_at: float
    partial: bool = False
    error: dict[str, Any] | None = None
    timings: dict[str, Any] | None = None
    loader: str = ""
    model: str = ""
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Conversation:
    """A chat. `sampling` holds the values that differ from their defaults. A list leaves `messages` empty."""

    id: str
    title: str
    created_at: float
    updated_at: float
    system_prompt: str = ""
    preset: str = ""
    sampling: dict[str, Any] = field(default_factory=dict)
    messages: tuple[Message, ...] = ()

    def message(self, message_id: str) -> Message:
        """The message of that id; raises `NotFound`."""
        for message in self.messages:
            if message.id == message_id:
                return message
        raise NotFound("This message is no longer part of the conversation.", hint="Reload the page.")


class ConversationStore:
    """All conversations of one home. Open once; `close` when done.

    Opening turns replies that a killed app left unfinished into partial ones; without `mend` it does not, for whoever
    opens it while the app may be running. Raises `ConfigurationError` where the file cannot be used.
    """

    def __init__(self, path: Path, *, mend: bool = True) -> None:
        self.path = path
        self._database = Database(path)
        self._transaction = self._database.transaction
        if mend:
            self.mark_interrupted()

    def close(self) -> None:
        self._database.close()

    # Conversations

    def create(
        self,
        *,
        title: str = "",
        system_prompt: str = "",
        preset: str = "",
        sampling: Mapping[str, Any] | None = None,
    ) -> Conversation:
        """A new, empty conversation. Without a title it takes its first message's beginning."""
        now = time.time()
        chat_id = uuid.uuid4().hex
        with self._transaction() as database:
            database.execute(
                "INSERT INTO conversations VALUES (?,?,?,?,?,?,?,?)",
                (
                    chat_id,
                    title or NEW_TITLE,
                    bool(title),
                    now,
                    now,
                    system_prompt,
                    preset,
                    json.dumps(dict(sampling or {})),
                ),
            )
        return self.get(chat_id)

    def get(self, chat_id: str) -> Conversation:
        """The conversation with its messages, oldest first; raises `NotFound`."""
        with self._database.reading() as database:
            row = database.execute("SELECT * FROM conversations WHERE id=?", (chat_id,)).fetchone()
            if row is None:
                raise NotFound("This conversation no longer exists.", hint="Choose another, or start a new one.")
            messages = database.execute(
                "SELECT * FROM messages WHERE conversation=? AND NOT writing ORDER BY number", (chat_id,)
            ).fetchall()
        return _conversation(row, tuple(_message(message) for message in messages))

    def list(self, search: str = "", *, limit: int = 500) -> tuple[Conversation, ...]:
        """Conversations without messages, latest first; with `search`, those whose title or text has its words."""
        condition, values = self._matching(search) if search.strip() else ("1", ())
        query = f"SELECT * FROM conversations WHERE {condition} ORDER BY updated_at DESC LIMIT ?"
        with self._database.reading() as database:
            rows = database.execute(query, (*values, limit)).fetchall()
        return tuple(_conversation(row, ()) for row in rows)

    def everything(self) -> Iterator[Conversation]:
        """All conversations with their messages, oldest first, one at a time; one deleted meanwhile is passed over."""
        with self._database.reading() as database:
            rows = database.execute("SELECT id FROM conversations ORDER BY created_at, id").fetchall()
        for row in rows:
            try:
                yield self.get(row["id"])
            except NotFound:
                continue

    def has(self, chat_id: str) -> bool:
        """Whether there is a conversation of this id."""
        with self._database.reading() as database:
            return database.execute("SELECT 1 FROM conversations WHERE id=?", (chat_id,)).fetchone() is not None

    def add(self, conversation: Conversation) -> None:
        """Put in a whole conversation as it is, ids and times too. Raises `InvalidRequest` where an id is taken."""
        written = conversation
        with self._transaction() as database:
            try:
                database.execute(
                    "INSERT INTO conversations VALUES (?,?,?,?,?,?,?,?)",
                    (
                        written.id,
                        written.title or NEW_TITLE,
                        True,
                        written.created_at,
                        written.updated_at,
                        written.system_prompt,
                        written.preset,
                        json.dumps(written.sampling),
                    ),
                )
                database.executemany(
                    "INSERT INTO messages (id, conversation, role, content, created_at, partial, error, timings, "
                    "loader, model, notes) VALUES (?,?,?,?,?,?,?,?,?,?,?)",
                    [_row(written.id, message) for message in written.messages],
                )
            except sqlite3.IntegrityError as error:
                raise InvalidRequest(f"The conversation {written.title!r} is here already.") from error

    def _matching(self, search: str) -> tuple[str, tuple[str, ...]]:
        words = search.split()
        title = " AND ".join(["title LIKE ? ESCAPE '\\'"] * len(words))
        titles = tuple(_like(word) for word in words)
        if self._database.has_search:
            # Each word quoted, so that nothing in it is taken for the query language; the last may be a beginning.
            query = " ".join('"' + word.replace('"', '""') + '"' for word in words) + "*"
            inner = "SELECT conversation FROM messages WHERE number IN (SELECT rowid FROM search WHERE search MATCH ?)"
            return f"(({title}) OR id IN ({inner}))", (*titles, query)
        content = " AND ".join(["content LIKE ? ESCAPE '\\'"] * len(words))
        return f"(({title}) OR id IN (SELECT conversation FROM messages WHERE {content}))", (*titles, *titles)

    def rename(self, chat_id: str, title: str) -> None:
        """Give a title by hand; it is then no longer taken from the first message."""
        self._update(chat_id, "title=?, named=1", (title.strip()[:200] or NEW_TITLE,))

    def configure(
        self,
        chat_id: str,
        *,
        system_prompt: str | None = None,
        preset: str | None = None,
        sampling: Mapping[str, Any] | None = None,
    ) -> None:
        """Keep what the chat's panel says; `None` leaves a value as it is."""
        changes: dict[str, str] = {}
        if system_prompt is not None:
            changes["system_prompt"] = system_prompt
        if preset is not None:
            changes["preset"] = preset
        if sampling is not None:
            changes["sampling"] = json.dumps(dict(sampling))
        if changes:
            self._update(chat_id, ", ".join(f"{name}=?" for name in changes), tuple(changes.values()))

    def _update(self, chat_id: str, assignment: str, values: tuple[Any, ...]) -> None:
        with self._transaction() as database:
            changed = database.execute(f"UPDATE conversations SET {assignment} WHERE id=?", (*values, chat_id))
            if changed.rowcount == 0:
                raise NotFound("This conversation no longer exists.", hint="Choose another, or start a new one.")

    def delete(self, chat_id: str) -> None:
        """Remove the conversation and its messages; no error if it is gone already."""
        with self._transaction() as database:
            database.execute("DELETE FROM conversations WHERE id=?", (chat_id,))

    # Messages

    def append(self, chat_id: str, role: str, content: str) -> Message:
        """Add a finished message, and take the title from it if it is the first of the user's."""
        with self._transaction() as database:
            message = self._insert(chat_id, role, content, writing=False)
            if role == "user":
                database.execute(
                    "UPDATE conversations SET title=? WHERE id=? AND NOT named AND title=?",
                    (title_from(content), chat_id, NEW_TITLE),
                )
        return message

    def _insert(self, chat_id: str, role: str, content: str, *, writing: bool) -> Message:
        now = time.time()
        message = Message(uuid.uuid4().hex, role, content, now)
        with self._transaction() as database:
            self._update(chat_id, "updated_at=?", (now,))
            database.execute(
                "INSERT INTO messages (id, conversation, role, content, created_at, writing) VALUES (?,?,?,?,?,?)",
                (message.id, chat_id, role, content, now, writing),
            )
        return message

    def replace(self, chat_id: str, message_id: str, content: str) -> None:
        """Change the text of a message; a reply changed by hand is no longer partial. Raises `NotFound`."""
        with self._transaction() as database:
            changed = database.execute(
                "UPDATE messages SET content=?, partial=0, error=NULL WHERE id=? AND conversation=?",
                (content, message_id, chat_id),
            )
            if changed.rowcount == 0:
                raise NotFound("This message is no longer part of the conversation.", hint="Reload the page.")
            self._update(chat_id, "updated_at=?", (time.time(),))

    def truncate(self, chat_id: str, message_id: str, *, keep: bool = False) -> None:
        """Remove the message and all after it, or with `keep` only those after it. Raises `NotFound`."""
        with self._transaction() as database:
            row = database.execute(
                "SELECT number FROM messages WHERE id=? AND conversation=?", (message_id, chat_id)
            ).fetchone()
            if row is None:
                raise NotFound("This message is no longer part of the conversation.", hint="Reload the page.")
            first = row["number"] + (1 if keep else 0)
            database.execute("DELETE FROM messages WHERE conversation=? AND number>=?", (chat_id, first))
            self._update(chat_id, "updated_at=?", (time.time(),))

    # Replies while they are written

    def begin_reply(self, chat_id: str) -> Message:
        """The row of a reply that is about to be written; not shown by `get` until `finish_reply`."""
        return self._insert(chat_id, "assistant", "", writing=True)

    def resume_reply(self, chat_id: str, message_id: str) -> Message:
        """Write on at a reply that is there already; returns it as it was. Raises `NotFound`."""
        with self._transaction() as database:
            message = self.get(chat_id).message(message_id)
            database.execute("UPDATE messages SET writing=1, partial=1 WHERE id=?", (message_id,))
        return message

    def save_progress(self, message: Message) -> None:
        """What there is of the reply so far, in case the app dies; nothing happens if its chat was deleted."""
        with self._transaction() as database:
            database.execute(
                "UPDATE messages SET content=?, partial=1, loader=?, model=?, notes=? WHERE id=?",
                (message.content, message.loader, message.model, json.dumps(message.notes), message.id),
            )

    def add_note(self, message_id: str, note: str) -> None:
        """One more sentence beneath a reply; nothing happens if it was written on or removed meanwhile."""
        with self._transaction() as database:
            row = database.execute(
                "SELECT notes FROM messages WHERE id=? AND partial AND NOT writing", (message_id,)
            ).fetchone()
            if row is not None:
                notes = [*json.loads(row["notes"]), note]
                database.execute("UPDATE messages SET notes=? WHERE id=?", (json.dumps(notes), message_id))

    def finish_reply(self, message: Message) -> None:
        """Write the final state of `message`; nothing happens if its chat was deleted meanwhile."""
        with self._transaction() as database:
            database.execute(
                "UPDATE messages SET content=?, writing=0, partial=?, error=?, timings=?, loader=?, model=?, notes=? "
                "WHERE id=?",
                (
                    message.content,
                    message.partial,
                    _to_json(message.error),
                    _to_json(message.timings),
                    message.loader,
                    message.model,
                    json.dumps(message.notes),
                    message.id,
                ),
            )
            database.execute(
                "UPDATE conversations SET updated_at=? WHERE id=(SELECT conversation FROM messages WHERE id=?)",
                (time.time(), message.id),
            )

    def drop_reply(self, message_id: str) -> None:
        """Remove the row of a reply of which nothing was written."""
        with self._transaction() as database:
            database.execute("DELETE FROM messages WHERE id=?", (message_id,))

    def mark_interrupted(self) -> int:
        """Turn replies left unfinished by an app that died into partial ones; returns how many there were."""
        error = Cancelled("The app ended while this reply was written.", hint="Continue or regenerate the reply.")
        with self._transaction() as database:
            return database.execute(
                "UPDATE messages SET writing=0, partial=1, error=? WHERE writing", (json.dumps(error.to_dict()),)
            ).rowcount


def title_from(text: str) -> str:
    """A title from a message's beginning: one line, cut at a word."""
    line = " ".join(text.split())
    if len(line) <= TITLE_LENGTH:
        return line or NEW_TITLE
    return line[: TITLE_LENGTH - 1].rsplit(" ", 1)[0].rstrip(" ,.;:") + "…"


def _conversation(row: sqlite3.Row, messages: tuple[Message, ...]) -> Conversation:
    return Conversation(
        id=row["id"],
        title=row["title"],
        created_at=row["created_at"],
        updated_at=row["updated_at"],
        system_prompt=row["system_prompt"],
        preset=row["preset"],
        sampling=json.loads(row["sampling"]),
        messages=messages,
    )


def _message(row: sqlite3.Row) -> Message:
    return Message(
        id=row["id"],
        role=row["role"],
        content=row["content"],
        created_at=row["created_at"],
        partial=bool(row["partial"]),
        error=None if row["error"] is None else json.loads(row["error"]),
        timings=None if row["timings"] is None else json.loads(row["timings"]),
        loader=row["loader"],
        model=row["model"],
        notes=tuple(json.loads(row["notes"])),
    )


def _row(chat_id: str, message: Message) -> tuple[Any, ...]:
    return (
        message.id,
        chat_id,
        message.role,
        message.content,
        message.created_at,
        message.partial,
        _to_json(message.error),
        _to_json(message.timings),
        message.loader,
        message.model,
        json.dumps(message.notes),
    )


def _to_json(value: dict[str, Any] | None) -> str | None:
    return None if value is None else json.dumps(value)


def _like(word: str) -> str:
    escaped = word.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
    return f"%{escaped}%"
