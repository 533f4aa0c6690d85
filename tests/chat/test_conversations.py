"""The store: what is written stays written, and is found again."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from webui.chat import conversations, database
from webui.chat.conversations import ConversationStore, title_from
from webui.errors import ConfigurationError, NotFound


@pytest.fixture
def store(tmp_path: Path) -> Iterator[ConversationStore]:
    store = ConversationStore(tmp_path / "chats" / "chats.sqlite")
    yield store
    store.close()


def test_a_conversation_comes_back_as_it_was_written(store: ConversationStore) -> None:
    chat = store.create(system_prompt="Be brief.", preset="precise", sampling={"temperature": 0.2})
    store.append(chat.id, "user", "Grüße, 世界 👋")
    reply = store.begin_reply(chat.id)
    assert [m.role for m in store.get(chat.id).messages] == ["user"], "a reply being written is not a message yet"
    store.finish_reply(replace(reply, content="Hallo", timings={"completion_tokens": 2}, loader="x", notes=("cut",)))

    path = store.path
    store.close()
    again = ConversationStore(path)
    found = again.get(chat.id)
    again.close()
    assert (found.system_prompt, found.preset, found.sampling) == ("Be brief.", "precise", {"temperature": 0.2})
    assert [(m.role, m.content) for m in found.messages] == [("user", "Grüße, 世界 👋"), ("assistant", "Hallo")]
    assert found.messages[1].timings == {"completion_tokens": 2}
    assert found.messages[1].notes == ("cut",)
    assert not found.messages[1].partial


def test_the_first_message_gives_the_title_until_one_is_given_by_hand(store: ConversationStore) -> None:
    chat = store.create()
    store.append(chat.id, "user", "What is   a\nquine?")
    store.append(chat.id, "user", "Something else")
    assert store.get(chat.id).title == "What is a quine?"
    store.rename(chat.id, "Quines")
    assert store.get(chat.id).title == "Quines"
    named = store.create(title="Mine")
    store.append(named.id, "user", "Hello")
    assert store.get(named.id).title == "Mine"
    cut = title_from("word " * 40)
    assert len(cut) <= conversations.TITLE_LENGTH
    assert cut.endswith("word…")


@pytest.mark.parametrize("with_fts", [True, False])
def test_search_finds_words_in_titles_and_text(tmp_path: Path, with_fts: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not with_fts:
        monkeypatch.setattr(database, "_has_fts5", lambda connection: False)
    store = ConversationStore(tmp_path / "chats.sqlite")
    fruit = store.create()
    store.append(fruit.id, "user", "Apples are 100% red")
    apple = store.append(fruit.id, "user", 'and "pears" (green) OR NOT')
    other = store.create(title="About trees")
    store.append(other.id, "user", "Nothing here")

    def found(words: str) -> list[str]:
        return [chat.id for chat in store.list(words)]

    assert found("apples red") == [fruit.id]
    assert found("TREES") == [other.id]
    assert found("gree") == [fruit.id]
    assert found('"pears" (gr') == [fruit.id]
    assert found("apples trees") == []
    assert set(found("  ")) == {fruit.id, other.id}
    store.replace(fruit.id, apple.id, "plums")
    assert found("pears") == []
    assert found("plums") == [fruit.id]
    store.delete(fruit.id)
    assert found("plums") == []
    store.close()


def test_the_latest_changed_conversation_is_first(store: ConversationStore) -> None:
    first, second = store.create(), store.create()
    store.append(first.id, "user", "hello")
    assert [chat.id for chat in store.list()] == [first.id, second.id]


def test_truncate_cuts_from_a_message_on(store: ConversationStore) -> None:
    chat = store.create()
    one, two, three = (store.append(chat.id, "user", text) for text in ("1", "2", "3"))
    store.truncate(chat.id, two.id, keep=True)
    assert [m.id for m in store.get(chat.id).messages] == [one.id, two.id]
    store.truncate(chat.id, one.id)
    assert store.get(chat.id).messages == ()
    with pytest.raises(NotFound):
        store.truncate(chat.id, three.id)


def test_what_does_not_exist_is_named(store: ConversationStore) -> None:
    for act in (
        lambda: store.get("x"),
        lambda: store.rename("x", "y"),
        lambda: store.append("x", "user", "y"),
        lambda: store.replace("x", "y", "z"),
        lambda: store.get(store.create().id).message("y"),
    ):
        with pytest.raises(NotFound):
            act()
    store.delete("x")


def test_a_reply_outlives_its_deleted_conversation_without_an_error(store: ConversationStore) -> None:
    chat = store.create()
    reply = store.begin_reply(chat.id)
    store.delete(chat.id)
    store.save_progress(replace(reply, content="text"))
    store.finish_reply(replace(reply, content="text"))
    assert store.list() == ()


def test_a_killed_app_leaves_a_partial_reply(tmp_path: Path) -> None:
    path = tmp_path / "chats.sqlite"
    script = """
import os, sys
from dataclasses import replace
from pathlib import Path
from webui.chat.conversations import ConversationStore
store = ConversationStore(Path(sys.argv[1]))
chat = store.create()
store.append(chat.id, "user", "Tell me a story")
reply = store.begin_reply(chat.id)
store.save_progress(replace(reply, content="Once upon a", model="tiny", loader="toy"))
store.begin_reply(store.create(title="empty").id)
print(chat.id, flush=True)
os._exit(9)
"""
    done = subprocess.run([sys.executable, "-c", script, str(path)], capture_output=True, text=True, check=False)
    assert done.returncode == 9, done.stderr
    store = ConversationStore(path)
    reply = store.get(done.stdout.strip()).messages[-1]
    assert (reply.content, reply.partial, reply.model, reply.loader) == ("Once upon a", True, "tiny", "toy")
    assert reply.error is not None
    assert reply.error["code"] == "cancelled"
    (empty,) = store.list("empty")
    (unwritten,) = store.get(empty.id).messages
    assert (unwritten.content, unwritten.error) == ("", reply.error), "a question without an answer says why"
    store.close()


def test_a_note_is_added_to_a_reply_that_broke_off_and_to_no_other(store: ConversationStore) -> None:
    chat = store.create()
    reply = store.begin_reply(chat.id)
    store.add_note(reply.id, "too early")
    store.finish_reply(replace(reply, content="x", partial=True, notes=("first",)))
    store.add_note(reply.id, "second")
    assert store.get(chat.id).messages[-1].notes == ("first", "second")
    store.finish_reply(replace(reply, content="x", notes=()))
    store.add_note(reply.id, "too late")
    store.add_note("nobody", "x")
    assert store.get(chat.id).messages[-1].notes == ()


def test_a_failed_change_leaves_nothing_half_done(store: ConversationStore) -> None:
    chat = store.create()
    with pytest.raises(RuntimeError), store._transaction():
        store.append(chat.id, "user", "half")
        raise RuntimeError
    assert store.get(chat.id).messages == ()


def test_threads_may_write_at_once(store: ConversationStore) -> None:
    chat = store.create()

    def write(name: int) -> None:
        for number in range(20):
            store.append(chat.id, "user", f"{name}-{number}")

    threads = [threading.Thread(target=write, args=(name,)) for name in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(store.get(chat.id).messages) == 80


def test_a_file_that_is_no_database_or_from_a_newer_app_is_refused(tmp_path: Path) -> None:
    broken = tmp_path / "broken.sqlite"
    broken.write_bytes(b"not a database at all " * 100)
    with pytest.raises(ConfigurationError, match=r"broken\.sqlite"):
        ConversationStore(broken)
    newer = tmp_path / "newer.sqlite"
    connection = sqlite3.connect(newer)
    connection.execute("PRAGMA user_version=99")
    connection.close()
    with pytest.raises(ConfigurationError, match="newer"):
        ConversationStore(newer)
