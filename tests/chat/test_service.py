"""Asking, stopping, changing: what the Chat tab relies on, with real worker processes."""

from __future__ import annotations

import asyncio
import itertools
import sqlite3
from collections.abc import Awaitable, Callable

import pytest

from tests.chat.conftest import Room
from webui.chat import service
from webui.errors import Busy, ContextTooLong, EngineCrashed, InvalidRequest, NotFound, NotLoaded, TemplateFailed
from webui.loaders.sampling import SamplingParameters
from webui.pool import Job, JobState

MakeRoom = Callable[..., Awaitable[Room]]


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not condition():
            await asyncio.sleep(0.01)


async def ask(room: Room, chat_id: str, text: str) -> Job:
    job = await room.service.send(chat_id, text)
    await room.service.settled(chat_id)
    return job


async def test_a_reply_is_in_the_store_when_it_has_ended(make_room: MakeRoom) -> None:
    room = await make_room()
    chat = room.store.create(system_prompt="Be kind.")
    job = await room.service.send(chat.id, "Hello you")
    assert room.service.active_job(chat.id) is job
    assert room.texts(chat.id) == [("user", "Hello you")]
    await room.service.settled(chat.id)
    assert room.service.active_job(chat.id) is None
    found = room.store.get(chat.id)
    assert found.title == "Hello you"
    reply = found.messages[1]
    assert reply.content == "system: Be kind. user: Hello you "
    assert (reply.partial, reply.error, reply.loader, reply.model) == (False, None, "toy", "toy")
    assert reply.timings is not None
    assert reply.timings["completion_tokens"] == 6
    assert reply.timings["finish_reason"] == "stop"


async def test_given_sampling_and_system_prompt_stay_with_the_conversation(make_room: MakeRoom) -> None:
    room = await make_room()
    chat = room.store.create(preset="precise")
    await room.service.send(chat.id, "one two three", sampling=SamplingParameters(max_tokens=2), system_prompt="Sys")
    await room.service.settled(chat.id)
    found = room.store.get(chat.id)
    assert (found.sampling, found.system_prompt) == ({"max_tokens": 2}, "Sys")
    assert found.messages[-1].content == "system: Sys "
    assert found.messages[-1].timings is not None
    assert found.messages[-1].timings["finish_reason"] == "length"
    await room.service.regenerate(chat.id)
    await room.service.settled(chat.id)
    assert room.texts(chat.id)[-1] == ("assistant", "system: Sys ")


async def test_stop_keeps_the_text_and_ends_one_chat_only(make_room: MakeRoom) -> None:
    room = await make_room(delay=0.05, context_size=1000, slots=2)
    mine, other = room.store.create(), room.store.create()
    words = " ".join(f"w{n}" for n in range(60))
    job = await room.service.send(mine.id, words)
    second = await room.service.send(other.id, words)
    await until(lambda: job.tokens > 3 and second.tokens > 3)
    room.service.stop(mine.id)
    await room.service.settled(mine.id)
    reply = room.store.get(mine.id).messages[-1]
    assert reply.partial
    assert reply.error is None
    assert words.startswith(reply.content.removeprefix("user: ").strip())
    assert not second.ended
    room.service.stop(other.id)
    await room.service.settled(other.id)


async def test_a_reply_stopped_before_its_first_word_leaves_no_message(make_room: MakeRoom) -> None:
    room = await make_room(delay=0.5)
    chat = room.store.create()
    await room.service.send(chat.id, "Hello")
    room.service.stop(chat.id)
    await room.service.settled(chat.id)
    assert room.texts(chat.id) == [("user", "Hello")]


async def test_a_crash_keeps_the_text_names_the_cause_and_the_next_message_is_answered(make_room: MakeRoom) -> None:
    room = await make_room()
    chat = room.store.create()
    job = await ask(room, chat.id, "before CRASH after")
    assert job.state is JobState.FAILED
    reply = room.store.get(chat.id).messages[-1]
    assert reply.content == "user: before "
    assert reply.partial
    assert reply.error is not None
    assert reply.error["code"] == EngineCrashed.code
    await room.service.undo(chat.id)
    again = await ask(room, chat.id, "after")
    assert (again.state, again.text) == (JobState.DONE, "user: after ")


async def test_one_reply_at_a_time(make_room: MakeRoom) -> None:
    room = await make_room(delay=0.2)
    chat = room.store.create()
    first, second = await asyncio.gather(
        room.service.send(chat.id, "a b c"), room.service.send(chat.id, "d"), return_exceptions=True
    )
    assert isinstance(first, Job)
    assert isinstance(second, Busy)
    with pytest.raises(Busy):
        await room.service.regenerate(chat.id)
    with pytest.raises(Busy):
        await room.service.edit(chat.id, room.store.get(chat.id).messages[0].id, "x")
    assert await room.service.undo(chat.id) == "a b c"
    assert room.texts(chat.id) == []


async def test_what_cannot_be_asked_changes_nothing(make_room: MakeRoom) -> None:
    room = await make_room(load=False)
    chat = room.store.create()
    with pytest.raises(NotLoaded):
        await room.service.send(chat.id, "Hello")
    with pytest.raises(InvalidRequest):
        await room.service.send(chat.id, "  \n")
    with pytest.raises(InvalidRequest):
        await room.service.regenerate(chat.id)
    with pytest.raises(InvalidRequest):
        await room.service.continue_reply(chat.id)
    with pytest.raises(NotFound):
        await room.service.send("nobody", "Hello")
    assert room.texts(chat.id) == []
    assert await room.service.undo(chat.id) == ""


async def test_a_template_s_refusal_is_the_error(make_room: MakeRoom) -> None:
    room = await make_room("{{ raise_exception('not today') }}")
    chat = room.store.create()
    with pytest.raises(TemplateFailed, match="not today"):
        await room.service.send(chat.id, "Hello")
    assert room.texts(chat.id) == []


async def test_regenerate_replaces_the_reply(make_room: MakeRoom) -> None:
    room = await make_room()
    chat = room.store.create()
    await ask(room, chat.id, "Hello")
    old = room.store.get(chat.id).messages[-1]
    await room.service.regenerate(chat.id)
    assert [m.role for m in room.store.get(chat.id).messages] == ["user"]
    await room.service.settled(chat.id)
    new = room.store.get(chat.id).messages[-1]
    assert (new.content, new.id != old.id, len(room.texts(chat.id))) == ("user: Hello ", True, 2)


async def test_continue_writes_on_in_the_same_message(make_room: MakeRoom) -> None:
    room = await make_room()
    chat = room.store.create()
    await room.service.send(chat.id, "Hello", sampling=SamplingParameters(max_tokens=1))
    await room.service.settled(chat.id)
    old = room.store.get(chat.id).messages[-1]
    assert old.content == "user: "
    await room.service.continue_reply(chat.id, sampling=SamplingParameters())
    assert room.service.reply_start(chat.id) == "user: "
    assert [m.role for m in room.store.get(chat.id).messages] == ["user"]
    await room.service.settled(chat.id)
    new = room.store.get(chat.id).messages[-1]
    # The toy repeats its prompt, which ends with what there was of the reply.
    assert (new.id, new.content, new.partial) == (old.id, "user: user: Hello user: ", False)


async def test_editing_a_question_cuts_what_follows_and_editing_a_reply_does_not(make_room: MakeRoom) -> None:
    room = await make_room()
    chat = room.store.create()
    await ask(room, chat.id, "one")
    await ask(room, chat.id, "two")
    messages = room.store.get(chat.id).messages
    await room.service.edit(chat.id, messages[1].id, "EDITED")
    assert len(room.texts(chat.id)) == 4
    await room.service.edit(chat.id, messages[0].id, "uno")
    assert room.texts(chat.id) == [("user", "uno")]
    await room.service.regenerate(chat.id)
    await room.service.settled(chat.id)
    assert room.texts(chat.id)[-1] == ("assistant", "user: uno ")
    with pytest.raises(NotFound):
        await room.service.edit(chat.id, messages[2].id, "gone")


async def test_the_oldest_turns_are_left_out_when_the_context_is_full(make_room: MakeRoom) -> None:
    room = await make_room(context_size=64)
    chat = room.store.create(system_prompt="STAYS")
    short = SamplingParameters(max_tokens=4)
    for turn in range(12):
        job = await room.service.send(chat.id, f"turn{turn} " + "x " * 8, sampling=short)
        await room.service.settled(chat.id)
        assert job.state is JobState.DONE
        assert "system: STAYS" in job.request.prompt
        assert f"turn{turn}" in job.request.prompt
        assert len(job.request.prompt.split()) <= 60
    last = room.store.get(chat.id).messages[-1]
    assert "turn0" not in job.request.prompt
    assert len(last.notes) == 1
    assert "left out" in last.notes[0]
    assert len(room.texts(chat.id)) == 24, "the conversation itself is whole"


async def test_the_prompt_keeps_its_beginning_over_turns_once_trimmed(make_room: MakeRoom) -> None:
    room = await make_room(context_size=200)
    chat = room.store.create()
    short = SamplingParameters(max_tokens=4)
    beginnings = []
    for turn in range(24):
        job = await room.service.send(chat.id, f"turn{turn} " + "x " * 8, sampling=short)
        await room.service.settled(chat.id)
        beginnings.append(job.request.prompt.split()[1])
    changes = sum(before != after for before, after in itertools.pairwise(beginnings))
    assert 1 <= changes <= 6


async def test_a_message_longer_than_the_context_is_refused_and_not_added(make_room: MakeRoom) -> None:
    room = await make_room(context_size=64)
    chat = room.store.create()
    await ask(room, chat.id, "short")
    with pytest.raises(ContextTooLong) as caught:
        await room.service.send(chat.id, "x " * 100)
    assert caught.value.facts["context_size"] == 64
    assert len(room.texts(chat.id)) == 2


async def test_extensions_change_prompt_and_reply(make_room: MakeRoom) -> None:
    room = await make_room()
    room.hooks.prompt = lambda prompt: prompt + "added"
    room.hooks.reply = str.upper
    chat = room.store.create()
    await ask(room, chat.id, "hi")
    assert room.texts(chat.id)[-1] == ("assistant", "USER: HI ADDED ")


async def test_a_template_that_opens_the_reasoning_gives_the_reply_its_beginning(make_room: MakeRoom) -> None:
    room = await make_room("{% for m in messages %}{{ m.content }} {% endfor %}{{ '<think>\\n' }}")
    chat = room.store.create()
    job = await room.service.send(chat.id, "hi", sampling=SamplingParameters(max_tokens=1))
    assert room.service.reply_start(chat.id) == "<think>\n"
    await room.service.settled(chat.id)
    assert room.texts(chat.id)[-1] == ("assistant", "<think>\nhi ")
    job = await room.service.continue_reply(chat.id)
    assert job.request.prompt == "hi <think>\nhi "
    await room.service.settled(chat.id)
    assert room.texts(chat.id)[-1][1].startswith("<think>\nhi hi")


async def test_a_growing_reply_is_written_down_before_it_ends(
    make_room: MakeRoom, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "FIRST_SAVE_SECONDS", 0.05)
    room = await make_room(delay=0.05, context_size=1000)
    chat = room.store.create()
    await room.service.send(chat.id, "w " * 60)

    def saved() -> str:
        with sqlite3.connect(room.store.path) as reader:
            found = str(reader.execute("SELECT content FROM messages WHERE writing").fetchone()[0])
        reader.close()
        return found

    await until(lambda: len(saved()) > 6)
    assert room.service.active_job(chat.id) is not None


async def test_deleting_a_conversation_stops_its_reply(make_room: MakeRoom) -> None:
    room = await make_room(delay=0.1, context_size=1000)
    chat = room.store.create()
    job = await room.service.send(chat.id, "w " * 60)
    await room.service.delete(chat.id)
    assert job.state is JobState.CANCELLED
    assert room.store.list() == ()
