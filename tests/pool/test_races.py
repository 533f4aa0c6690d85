"""Moments at which two things happen to the pool at once; each was wrong at some time. With workers at loop speed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from tests.pool.conftest import ROOM_FOR_ONE, facts, loader
from tests.pool.quick import Machine
from tests.pool.storms import Weather
from webui.errors import AppError, Busy, Cancelled, EngineHung, EngineRefused, NotLoaded
from webui.loaders.contract import GenerationRequest, LoadedModel
from webui.models.facts import ModelFacts
from webui.paths import Paths
from webui.planning.recovery import StepKind
from webui.pool import Job, JobState, LoadRequest, Pool, PoolState
from webui.pool.jobs import Remake
from webui.settings import Settings

OLD, NEW = facts("old"), facts("new")
SLOW = {"delay": 0.005, "context_size": 1000}
HANGING = {"fault": "hang"}
LONG = " ".join(f"w{number}" for number in range(200))


class Place:
    """A pool of quick workers, its surroundings, and the machine that they live on."""

    def __init__(self, pool: Pool, weather: Weather, machine: Machine) -> None:
        self.pool = pool
        self.weather = weather
        self.machine = machine

    def ask(self, prompt: str, remake: Remake | None = None, made_for: ModelFacts | None = None) -> Job:
        return self.pool.submit(GenerationRequest(prompt), owner="a", made_for=made_for, remake=remake)

    def kill(self) -> None:
        assert self.pool.status.pid is not None
        self.machine.kill(self.pool.status.pid)

    def load(self, request: LoadRequest) -> asyncio.Task[object]:
        return asyncio.create_task(self.pool.load(request))


@pytest.fixture
async def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Place]:
    loaders = {name: loader(name) for name in ("first", "second")}
    paths = Paths.from_environment({"GGUF_HOME": str(tmp_path)})
    machine = Machine(1)
    monkeypatch.setattr("webui.pool.residency.WorkerProcess", machine.worker)
    weather = Weather(Settings.load(paths, environment={}, loaders=loaders), limit=0.5)
    pool = Pool(lambda: weather.settings, loaders, lambda: weather.available, device_memory=lambda: 0)
    async with asyncio.timeout(20):
        yield Place(pool, weather, machine)
        await pool.close()
        assert machine.living == {}
        for job in pool.jobs():
            await job.wait()


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0)


async def rest(new: ModelFacts, model: LoadedModel, text: str) -> GenerationRequest:
    return GenerationRequest(" ".join(LONG.split()[len(text.split()) :]))


async def test_who_waits_is_told_when_the_model_before_cannot_be_brought_back_in_time(place: Place) -> None:
    pool = place.pool
    await pool.load(LoadRequest(OLD, parameters=SLOW))
    place.weather.available = ROOM_FOR_ONE
    loading = place.load(LoadRequest(NEW, parameters=HANGING))
    await until(lambda: pool.status.step == "reading")
    waiting = place.ask("anybody")
    await pool.unload()
    with pytest.raises(Cancelled):
        await loading
    assert isinstance((await waiting.wait()).error, NotLoaded)
    assert pool.status.state is PoolState.EMPTY and place.machine.living == {}
    restores = [rung for rung in pool.loads()[0].rungs if rung.attempt.reason.startswith("Brought back")]
    assert restores == []


async def test_bringing_back_may_be_cancelled_and_nobody_is_forgotten(place: Place) -> None:
    pool = place.pool
    await pool.load(LoadRequest(OLD, loader="first", parameters=HANGING | {"fault": "slow"}))
    place.weather.available = ROOM_FOR_ONE
    loading = place.load(LoadRequest(NEW, parameters={"fault": "refuse"}))
    await until(lambda: pool.status.step.startswith("bringing back"))
    waiting = place.ask("anybody")
    assert waiting.state is JobState.QUEUED
    await pool.cancel_load()
    with pytest.raises(EngineRefused):
        await loading
    assert isinstance((await waiting.wait()).error, NotLoaded)
    assert pool.status.state is PoolState.FAILED and place.machine.living == {}


async def test_what_is_asked_while_the_model_before_is_brought_back_is_answered_by_it(place: Place) -> None:
    pool = place.pool
    await pool.load(LoadRequest(OLD, parameters=SLOW))
    place.weather.available = ROOM_FOR_ONE
    loading = place.load(LoadRequest(NEW, parameters={"fault": "refuse"}))
    await until(lambda: pool.status.step.startswith("bringing back"))
    job = place.ask("anybody there")
    with pytest.raises(EngineRefused):
        await loading
    assert (await job.wait()).text == "anybody there "


@pytest.mark.parametrize("available", [1 << 40, ROOM_FOR_ONE], ids=["room for both", "room for one"])
async def test_cancelling_again_and_again_leaves_nothing_half_done(place: Place, available: int) -> None:
    pool = place.pool
    for turn in range(60):
        place.weather.available = 1 << 40
        pause = turn % 20 / 2000
        await pool.load(LoadRequest(OLD, parameters=SLOW))
        job = place.ask(LONG, rest)
        place.weather.available = available
        loading = place.load(LoadRequest(NEW, parameters=SLOW, running="hand over"))
        await asyncio.sleep(pause)
        await asyncio.gather(*(pool.cancel_load() for _time in range(turn // 20 + 1)))
        await asyncio.gather(loading, return_exceptions=True)
        await until(lambda: len(place.machine.living) == 1)
        job.cancel()
        assert (await job.wait()).state is JobState.CANCELLED


async def test_a_prompt_that_is_made_for_long_does_not_stop_the_worker_that_follows(place: Place) -> None:
    pool = place.pool
    made = asyncio.Event()

    async def late(new: ModelFacts, model: LoadedModel, text: str) -> GenerationRequest:
        await made.wait()
        return GenerationRequest("made late")

    await pool.load(LoadRequest(OLD, parameters={"slots": 2}))
    job = place.ask("first", late, made_for=NEW)
    await until(lambda: pool.status.running == 1)
    pid = pool.status.pid
    place.kill()
    await until(lambda: pool.status.pid not in (pid, None) and pool.status.state is PoolState.READY)
    made.set()
    assert (await job.wait()).text == "made late "
    assert (await place.ask("and the next").wait()).text == "and the next "


async def hanging(new: ModelFacts, model: LoadedModel, text: str) -> GenerationRequest:
    await asyncio.Event().wait()
    raise AssertionError


async def breaking(new: ModelFacts, model: LoadedModel, text: str) -> GenerationRequest:
    raise ValueError("no such turn")


async def test_a_prompt_that_is_never_made_or_breaks_ends_its_own_job_only(place: Place) -> None:
    await place.pool.load(LoadRequest(OLD, parameters={"slots": 1}))
    cancelled = place.ask("one", hanging, made_for=NEW)
    await until(lambda: place.pool.status.running == 1)
    cancelled.cancel()
    cancelled.cancel()
    assert (await cancelled.wait()).state is JobState.CANCELLED
    late = await place.ask("two", hanging, made_for=NEW).wait()
    assert late.error is not None and "longer than" in late.error.cause
    broken = await place.ask("three", breaking, made_for=NEW).wait()
    assert broken.error is not None and "no such turn" in broken.error.cause
    assert (await place.ask("four").wait()).text == "four "


async def test_counting_tokens_for_a_model_that_is_leaving_does_not_wait_for_the_next_one(place: Place) -> None:
    pool = place.pool

    async def counted(new: ModelFacts, model: LoadedModel, text: str) -> GenerationRequest:
        return GenerationRequest("of " + str(len(await pool.tokenize("one two", by=model))))

    await pool.load(LoadRequest(OLD, parameters=SLOW))
    running = place.ask(LONG)
    waiting = place.ask("x", counted)
    place.weather.available = ROOM_FOR_ONE
    await pool.load(LoadRequest(NEW))
    assert (running.text.split(), waiting.text) == (LONG.split(), "of 2 ")


async def test_a_restart_beside_a_load_has_a_story_of_its_own(place: Place) -> None:
    pool = place.pool
    await pool.load(LoadRequest(OLD))
    loading = place.load(LoadRequest(NEW, parameters=HANGING, loader="first"))
    await until(lambda: pool.status.step == "reading")
    place.kill()
    await until(lambda: any(story.cause == "restart" for story in pool.loads()))
    assert [(rung.attempt.kind, rung.state) for rung in pool.status.ladder] == [(StepKind.ASKED, "running")]
    assert pool.status.step == "reading"
    await pool.cancel_load()
    await asyncio.gather(loading, return_exceptions=True)
    told = {story.cause: [rung.attempt.kind for rung in story.rungs] for story in pool.loads()[:2]}
    assert told == {"restart": [StepKind.RESTART], "load": [StepKind.ASKED]}
    assert [story.model for story in pool.loads()[:2]] == ["new", "old"]
    assert (await place.ask("still here").wait()).text == "still here "


async def test_jobs_of_a_model_that_is_replaced_while_it_restarts_go_to_the_new_one(place: Place) -> None:
    pool = place.pool
    await pool.load(LoadRequest(OLD, parameters=SLOW))
    loading = place.load(LoadRequest(NEW, parameters={"fault": "slow"}))
    await until(lambda: pool.status.step == "reading")
    running, waiting = place.ask(LONG), place.ask("later")
    await until(lambda: running.tokens > 0)
    place.kill()
    await asyncio.gather(running.wait(), waiting.wait(), loading)
    assert running.text and running.state is JobState.FAILED
    assert waiting.text == "later "
    await until(lambda: len(place.machine.living) == 1)


async def test_a_job_that_comes_to_a_dying_model_on_its_way_out_is_answered_by_the_next(place: Place) -> None:
    pool = place.pool
    for turn in range(30):
        await pool.load(LoadRequest(OLD, parameters=SLOW))
        first, second = place.ask("one two three"), place.ask("after it")
        pid = pool.status.pid or 0
        await pool.load(LoadRequest(NEW))
        await until(lambda job=first: job.ended)  # type: ignore[misc]
        for _moment in range(turn % 6):
            await asyncio.sleep(0)
        place.machine.kill(pid)
        await asyncio.gather(first.wait(), second.wait())
        assert second.text in ("after it ", "after ", "") and (second.error is None) == (second.text == "after it ")
        await until(lambda: not pool.status.finishing and len(place.machine.living) == 1)


async def test_a_hung_engine_is_ended_though_who_noticed_has_left(place: Place) -> None:
    pool = place.pool
    await pool.load(LoadRequest(OLD, parameters={"slots": 2}))
    pid = pool.status.pid
    worker = place.machine.living[pid or 0]
    worker.pause = lambda most=0.0: asyncio.Event().wait()  # type: ignore[assignment, method-assign, misc]
    counting = asyncio.create_task(pool.tokenize("one"))
    await until(lambda: worker.hung)
    counting.cancel()
    await until(lambda: pool.status.state is PoolState.READY and pool.status.pid != pid)
    assert [(failure.phase, type(failure.error)) for failure in pool.failures()] == [("reply", EngineHung)]
    assert (await place.ask("again").wait()).text == "again "


async def test_unloading_does_not_wait_for_an_engine_that_does_not_listen(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("webui.pool.residency.CANCEL_SECONDS", 0.1)
    place.weather.limit(3600)
    await place.pool.load(LoadRequest(OLD))
    job = place.ask("word HANG")
    await until(lambda: job.tokens == 1)
    await asyncio.gather(place.pool.unload(), place.pool.unload())
    assert place.machine.living == {}
    assert (job.state, job.text) == (JobState.CANCELLED, "word ")


async def test_a_model_that_was_given_up_is_not_in_the_way_of_the_next(place: Place) -> None:
    pool = place.pool
    await pool.load(LoadRequest(OLD))
    for _death in range(4):
        await place.ask("one CRASH").wait()
    await until(lambda: pool.status.state is PoolState.FAILED)
    loading = place.load(LoadRequest(NEW, parameters={"fault": "slow"}))
    await until(lambda: pool.status.incoming is not None)
    job = place.ask("in time")
    await loading
    assert (await job.wait()).text == "in time "
    assert [rung.attempt.kind for rung in pool.status.ladder] == [StepKind.ASKED]


async def test_nothing_is_loaded_by_a_pool_that_is_closed(place: Place) -> None:
    pool = place.pool
    await pool.load(LoadRequest(OLD))
    place.weather.available = ROOM_FOR_ONE
    loading = place.load(LoadRequest(NEW, parameters=HANGING))
    await until(lambda: pool.status.step == "reading")
    closing = asyncio.create_task(pool.close())
    await asyncio.sleep(0)
    with pytest.raises(NotLoaded):
        await pool.load(LoadRequest(OLD))
    await closing
    with pytest.raises(Cancelled):
        await loading
    with pytest.raises(NotLoaded):
        place.ask("anybody")
    with pytest.raises(NotLoaded):
        await pool.load(LoadRequest(OLD))


async def test_a_load_that_is_cancelled_at_once_says_so(place: Place) -> None:
    loading = place.load(LoadRequest(OLD))
    await asyncio.sleep(0)
    await place.pool.cancel_load()
    with pytest.raises(Cancelled):
        await loading
    assert [story.outcome for story in place.pool.loads()] == ["cancelled"]


async def test_a_fault_in_the_choice_is_told_like_any_other(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_arguments: object) -> None:
        raise KeyError("a fault of ours")

    monkeypatch.setattr("webui.pool.choosing.Chooser.choose", broken)
    with pytest.raises(AppError, match="Loading broke"):
        await place.pool.load(LoadRequest(OLD))
    status = place.pool.status
    assert status.state is PoolState.FAILED and status.failure is not None and "a fault of ours" in status.failure.cause


async def test_a_second_load_is_refused_until_the_first_has_ended(place: Place) -> None:
    loading = place.load(LoadRequest(OLD, parameters=HANGING))
    await asyncio.sleep(0)
    with pytest.raises(Busy):
        await place.pool.load(LoadRequest(NEW))
    await place.pool.cancel_load()
    await asyncio.gather(loading, return_exceptions=True)
    await place.pool.load(LoadRequest(NEW))
