"""Finding the best settings with real worker processes: what is found, kept and used, and what goes wrong meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.builders.gguf import tiny_llama_bpe
from tests.fakes import tunable
from webui.context import AppContext
from webui.diagnostics import trials
from webui.diagnostics.tuning import TuningRun, Wanted, gained
from webui.errors import Busy, Cancelled, MissingPackage
from webui.hardware import detect
from webui.hardware.facts import CpuFacts
from webui.loaders import LOADERS
from webui.loaders.contract import GenerationRequest, LoaderSpec
from webui.models.facts import ModelFacts
from webui.models.inspect import inspect_model
from webui.paths import Paths
from webui.pool import LoadRequest, PoolState
from webui.settings import Settings

Open = Callable[..., AppContext]
MOMENT = 0.02


@pytest.fixture
async def opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Open]:
    """Opens the app with the fake engine on a machine of two cores; at the end no process is left."""
    apps: list[AppContext] = []
    monkeypatch.setattr(trials, "LEAST_LIMIT", 0.5)
    monkeypatch.setattr(trials, "CANCEL_SECONDS", 0.2)

    def open_app(loaders: tuple[LoaderSpec, ...] = (tunable.SPEC,), **values: Any) -> AppContext:
        known = {spec.name: spec for spec in loaders}
        paths = Paths(tmp_path / "home").ensure()
        asked = {f"loaders.tunable.{name}": value for name, value in values.items()}
        app = AppContext.create(paths, Settings.load(paths, environment={}, command_line=asked, loaders=known), known)
        hardware = detect(tmp_path)
        cpu = CpuFacts("Test", hardware.cpu.architecture, 2, 2, 2, allowed_cores=2, allowed_physical=2)
        monkeypatch.setattr(app, "detected", lambda: replace(hardware, cpu=cpu, gpus=()))
        apps.append(app)
        return app

    yield open_app
    for app in apps:
        await app.close()
    assert workers() == []


def workers() -> list[int]:
    return [child.pid for child in psutil.Process().children() if "webui.loaders.worker" in child.cmdline()]


@pytest.fixture
def model(tmp_path: Path) -> ModelFacts:
    return inspect_model(tiny_llama_bpe(tmp_path / "tiny.gguf"))


async def tuned(app: AppContext, wanted: Wanted) -> TuningRun:
    run = app.tunings.start(wanted)
    await app.tunings.wait()
    assert not run.running
    return run


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not true():
            await asyncio.sleep(MOMENT)


async def test_what_is_found_is_kept_used_and_forgotten(opened: Open, model: ModelFacts) -> None:
    app = opened()
    run = await tuned(app, Wanted(model))
    assert (run.state, run.error) == ("done", None)
    assert run.found is not None and run.found.parameters == {"threads": 2}
    assert gained(run.found) == (
        "1.50 × the default: replies 80.0 against 50.0 tokens/s, prompts 400 against 400, threads 1 → 2"
    )
    speeds = app.measurements.of(model, {"tunable": None})
    assert {(one.parameters["threads"], round(one.tokens_per_second), one.source) for one in speeds} == {
        (1, 50, "tune"),
        (2, 80, "tune"),
    }
    status = await app.load_model(model)
    assert status.parameters["threads"] == 2
    status = await app.load_model(model, parameters={"threads": 1})
    assert status.parameters["threads"] == 1
    app.model_settings.save(model.path, "auto", {"poll": 10})
    status = await app.load_model(model)
    assert (status.parameters["threads"], status.parameters["poll"]) == (2, 10)
    model.path.touch()  # another file, as far as anybody knows
    assert (await app.load_model(model)).parameters["threads"] == 1
    await app.tunings.forget(model)
    app.model_settings.forget(model.path)
    assert (await app.load_model(model)).parameters["threads"] == 1
    assert await app.tunings.found(model) == {}


async def test_what_is_configured_wins_over_what_was_found_and_is_not_varied(opened: Open, model: ModelFacts) -> None:
    run = await tuned(opened(), Wanted(model))
    assert run.found is not None and run.found.parameters == {"threads": 2}
    app = opened(threads=1)
    assert (await app.load_model(model)).parameters["threads"] == 1
    again = await tuned(app, Wanted(model, parameters={"context_size": 512}))
    assert {name for seen in again.trials for name in seen.trial.setting.parameters} == {"poll"}
    assert again.usual["tunable"]["context_size"] == 512
    assert again.found is not None and not again.found.parameters


@pytest.mark.parametrize("fault", ["SIGSEGV", "late hang"])
async def test_a_trial_that_fails_costs_itself_and_nothing_else(opened: Open, model: ModelFacts, fault: str) -> None:
    app = opened(faults=f"poll=0:{fault},poll=100:refuse")
    run = await tuned(app, Wanted(model))
    assert (run.state, run.error) == ("done", None)
    assert run.found is not None and run.found.parameters == {"threads": 2}
    assert {seen.trial.setting.parameters.get("poll") for seen in run.trials if seen.result.failure} == {0, 100}


async def test_where_nothing_runs_the_reason_is_told_and_nothing_is_kept(opened: Open, model: ModelFacts) -> None:
    app = opened(faults="context_size=4096:refuse")
    run = await tuned(app, Wanted(model))
    assert run.state == "failed" and run.error is not None and "The engine refuses" in run.error.cause
    assert await app.tunings.found(model) == {}


async def test_a_loader_that_is_not_there_is_named(opened: Open, model: ModelFacts) -> None:
    run = await tuned(opened((LOADERS["llamafile"], tunable.SPEC)), Wanted(model, ("llamafile",)))
    assert run.state == "failed" and isinstance(run.error, MissingPackage)


async def test_the_loaded_model_is_put_aside_and_brought_back_as_it_was(opened: Open, model: ModelFacts) -> None:
    app = opened(seconds=0.05)
    await app.pool.load(LoadRequest(model, "tunable", {"context_size": 777}))
    run = app.tunings.start(Wanted(model))
    await until(lambda: bool(run.trials))
    assert app.pool.status.model is None
    with pytest.raises(Busy, match="being looked for"):
        await app.pool.load(LoadRequest(model))
    with pytest.raises(Busy, match="being looked for"):
        app.pool.submit(GenerationRequest("x"), owner="test")
    with pytest.raises(Busy, match="being looked for"):
        app.chats.prompter.facts()
    with pytest.raises(Busy):
        app.tunings.start(Wanted(model))
    await app.tunings.wait()
    status = app.pool.status
    assert (status.state, status.parameters["context_size"]) == (PoolState.READY, 777)
    assert (await app.pool.submit(GenerationRequest("x"), owner="test").wait()).error is None


async def test_stopping_leaves_no_process_keeps_nothing_and_brings_the_model_back(
    opened: Open, model: ModelFacts
) -> None:
    app = opened(seconds=0.2)
    await app.pool.load(LoadRequest(model, "tunable", {"context_size": 777}))
    run = app.tunings.start(Wanted(model))
    await until(lambda: len(run.trials) >= 2)
    await app.tunings.stop()
    assert run.state == "stopped" and isinstance(run.error, Cancelled)
    assert app.pool.status.parameters["context_size"] == 777
    assert workers() == [app.pool.status.pid]
    assert await app.tunings.found(model) == {}
    again = app.tunings.start(Wanted(model))
    await app.tunings.stop()
    assert again.state == "stopped"


async def test_when_the_app_ends_meanwhile_no_model_is_brought_back(
    opened: Open, model: ModelFacts, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = opened(seconds=0.2)
    await app.pool.load(LoadRequest(model))
    run = app.tunings.start(Wanted(model))
    await until(lambda: bool(run.trials))
    loads: list[LoadRequest] = []
    monkeypatch.setattr(app.pool, "load", loads.append)
    await app.close()
    assert (run.state, loads, workers()) == ("stopped", [], [])


async def test_it_does_not_begin_while_a_reply_is_written(opened: Open, model: ModelFacts) -> None:
    app = opened(seconds=1.0)
    await app.pool.load(LoadRequest(model))
    job = app.pool.submit(GenerationRequest("x"), owner="test")
    await until(lambda: app.pool.status.running == 1)
    run = await tuned(app, Wanted(model))
    assert run.state == "failed" and isinstance(run.error, Busy)
    assert (await job.wait()).error is None
    assert app.pool.status.state is PoolState.READY


async def test_settings_that_do_not_fit_are_not_tried(
    opened: Open, model: ModelFacts, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = opened()
    plan = app.plan

    def tight(facts: ModelFacts, loader: str, parameters: Any) -> Any:
        found = plan(facts, loader, parameters)
        return found.__class__(found.model, loader, False, parameters["threads"] == 1, "no room", found.devices)

    monkeypatch.setattr(app, "plan", tight)
    run = await tuned(app, Wanted(model))
    assert run.found is not None and not run.found.parameters
    assert {seen.result.failure for seen in run.trials if seen.trial.setting.parameters.get("threads")} == {
        "It does not fit in memory."
    }


async def test_a_smaller_cache_is_tried_only_where_that_is_allowed(opened: Open, model: ModelFacts) -> None:
    app = opened()

    def tried(run: TuningRun) -> bool:
        return any("cache_type_k" in seen.trial.setting.parameters for seen in run.trials)

    assert not tried(await tuned(app, Wanted(model)))
    assert tried(await tuned(app, Wanted(model, cache_quantization=True)))


async def test_the_starter_model_is_tuned_with_a_real_engine(
    opened: Open, starter_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only what the user has not set is varied, which is the threads; what wins depends on the machine."""
    monkeypatch.setattr(trials, "REPLIES", (16, 24))
    monkeypatch.setattr(trials, "PROMPTS", (48, 64))
    monkeypatch.setattr(trials, "LEAST_LIMIT", 10.0)
    spec = LOADERS["xllamacpp"]
    set_by_hand = {"micro_batch_size": 256, "batch_size": 256, "flash_attention": "auto", "cpu_repacking": "auto"}
    own = {**set_by_hand, "poll": 50, "threads_batch": 2, "context_size": 512}
    run = await tuned(opened((spec,)), Wanted(inspect_model(starter_model), minutes=4, parameters=own))
    assert run.state == "done" and run.found is not None
    counts = {seen.trial.setting.parameters.get("threads") for seen in run.trials}
    assert len(counts) == 2
    results = [seen.result for seen in run.trials if not seen.result.failure]
    assert all(result.reply > 0 and (result.prompt or 0) > 0 for result in results)
