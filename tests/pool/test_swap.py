"""Swaps under way: who answers whom, what is handed over, and what is there after a failure."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable

import pytest

from tests.pool.conftest import ROOM_FOR_ONE, facts, loader
from webui.errors import Cancelled, EngineCrashed, EngineHung, EngineRefused, NotLoaded
from webui.loaders.contract import GenerationRequest, LoadedModel
from webui.loaders.sampling import SamplingParameters
from webui.models.facts import ModelFacts
from webui.planning.recovery import StepKind
from webui.pool import Job, JobState, LoadRequest, Pool, PoolState

MakePool = Callable[..., Pool]
SLOW = {"delay": 0.05, "context_size": 1000}


def words(count: int) -> str:
    return " ".join(f"w{number}" for number in range(count))


async def reached(job: Job, tokens: int) -> None:
    async for _update in job.updates(100):
        if job.tokens >= tokens:
            return
    raise AssertionError(f"{job.state} after {job.tokens} tokens: {job.error}")


async def until(pool: Pool, condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        async for _status in pool.watch():
            if condition():
                return


def leaving(pool: Pool) -> bool:
    """The model before finishes what it is writing, and the next one has not begun to load."""
    ladder = pool.status.ladder
    return bool(ladder) and ladder[-1].attempt.kind is StepKind.PREVIOUS_MODEL and ladder[-1].state == "running"


async def rest_of_it(new: ModelFacts, model: LoadedModel, text: str) -> GenerationRequest:
    written = text.split()
    return GenerationRequest(" ".join([f"{new.name}:", *words(60).split()[len(written) :]]))


@pytest.mark.parametrize("available", [1 << 40, ROOM_FOR_ONE], ids=["room for both", "room for one"])
async def test_a_reply_is_handed_over_where_it_stands(make_pool: MakePool, available: int) -> None:
    pool = make_pool(available=available)
    old = facts("old")
    await pool.load(LoadRequest(old, parameters=SLOW))
    running = pool.submit(GenerationRequest(words(60)), owner="a", made_for=old, remake=rest_of_it)
    waiting = pool.submit(GenerationRequest("other words"), owner="b", made_for=old, remake=rest_of_it)
    await reached(running, 5)
    await pool.load(LoadRequest(facts("new"), running="hand over"))
    await asyncio.gather(running.wait(), waiting.wait())
    first, second = running.text.split("new: ")
    assert f"{first}{second}".split() == words(60).split()
    assert len(first.split()) >= 5
    assert waiting.text.startswith("new: ")
    assert (running.state, waiting.state) == (JobState.DONE, JobState.DONE)
    assert running.finished is not None and running.finished.completion_tokens == 61


async def test_without_a_remake_only_the_same_file_takes_a_reply_over(make_pool: MakePool) -> None:
    pool = make_pool()
    one = facts("one")
    await pool.load(LoadRequest(one, parameters=SLOW))
    request = GenerationRequest(words(200), SamplingParameters(max_tokens=100))
    job = pool.submit(request, owner="a", made_for=one)
    await reached(job, 3)
    await pool.load(LoadRequest(one, parameters=SLOW, running="hand over"))
    await job.wait()
    # The toy repeats its prompt, and the prompt of the second part is the first prompt and what was written.
    assert (job.state, job.tokens) == (JobState.DONE, 100)
    job = pool.submit(GenerationRequest(words(200)), owner="a", made_for=one)
    await reached(job, 3)
    await pool.load(LoadRequest(facts("two"), running="hand over"))
    await job.wait()
    assert isinstance(job.error, NotLoaded) and job.text.startswith("w0 w1 w2 ")


async def test_what_is_asked_during_a_failed_swap_is_answered_by_the_model_before_it(make_pool: MakePool) -> None:
    pool = make_pool(available=ROOM_FOR_ONE)
    good = facts("good")
    await pool.load(LoadRequest(good, parameters=SLOW))
    last = pool.submit(GenerationRequest(words(50)), owner="a", made_for=good)
    await reached(last, 1)
    loading = asyncio.create_task(pool.load(LoadRequest(facts("bad"), parameters={"fault": "refuse"})))
    await until(pool, lambda: leaving(pool))
    asked = pool.submit(GenerationRequest("anybody there"), owner="b", made_for=good)
    assert asked.state is JobState.QUEUED
    with pytest.raises(EngineRefused):
        await loading
    assert (await last.wait()).text.count(" ") == 50
    assert (await asked.wait()).text == "anybody there "
    kinds = [(rung.attempt.kind, rung.state) for rung in pool.status.ladder]
    assert kinds == [
        (StepKind.PREVIOUS_MODEL, "worked"),
        (StepKind.ASKED, "failed"),
        (StepKind.PREVIOUS_MODEL, "worked"),
    ]


async def test_a_swap_cancelled_while_the_old_model_finishes_leaves_it_as_it_was(make_pool: MakePool) -> None:
    pool = make_pool(available=ROOM_FOR_ONE)
    await pool.load(LoadRequest(facts("good"), parameters=SLOW))
    pid = pool.status.pid
    job = pool.submit(GenerationRequest(words(100)), owner="a")
    await reached(job, 1)
    loading = asyncio.create_task(pool.load(LoadRequest(facts("next"))))
    await until(pool, lambda: leaving(pool))
    queued = pool.submit(GenerationRequest("and me"), owner="b")
    await pool.cancel_load()
    with pytest.raises(Cancelled):
        await loading
    assert pool.status.pid == pid and pool.status.state is PoolState.READY
    assert (await queued.wait()).text == "and me "
    assert (await job.wait()).text.count(" ") == 100


async def test_the_new_model_answers_a_first_token_before_the_old_one_goes(make_pool: MakePool) -> None:
    pool = make_pool((loader("first"),))
    await pool.load(LoadRequest(facts("good")))
    with pytest.raises(EngineCrashed):
        await pool.load(LoadRequest(facts("bad"), loader="first", parameters={"fault": "crash"}))
    status = pool.status
    assert (status.state, status.facts and status.facts.name) == (PoolState.READY, "good")
    assert [failure.phase for failure in pool.failures()][-1] == "load"


async def test_a_crash_at_the_first_prompt_is_cured_by_safer_flags_and_happens_once(make_pool: MakePool) -> None:
    pool = make_pool(loaders__toy__fragile=True)
    status = await pool.load(LoadRequest(facts("one")))
    assert status.parameters["fragile"] is False
    assert [(rung.attempt.kind, rung.state) for rung in status.ladder] == [
        (StepKind.ASKED, "failed"),
        (StepKind.SAFER_FLAGS, "worked"),
    ]
    assert isinstance(status.ladder[0].error, EngineCrashed)
    assert [failure.phase for failure in pool.failures()] == ["canary"]
    assert status.degraded is not None and status.degraded.better
    status = await pool.load(LoadRequest(facts("one")))
    assert [(rung.attempt.kind, rung.state) for rung in status.ladder] == [(StepKind.REMEMBERED, "worked")]
    status = await pool.load(LoadRequest(facts("one"), afresh=True))
    assert status.ladder[0].attempt.kind is StepKind.ASKED and status.ladder[0].state == "failed"
    assert [story.outcome for story in pool.loads()] == ["loaded", "loaded", "loaded"]


async def test_a_job_sent_to_a_worker_that_died_unseen_is_answered_by_the_next_one(make_pool: MakePool) -> None:
    pool = make_pool()
    await pool.load(LoadRequest(facts("one")))
    pid = pool.status.pid or 0
    os.kill(pid, signal.SIGKILL)  # and the pool has had no turn to notice
    job = await pool.submit(GenerationRequest("are you there"), owner="a").wait()
    assert (job.state, job.text) == (JobState.DONE, "are you there ")


async def test_a_hung_engine_is_recorded_before_it_is_ended(make_pool: MakePool) -> None:
    pool = make_pool(limits__silence_timeout_seconds=1)
    await pool.load(LoadRequest(facts("one")))
    job = await pool.submit(GenerationRequest("a HANG"), owner="a").wait()
    assert isinstance(job.error, EngineHung)
    assert any("toy.py" in line for line in job.error.evidence), job.error.evidence
    failure = pool.failures()[0]
    assert (failure.phase, type(failure.error)) == ("reply", EngineHung)


async def test_jobs_that_wait_for_a_model_that_dies_on_its_way_out_go_to_the_next(make_pool: MakePool) -> None:
    pool = make_pool()
    old = facts("old")
    await pool.load(LoadRequest(old, parameters=SLOW))
    running = pool.submit(GenerationRequest(words(60)), owner="a", made_for=old)
    waiting = pool.submit(GenerationRequest(words(3)), owner="b", made_for=old, remake=rest_of_it)
    await reached(running, 1)
    pid = pool.status.pid or 0
    await pool.load(LoadRequest(facts("new")))
    assert pool.status.finishing == 1
    os.kill(pid, signal.SIGKILL)
    await asyncio.gather(running.wait(), waiting.wait())
    assert isinstance(running.error, EngineCrashed) and running.text
    assert waiting.text.startswith("new: ")


async def test_unloading_during_a_restart_leaves_nothing(make_pool: MakePool) -> None:
    pool = make_pool()
    await pool.load(LoadRequest(facts("one")))
    os.kill(pool.status.pid or 0, signal.SIGKILL)
    await until(pool, lambda: pool.status.state is PoolState.LOADING)
    await pool.unload()
    assert pool.status.state is PoolState.EMPTY and pool.workers() == []
