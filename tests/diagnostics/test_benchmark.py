"""Benchmarks with worker processes: several loaders in turn, failures, stop, and what is loaded afterwards."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from tests.builders.gguf import tiny_llama_spm
from tests.diagnostics import moody
from webui.context import AppContext
from webui.diagnostics import model_tests
from webui.diagnostics.benchmark import measure
from webui.diagnostics.benchmark_loader import Superseded
from webui.diagnostics.benchmark_request import BenchmarkRequest
from webui.diagnostics.benchmarks import Running
from webui.diagnostics.tuning import Wanted
from webui.errors import Busy, NotFound
from webui.loaders.contract import GenerationRequest
from webui.loaders.sampling import SamplingParameters
from webui.models.facts import ModelFacts
from webui.models.inspect import inspect_model
from webui.paths import Paths
from webui.pool import LoadRequest, PoolState
from webui.settings import Settings

Make = Callable[..., AppContext]
WAIT_SECONDS = 60


@pytest.fixture
async def make(tmp_path: Path) -> AsyncIterator[Make]:
    made: list[AppContext] = []

    def opened(*kinds: tuple[str, str], home: str = "home", **values: object) -> AppContext:
        specs, settings = {}, {}
        for name, fault in kinds:
            spec, its_own = moody.spec(name, fault, **values)
            specs[name] = spec
            settings |= its_own
        paths = Paths(tmp_path / home).ensure()
        context = AppContext.create(
            paths, Settings.load(paths, environment={}, command_line=settings, loaders=specs), loaders=specs
        )
        made.append(context)
        return context

    yield opened
    for context in made:
        await context.close()


@pytest.fixture
def facts(tmp_path: Path) -> ModelFacts:
    return inspect_model(tiny_llama_spm(tmp_path / "tiny.gguf"))


def asked(facts: ModelFacts, *loaders: str, **changes: Any) -> BenchmarkRequest:
    return BenchmarkRequest(facts, loaders, **{"depths": (0, 200), "runs": 3, "reply_tokens": 5, **changes})


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(WAIT_SECONDS):
        while not true():
            await asyncio.sleep(0.01)


async def finished(context: AppContext, request: BenchmarkRequest) -> Running:
    active = context.benchmarks.start(request)
    async with asyncio.timeout(WAIT_SECONDS):
        await context.benchmarks.wait()
    return active


async def test_each_loader_is_measured_at_each_depth(make: Make, facts: ModelFacts) -> None:
    context = make(("one", ""), ("two", ""))
    told: list[tuple[str, float | None]] = []
    run = await measure(context, asked(facts, "one", "two"), progress=lambda *step: told.append(step))
    assert (run.state, run.model, run.depths, run.disturbed) == ("done", "tiny", (0, 200), False)
    for result in run.results:
        assert (result.error, result.device, result.engine_version) == (None, "CPU", "1")
        assert result.load is not None
        assert len(result.load.values) == 3
        assert result.context_size == 256  # what the deepest needs, and not the toy's own 64
        assert result.memory_bytes is not None
        assert (result.peak_memory_bytes or 0) >= result.memory_bytes > 1_000_000
        for found, tokens in zip(result.depths, (64, 200), strict=True):
            assert found.problem == ""
            assert found.prompt_tokens == (tokens, tokens, tokens)  # the toy counts words
            assert found.completion_tokens == (5, 5, 5)
            assert found.prompt_speed is not None
            assert found.prompt_speed.median == pytest.approx(tokens / 0.5)
            assert found.speed is not None
            assert found.speed.median > 0
    shares = [share for _, share in told if share is not None]
    assert shares == sorted(shares)
    assert 0 <= shares[0] < 0.1
    assert 0.9 < shares[-1] <= 1
    speeds = context.measurements.of(facts, {"one": None, "two": None})
    assert {(speed.loader, speed.depth, speed.source) for speed in speeds} == {
        (loader, depth, "bench") for loader in ("one", "two") for depth in (0, 200)
    }
    assert all(speed.parameters["context_size"] == 256 for speed in speeds)


async def test_a_loader_that_cannot_does_not_stop_the_others(make: Make, facts: ModelFacts) -> None:
    context = make(("refuses", "refuse"), ("moody", "moody"), ("cached", "cached"), ("sound", ""))
    run = await measure(context, asked(facts, "refuses", "moody", "cached", "sound", runs=2))
    refuses, broken, cached, sound = run.results
    assert (refuses.depths, refuses.failure.code if refuses.failure else "") == ((), "engine_refused")
    assert broken.failure is not None
    assert broken.failure.code == "engine_crashed"
    assert [found.depth for found in broken.depths] == [0]  # what was measured before it crashed
    assert all(found.prompt_speed is None and "cache" in found.problem for found in cached.depths)
    assert cached.depths[0].speed is not None
    assert sound.error is None
    assert not run.failed


async def test_a_depth_beyond_the_context_is_said(make: Make, facts: ModelFacts) -> None:
    context = make(("one", ""))
    run = await measure(context, asked(facts, "one", depths=(0, 1000), runs=1, parameters={"context_size": 300}))
    shallow, deep = run.results[0].depths
    assert (shallow.problem, shallow.prompt_tokens) == ("", (64,))
    assert deep.problem == "It takes a context of 1,015 tokens; this one holds 300."


@pytest.mark.parametrize("how", ["end", "stop", "failure"])
async def test_what_was_loaded_before_is_loaded_again(how: str, make: Make, facts: ModelFacts, tmp_path: Path) -> None:
    context = make(("one", ""), ("bad", "refuse"), delay=0.01)
    other = inspect_model(tiny_llama_spm(tmp_path / "other.gguf"))
    await context.pool.load(LoadRequest(other, "one", {"slots": 2}))
    if how == "stop":
        active = context.benchmarks.start(asked(facts, "one", runs=1000))
        await until(lambda: active.run is not None and any(one.measured for one in active.run.results))
        await context.benchmarks.stop()
    else:
        active = await finished(context, asked(facts, "bad" if how == "failure" else "one", runs=1))
    assert not active.running
    assert active.run is not None
    assert active.run.state == ("stopped" if how == "stop" else "done")
    status = context.pool.status
    assert status.facts is not None
    assert (status.state, status.facts.path, status.loader) == (PoolState.READY, other.path, "one")
    assert status.parameters["slots"] == 2
    (kept,) = context.benchmarks.store.runs()
    assert (kept.id, kept.state, kept.failed) == (active.run.id, active.run.state, how == "failure")


async def test_where_nothing_was_loaded_nothing_stays(make: Make, facts: ModelFacts) -> None:
    context = make(("one", ""))
    active = await finished(context, asked(facts, "one", runs=1))
    assert (active.error, context.pool.status.state, context.pool.pids()) == (None, PoolState.EMPTY, [])


async def test_stopped_while_loading(make: Make, facts: ModelFacts) -> None:
    context = make(("slow", "hang"))
    context.benchmarks.start(asked(facts, "slow"))
    await until(lambda: bool(context.pool.pids()))
    async with asyncio.timeout(WAIT_SECONDS):
        await context.benchmarks.stop()
    assert (context.pool.status.state, context.pool.pids()) == (PoolState.EMPTY, [])
    assert context.benchmarks.store.runs() == []  # there is nothing to keep


async def test_stopped_before_it_began(make: Make, facts: ModelFacts) -> None:
    context = make(("one", ""))
    active = context.benchmarks.start(asked(facts, "one", runs=1000))
    async with asyncio.timeout(WAIT_SECONDS):
        await context.benchmarks.stop()
    assert (active.running, active.run, context.pool.pids()) == (False, None, [])


async def test_one_at_a_time(make: Make, facts: ModelFacts) -> None:
    context = make(("one", ""))
    with pytest.raises(NotFound):
        context.benchmarks.start(asked(facts, "unknown"))
    context.benchmarks.start(asked(facts, "one", runs=1000))
    with pytest.raises(Busy):
        context.benchmarks.start(asked(facts, "one"))
    await context.benchmarks.stop()
    await finished(context, asked(facts, "one", runs=1))
    async with context.pool.set_aside("The machine is left to something else."):
        with pytest.raises(Busy, match="left to something else"):
            context.benchmarks.start(asked(facts, "one"))


async def test_of_all_that_wants_the_machine_to_itself_one_is_on(make: Make, facts: ModelFacts) -> None:
    context = make(("slow", "hang"))
    starts: dict[str, Callable[[], object]] = {
        "A benchmark is running.": lambda: context.benchmarks.start(asked(facts, "slow")),
        "The best settings are being looked for.": lambda: context.tunings.start(Wanted(facts, ("slow",))),
        "Models are being tested.": lambda: context.model_tests.start([model_tests.Wanted(facts, "slow")]),
    }
    services = (context.benchmarks, context.tunings, context.model_tests)
    for (said, start), service in zip(starts.items(), services, strict=True):
        start()  # nothing of it has run yet when the others ask
        for other in starts.values():
            with pytest.raises(Busy) as refused:
                other()
            assert refused.value.message == said
        assert [one.latest is not None and one.latest.running for one in services].count(True) == 1
        async with asyncio.timeout(WAIT_SECONDS):
            await service.stop()


@pytest.mark.parametrize("what", ["load", "unload"])
async def test_somebody_elses_choice_of_a_model_wins(what: str, make: Make, facts: ModelFacts, tmp_path: Path) -> None:
    context = make(("one", ""), delay=0.01)
    other = inspect_model(tiny_llama_spm(tmp_path / "other.gguf"))
    before = inspect_model(tiny_llama_spm(tmp_path / "before.gguf"))
    await context.pool.load(LoadRequest(before, "one"))
    active = context.benchmarks.start(asked(facts, "one", runs=1000))
    await until(lambda: active.run is not None and any(one.measured for one in active.run.results))
    if what == "load":
        await context.pool.load(LoadRequest(other, "one"))
    else:
        await context.pool.unload()
    async with asyncio.timeout(WAIT_SECONDS):
        await context.benchmarks.wait()
    assert isinstance(active.error, Superseded)
    status = context.pool.status
    assert (status.facts.path if status.facts else None) == (other.path if what == "load" else None)
    assert context.benchmarks.store.runs()[0].state == "stopped"


async def test_replies_of_others_are_finished_and_said(make: Make, facts: ModelFacts) -> None:
    """A chat is neither cancelled nor answered by nobody; that it disturbed the benchmark is on record."""
    context = make(("one", ""), delay=0.02)
    await context.pool.load(LoadRequest(facts, "one", {"slots": 2}))
    chat = context.pool.submit(
        GenerationRequest("word " * 40, SamplingParameters(max_tokens=40)), owner="a chat", made_for=facts
    )
    await until(lambda: chat.tokens > 0)
    active = context.benchmarks.start(asked(facts, "one", runs=2, parameters={"slots": 2}))
    assert "Replies were being written" in active.notes[0]
    await until(lambda: active.run is not None and any(one.measured for one in active.run.results))
    later = context.pool.submit(GenerationRequest("word " * 9, SamplingParameters(max_tokens=9)), owner="a chat")
    async with asyncio.timeout(WAIT_SECONDS):
        await context.benchmarks.wait()
        await later.wait()
    assert (chat.error, len(chat.text.split())) == (None, 40)
    assert (later.error, len(later.text.split())) == (None, 9)
    assert active.run is not None
    assert active.run.disturbed


async def test_the_app_ends_in_the_middle_of_a_benchmark(make: Make, facts: ModelFacts) -> None:
    context = make(("one", ""), delay=0.01)
    active = context.benchmarks.start(asked(facts, "one", runs=1000))
    await until(lambda: active.run is not None and any(one.measured for one in active.run.results))
    async with asyncio.timeout(WAIT_SECONDS):
        await context.close()
    assert (active.running, context.pool.pids()) == (False, [])
