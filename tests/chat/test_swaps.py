"""Models that change under a conversation: no prompt reaches a model it was not made for; nothing written is lost."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable

import pytest

from tests.chat.conftest import ROOM_FOR_ONE, Room, toy_facts
from webui.chat.exchange import Exchange
from webui.chat.prompting import Prepared, Prompter, Question
from webui.errors import ContextTooLong, EngineCrashed, EngineRefused, NotLoaded
from webui.loaders.contract import LoadedModel
from webui.loaders.sampling import SamplingParameters
from webui.planning.recovery import StepKind
from webui.pool import Job, JobState, LoadRequest, PoolState

MakeRoom = Callable[..., Awaitable[Room]]

NEW = "{% for m in messages %}<{{ m.role }}> {{ m.content }} {% endfor %}<new> "
THINKING = "{% for m in messages %}{{ m.content }} {% endfor %}{{ '<think>\\n' }}"
SLOW = {"delay": 0.02, "context_size": 1000}
LONG = " ".join(f"w{number}" for number in range(300))


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not condition():
            await asyncio.sleep(0.01)


async def begun(room: Room, chat_id: str, text: str = LONG, **options: object) -> Job:
    """A reply of which some words are written."""
    job = await room.service.send(chat_id, text, **options)  # type: ignore[arg-type]
    await until(lambda: job.tokens >= 5)
    return job


def leaving(room: Room) -> bool:
    """The model before the swap takes no more questions, and still writes."""
    status = room.pool.status
    return status.incoming is not None and [rung.attempt.kind for rung in status.ladder] == [StepKind.PREVIOUS_MODEL]


@pytest.mark.parametrize("available", [1 << 40, ROOM_FOR_ONE], ids=["room for both", "room for one"])
async def test_a_reply_handed_over_goes_on_with_the_new_model_s_template(make_room: MakeRoom, available: int) -> None:
    room = await make_room(available=available, **SLOW)
    chat = room.store.create(system_prompt="Sys")
    job = await begun(room, chat.id, sampling=SamplingParameters(max_tokens=280))
    await room.pool.load(LoadRequest(toy_facts(NEW, "other"), parameters={"context_size": 1000}, running="hand over"))
    written = job.tokens
    await room.service.settled(chat.id)
    assert job.state is JobState.DONE
    assert job.request.prompt.startswith(f"<system> Sys <user> {LONG} <new> system: Sys user: w0 w1 ")
    assert job.request.sampling.max_tokens <= 280 - 5
    assert (job.tokens, written < 280) == (280, True)
    reply = room.store.get(chat.id).messages[-1]
    first, rest = reply.content.split("<system>", maxsplit=1)
    assert job.request.prompt.endswith(first)
    assert rest.startswith(" Sys <user> w0")
    assert (reply.model, reply.loader) == ("toy, then other", "toy")
    assert reply.notes == ("The rest was written by other.",)


async def test_what_is_asked_during_a_swap_is_rendered_for_the_model_that_answers(make_room: MakeRoom) -> None:
    room = await make_room(available=ROOM_FOR_ONE, **SLOW)
    busy, chat = room.store.create(), room.store.create()
    await begun(room, busy.id)
    swap = asyncio.create_task(room.pool.load(LoadRequest(toy_facts(NEW, "other"), parameters={"context_size": 1000})))
    await until(lambda: leaving(room))
    assert room.pool.status.facts == toy_facts(), "the old one still answers"
    job = await room.service.send(chat.id, "Hello")
    assert job.state is JobState.QUEUED
    await swap
    await room.service.settled(chat.id)
    assert room.texts(chat.id)[-1] == ("assistant", "<user> Hello <new> ")
    assert room.store.get(chat.id).messages[-1].model == "other"
    await room.service.settled(busy.id)
    finished = room.store.get(busy.id).messages[-1]
    assert (finished.content, finished.model, finished.partial) == (f"user: {LONG} ", "toy", False)


async def test_a_swap_that_fails_gives_its_questions_back_to_the_old_model(make_room: MakeRoom) -> None:
    room = await make_room(available=ROOM_FOR_ONE, **SLOW)
    busy, chat = room.store.create(), room.store.create()
    await begun(room, busy.id)
    broken = LoadRequest(toy_facts(NEW, "other"), parameters={"fault": "refuse"})
    swap = asyncio.create_task(room.pool.load(broken))
    await until(lambda: leaving(room))
    await room.service.send(chat.id, "Hello")
    with pytest.raises(EngineRefused):
        await swap
    await room.service.settled(chat.id)
    assert room.texts(chat.id)[-1] == ("assistant", "user: Hello ")
    assert room.store.get(chat.id).messages[-1].model == "toy"


async def test_a_long_conversation_asked_while_the_model_loads_is_fitted_once_it_is_there(make_room: MakeRoom) -> None:
    room = await make_room(context_size=64)
    chat = room.store.create()
    for turn in range(3):
        await room.service.send(chat.id, f"turn{turn} " + "x " * 12, sampling=SamplingParameters(max_tokens=8))
        await room.service.settled(chat.id)
    os.kill(room.pool.status.pid or 0, signal.SIGSEGV)
    await until(lambda: room.pool.status.model is None)
    job = await room.service.send(chat.id, "last " + "y " * 12)
    assert job.state is JobState.QUEUED
    await room.service.settled(chat.id)
    assert job.state is JobState.DONE
    assert "turn0" not in job.request.prompt and "last y" in job.request.prompt
    assert "left out" in room.store.get(chat.id).messages[-1].notes[0]


async def test_a_crash_is_followed_by_what_was_done_about_it_and_continue_goes_on(make_room: MakeRoom) -> None:
    room = await make_room()
    chat = room.store.create()
    job = await room.service.send(chat.id, "before CRASH after")
    await room.service.settled(chat.id)
    assert isinstance(job.error, EngineCrashed)

    def notes() -> tuple[str, ...]:
        return room.store.get(chat.id).messages[-1].notes

    await until(lambda: bool(notes()))
    assert notes()[0].startswith("The engine was started again with")
    await room.pool.load(LoadRequest(toy_facts(NEW, "other"), parameters={"context_size": 1000}))
    job = await room.service.continue_reply(chat.id, sampling=SamplingParameters(max_tokens=3))
    await room.service.settled(chat.id)
    assert job.request.prompt == "<user> before CRASH after <new> user: before "
    reply = room.store.get(chat.id).messages[-1]
    assert reply.content == "user: before <user> before "
    assert (reply.partial, reply.model, reply.notes) == (True, "toy, then other", ("The rest was written by other.",))


async def test_a_model_lost_in_a_crash_loop_refuses_with_the_reason(make_room: MakeRoom) -> None:
    room = await make_room()
    chat = room.store.create()
    await room.service.send(chat.id, "CRASH")
    for _death in range(8):
        await room.service.settled(chat.id)
        await until(lambda: room.pool.status.state in (PoolState.READY, PoolState.FAILED))
        if room.pool.status.state is PoolState.FAILED:
            break
        await room.service.regenerate(chat.id)
    await until(lambda: any("not be started" in note for note in room.store.get(chat.id).messages[-1].notes))
    with pytest.raises(NotLoaded) as caught:
        await room.service.regenerate(chat.id)
    assert caught.value.cause
    assert len(room.texts(chat.id)) == 2, "the conversation is as it was"


def loaded(context_size: int) -> LoadedModel:
    return LoadedModel(context_size, "CPU", "cpu", "toy", "1")


async def test_a_question_is_made_again_only_for_another_model_or_context(make_room: MakeRoom) -> None:
    room = await make_room(context_size=1000)
    question = Question(messages=[{"role": "user", "content": "x " * 200 + "end"}], sampling=SamplingParameters())
    exchange = await Exchange.begin(room.service.prompter, question)
    job = exchange.submit("test")
    assert (await job.wait()).request is exchange.prepared.request
    made = await exchange._make_for(toy_facts(NEW, "other"), loaded(1000), "")
    assert made.prompt.endswith("end <new> ")
    assert exchange.models == ["other"]


async def test_the_reasoning_goes_on_where_the_next_template_does_not_open_it(make_room: MakeRoom) -> None:
    room = await make_room(THINKING, context_size=1000)
    prompter: Prompter = room.service.prompter
    question = Question(messages=[{"role": "user", "content": "hi"}], sampling=SamplingParameters(max_tokens=9))
    exchange = await Exchange.begin(prompter, question)
    exchange.submit("test").cancel()
    assert exchange.opening == "<think>\n"
    made = await exchange._make_for(toy_facts(NEW, "other"), loaded(1000), "hm")
    assert made.prompt == "<user> hi <new> <think>\nhm"
    assert exchange.opening == "<think>\n"


async def test_a_reply_begun_without_reasoning_goes_on_without_it(make_room: MakeRoom) -> None:
    room = await make_room(context_size=1000)
    messages = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "Yes"}]
    question = Question(messages=messages, sampling=SamplingParameters(), continue_final=True).going_on(", of", 2)
    prepared: Prepared = await room.service.prompter.prepare_for(toy_facts(THINKING, "r"), loaded(1000), question)
    assert prepared.request.prompt == "hi Yes, of"
    assert prepared.request.sampling.max_tokens == SamplingParameters().max_tokens - 2


async def test_what_does_not_fit_the_new_model_s_context_keeps_its_text(make_room: MakeRoom) -> None:
    room = await make_room(**SLOW)
    chat = room.store.create()
    job = await begun(room, chat.id)
    small = LoadRequest(toy_facts(NEW, "small"), parameters={"context_size": 40}, running="hand over")
    await room.pool.load(small)
    await room.service.settled(chat.id)
    reply = room.store.get(chat.id).messages[-1]
    assert isinstance(job.error, ContextTooLong)
    assert reply.content.startswith("user: w0 w1 w2 ") and reply.partial
    assert reply.model == "toy"
