"""Loading, swapping, failing, restarting: the pool with real processes."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable

import psutil
import pytest

from tests.pool.conftest import ROOM_FOR_ONE, facts, loader
from webui.errors import (
    Busy,
    Cancelled,
    ContextTooLong,
    EngineCrashed,
    EngineHung,
    EngineRefused,
    InvalidSetting,
    NotFound,
    NotLoaded,
    UnsupportedFormat,
)
from webui.loaders.contract import GenerationRequest
from webui.pool import Job, JobState, LoadRequest, Pool, PoolState

MakePool = Callable[..., Pool]
SLOW = {"delay": 0.02, "context_size": 1000}


def words(count: int) -> str:
    return " ".join(f"w{number}" for number in range(count))


async def ask(pool: Pool, prompt: str) -> Job:
    return await pool.submit(GenerationRequest(prompt), owner="test").wait()


async def test_an_empty_pool_refuses_politely(make_pool: MakePool) -> None:
    pool = make_pool()
    assert pool.status.state is PoolState.EMPTY
    with pytest.raises(NotLoaded):
        pool.submit(GenerationRequest("x"), owner="a")
    with pytest.raises(NotLoaded):
        await pool.tokenize("x")
    with pytest.raises(NotFound):
        pool.job("nothing")


async def test_load_answer_unload(make_pool: MakePool) -> None:
    pool = make_pool()
    status = await pool.load(LoadRequest(facts("one")))
    assert (status.state, status.loader, status.facts and status.facts.name) == (PoolState.READY, "toy", "one")
    job = await ask(pool, "hello there")
    assert (job.state, job.text) == (JobState.DONE, "hello there ")
    assert pool.job(job.id) is job
    assert pool.status.used_tokens == 4
    pid = pool.status.pid
    assert pid is not None and psutil.pid_exists(pid)
    await pool.unload()
    assert not psutil.pid_exists(pid)
    assert pool.status.state is PoolState.EMPTY


async def test_jobs_wait_while_a_first_model_is_loading(make_pool: MakePool) -> None:
    pool = make_pool()
    loading = asyncio.create_task(pool.load(LoadRequest(facts("one"))))
    while pool.status.incoming is None:
        await asyncio.sleep(0.01)
    job = pool.submit(GenerationRequest("early bird"), owner="a")
    assert (job.state, job.place) == (JobState.QUEUED, 1)
    assert (await job.wait()).text == "early bird "
    await loading


async def test_slots_queue_and_refusal(make_pool: MakePool) -> None:
    pool = make_pool(limits__queue_length=2)
    await pool.load(LoadRequest(facts("one"), parameters={**SLOW, "slots": 2}))
    jobs = [pool.submit(GenerationRequest(words(20)), owner=str(n)) for n in range(4)]
    assert [job.place for job in jobs] == [0, 0, 1, 2]
    assert (pool.status.running, pool.status.queued) == (2, 2)
    with pytest.raises(Busy) as caught:
        pool.submit(GenerationRequest("x"), owner="late")
    assert caught.value.facts["retry_after_seconds"] > 0
    await asyncio.gather(*(job.wait() for job in jobs))
    assert {job.state for job in jobs} == {JobState.DONE}


async def test_cancel_is_of_one_job_only_running_or_waiting(make_pool: MakePool) -> None:
    pool = make_pool()
    await pool.load(LoadRequest(facts("one"), parameters=SLOW))
    running, waiting, other = (pool.submit(GenerationRequest(words(30)), owner=str(n)) for n in range(3))
    waiting.cancel()
    assert waiting.state is JobState.CANCELLED
    assert other.place == 1
    async for _job in running.updates(100):
        if running.text:
            running.cancel()
    assert running.state is JobState.CANCELLED
    assert running.text.startswith("w0 ") and "w29" not in running.text
    assert (await other.wait()).state is JobState.DONE


async def test_every_piece_reaches_every_reader_also_a_late_one(make_pool: MakePool) -> None:
    pool = make_pool()
    await pool.load(LoadRequest(facts("one"), parameters=SLOW))
    job = pool.submit(GenerationRequest(words(20)), owner="a")

    async def read() -> str:
        return "".join([piece async for piece in job.pieces()])

    early = asyncio.create_task(read())
    await job.wait()
    assert await early == await read() == job.text


async def test_updates_are_held_back_to_the_rate_asked_for(make_pool: MakePool) -> None:
    pool = make_pool()
    await pool.load(LoadRequest(facts("one"), parameters={**SLOW, "delay": 0.002}))
    job = pool.submit(GenerationRequest(words(200)), owner="a")
    seen = [(update.text, update.state) async for update in job.updates(10)]
    texts = [text for text, _state in seen if text]
    assert texts[0].count(" ") < 20
    assert seen[-1] == (job.text, JobState.DONE)
    assert job.total_seconds is not None
    assert len(texts) <= job.total_seconds * 10 + 4


async def test_a_failed_load_says_why_and_leaves_the_state_failed(make_pool: MakePool) -> None:
    pool = make_pool()
    with pytest.raises(EngineRefused, match="The toy refuses"):
        await pool.load(LoadRequest(facts("bad"), parameters={"fault": "refuse"}))
    assert pool.status.state is PoolState.FAILED
    assert isinstance(pool.status.failure, EngineRefused)
    assert [failure.phase for failure in pool.failures()] == ["load"]
    assert pool.workers() == []


@pytest.mark.parametrize("available", [1 << 40, ROOM_FOR_ONE], ids=["room for both", "room for one"])
async def test_a_failed_swap_keeps_the_model_before_it(make_pool: MakePool, available: int) -> None:
    pool = make_pool(available=available)
    await pool.load(LoadRequest(facts("good")))
    with pytest.raises(EngineRefused):
        await pool.load(LoadRequest(facts("bad"), parameters={"fault": "refuse"}))
    status = pool.status
    assert (status.state, status.facts and status.facts.name) == (PoolState.READY, "good")
    assert isinstance(status.failure, EngineRefused)
    assert (await ask(pool, "still here")).text == "still here "


async def test_a_swap_lets_running_jobs_finish(make_pool: MakePool) -> None:
    pool = make_pool()
    await pool.load(LoadRequest(facts("old"), parameters=SLOW))
    old = pool.status.pid
    job = pool.submit(GenerationRequest(words(60)), owner="a")
    await pool.load(LoadRequest(facts("new")))
    assert pool.status.facts is not None and pool.status.facts.name == "new"
    assert (await job.wait()).text.count(" ") == 60
    async for status in pool.watch():
        if len(pool.workers()) == 1:
            assert status.pid != old
            break


async def test_the_next_loader_is_tried_and_the_story_is_told(make_pool: MakePool) -> None:
    pool = make_pool((loader("first"), loader("second")), loaders__first__fault="refuse")
    status = await pool.load(LoadRequest(facts("one")))
    assert status.loader == "second"
    told = [(rung.attempt.loader, rung.state) for rung in status.ladder]
    assert told == [("first", "failed"), ("second", "worked")]
    assert status.degraded is not None and "First" in status.degraded.sentence


async def test_without_fallback_the_first_failure_is_final(make_pool: MakePool) -> None:
    pool = make_pool(
        (loader("first"), loader("second")), loaders__first__fault="refuse", backends__fallback_enabled=False
    )
    with pytest.raises(EngineRefused):
        await pool.load(LoadRequest(facts("one")))


async def test_a_forced_loader_is_not_replaced_and_its_parameters_are_checked(make_pool: MakePool) -> None:
    pool = make_pool((loader("first"), loader("second")), loaders__first__fault="refuse")
    with pytest.raises(EngineRefused):
        await pool.load(LoadRequest(facts("one"), loader="first"))
    with pytest.raises(InvalidSetting, match="context_sise is not a known parameter; did you mean context_size"):
        await pool.load(LoadRequest(facts("one"), loader="second", parameters={"context_sise": 5}))
    with pytest.raises(UnsupportedFormat):
        await pool.load(LoadRequest(facts("one"), loader="nonsense"))


async def test_one_load_at_a_time_and_cancel_brings_everything_back(make_pool: MakePool) -> None:
    pool = make_pool()
    await pool.load(LoadRequest(facts("good")))
    loading = asyncio.create_task(pool.load(LoadRequest(facts("slow"), parameters={"fault": "hang"})))
    while pool.status.step != "reading":
        await asyncio.sleep(0.01)
    with pytest.raises(Busy):
        await pool.load(LoadRequest(facts("third")))
    await pool.cancel_load()
    with pytest.raises(Cancelled):
        await loading
    assert pool.status.state is PoolState.READY
    assert (await ask(pool, "still here")).state is JobState.DONE


async def test_a_load_outlives_the_page_that_asked_for_it(make_pool: MakePool) -> None:
    pool = make_pool()
    page = asyncio.create_task(pool.load(LoadRequest(facts("one"))))
    await asyncio.sleep(0.05)
    page.cancel()
    async for status in pool.watch():
        if status.state is PoolState.READY:
            break


async def test_a_killed_worker_keeps_the_text_names_the_cause_and_comes_back(make_pool: MakePool) -> None:
    pool = make_pool()
    await pool.load(LoadRequest(facts("one"), parameters=SLOW))
    job = pool.submit(GenerationRequest(words(50)), owner="a")
    async for _update in job.updates(100):
        if job.tokens == 5:
            os.kill(pool.status.pid or 0, signal.SIGKILL)
            break
    await job.wait()
    assert job.state is JobState.FAILED
    assert job.text.startswith("w0 w1 w2 w3 w4 ")
    assert isinstance(job.error, EngineCrashed) and job.error.facts["signal"] == "SIGKILL"
    pace = job.tokens_per_second
    assert (await ask(pool, "and again")).text == "and again "
    assert pace is not None and job.tokens_per_second == pace, "a reply that ended grows no slower"
    assert any("Started again" in note for note in pool.status.notes)
    assert [failure.phase for failure in pool.failures()] == ["reply"]


async def test_a_crash_loop_ends_with_a_reason(make_pool: MakePool) -> None:
    pool = make_pool()
    await pool.load(LoadRequest(facts("one")))
    for _attempt in range(4):
        assert isinstance((await ask(pool, "one CRASH")).error, EngineCrashed)
    async for status in pool.watch():
        if status.state is PoolState.FAILED:
            assert status.failure is not None and "not started again" in status.failure.cause
            break
    with pytest.raises(NotLoaded, match="No model is loaded"):
        pool.submit(GenerationRequest("x"), owner="a")
    await pool.load(LoadRequest(facts("one")))
    assert (await ask(pool, "fresh")).text == "fresh "


async def test_a_silent_engine_is_ended_and_replaced(make_pool: MakePool) -> None:
    pool = make_pool(limits__silence_timeout_seconds=1)
    await pool.load(LoadRequest(facts("one")))
    job = await ask(pool, "a HANG")
    assert isinstance(job.error, EngineHung)
    assert job.text == "a "
    assert (await ask(pool, "next")).text == "next "


async def test_an_error_of_the_engine_ends_the_job_and_nothing_else(make_pool: MakePool) -> None:
    pool = make_pool()
    await pool.load(LoadRequest(facts("one")))
    pid = pool.status.pid
    assert isinstance((await ask(pool, "RAISE")).error, EngineRefused)
    assert isinstance((await ask(pool, words(100))).error, ContextTooLong)
    assert (await ask(pool, "fine")).state is JobState.DONE
    assert pool.status.pid == pid


async def test_gpu_switched_off_reaches_every_loader_that_has_layers(make_pool: MakePool) -> None:
    pool = make_pool(backends__gpu_enabled=False)
    await pool.load(LoadRequest(facts("one")))
    assert "gpu_layers" not in pool.status.parameters  # the toy has none: it must not be given any
