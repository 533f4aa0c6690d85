"""Real engines that fail, and what a user has after it: another loader, safer flags, less memory, or the numbers."""

from __future__ import annotations

import dataclasses
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.loaders import toy
from webui.errors import EngineCrashed, EngineRefused, MissingPackage
from webui.loaders import LOADERS
from webui.loaders.contract import GenerationRequest, LoaderSpec
from webui.loaders.sampling import SamplingParameters
from webui.models.inspect import inspect_model
from webui.paths import Paths
from webui.planning.recovery import StepKind
from webui.pool import JobState, LoadRequest, Pool, PoolState, open_pool
from webui.settings import Settings

pytestmark = [pytest.mark.engine, pytest.mark.timeout(300)]
HELLO = GenerationRequest("One two three", SamplingParameters(max_tokens=3, temperature=0))
OpenPool = Callable[..., AbstractAsyncContextManager[Pool]]


@pytest.fixture
def pool_of(tmp_path: Path) -> OpenPool:
    @asynccontextmanager
    async def make(*specs: LoaderSpec, **values: Any) -> AsyncIterator[Pool]:
        loaders = {spec.name: spec for spec in specs}
        chosen = {key.replace("__", "."): value for key, value in values.items()}
        settings = Settings.load(Paths(tmp_path), environment={}, command_line=chosen, loaders=loaders)
        async with open_pool(lambda: settings, loaders) as pool:
            yield pool

    return make


def failing(name: str, **changes: Any) -> LoaderSpec:
    return dataclasses.replace(toy.SPEC, name=name, title=name.capitalize(), **changes)


async def test_three_loaders_fail_each_in_its_own_way_and_the_fourth_answers(
    pool_of: OpenPool, starter_model: Path
) -> None:
    missing = failing("missing", distributions=("a-package-nobody-has",))
    refusing, crashing = failing("refusing"), failing("crashing", safe_steps=())
    configured = {"loaders__refusing__fault": "refuse", "loaders__crashing__fault": "crash"}
    async with pool_of(missing, refusing, crashing, LOADERS["llama-cpp-python"], **configured) as pool:
        status = await pool.load(LoadRequest(inspect_model(starter_model)))
        assert (status.state, status.loader) == (PoolState.READY, "llama-cpp-python")
        told = [(rung.attempt.loader, rung.state, type(rung.error)) for rung in status.ladder]
        assert told == [
            ("missing", "skipped", MissingPackage),
            ("refusing", "failed", EngineRefused),
            ("crashing", "failed", EngineCrashed),
            ("llama-cpp-python", "worked", type(None)),
        ]
        job = await pool.submit(HELLO, owner="test").wait()
        assert job.state is JobState.DONE and job.text
        story = pool.loads()[0]
        assert (story.outcome, len(story.rungs)) == ("loaded", 4)
        # And the second time nothing fails: what worked is known.
        status = await pool.load(LoadRequest(inspect_model(starter_model)))
        assert [rung.state for rung in status.ladder if rung.attempt.loader != "missing"] == ["worked"]


async def test_a_cpu_that_crashes_the_default_flags_costs_one_crash_and_never_a_second(
    pool_of: OpenPool, starter_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parent / "shims" / "crashing_cpu"))
    async with pool_of(LOADERS["llama-cpp-python"]) as pool:
        request = LoadRequest(inspect_model(starter_model), parameters={"cpu_repacking": "on", "context_size": 512})
        status = await pool.load(request)
        assert [(rung.attempt.kind, rung.state) for rung in status.ladder] == [
            (StepKind.ASKED, "failed"),
            (StepKind.SAFER_FLAGS, "worked"),
        ]
        first = status.ladder[0].error
        assert isinstance(first, EngineCrashed) and first.facts["signal"] == "SIGSEGV"
        assert status.parameters["cpu_repacking"] == "off" and status.parameters["flash_attention"] != "off"
        assert (await pool.submit(HELLO, owner="test").wait()).state is JobState.DONE
        again = await pool.load(request)
        assert [(rung.attempt.kind, rung.state) for rung in again.ladder] == [(StepKind.REMEMBERED, "worked")]
        assert len(pool.failures()) == 1
