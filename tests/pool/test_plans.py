"""Plans of this machine: what loads take is measured, kept beside the plan, and corrects the next."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path

import pytest

from tests.planning.situations import LLAMA_8B
from webui.context import AppContext
from webui.errors import InvalidRequest
from webui.loaders.contract import GenerationRequest
from webui.loaders.sampling import SamplingParameters
from webui.models.inspect import inspect_model
from webui.paths import Paths
from webui.planning.plan import CPU, Measured
from webui.pool.plan_records import PlanRecords
from webui.settings import Settings

MIB = 1 << 20
LOADER = "llama-cpp-python"
ASKED = {"context_size": 2048, "threads": 1}


@pytest.fixture
async def context(tmp_path: Path) -> AsyncIterator[AppContext]:
    paths = Paths(tmp_path / "home").ensure()
    app = AppContext.create(paths, Settings.load(paths, environment={}))
    following = asyncio.create_task(app.plans.follow())
    yield app
    following.cancel()
    await asyncio.wait([following])
    await app.close()


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not condition():
            await asyncio.sleep(0.02)


@pytest.mark.engine
async def test_what_a_load_took_stands_beside_its_plan_and_corrects_the_next(
    context: AppContext, starter_model: Path
) -> None:
    facts = inspect_model(starter_model)
    before = context.plan(facts, LOADER, ASKED)
    assert before.measured is None
    await context.load_model(facts, LOADER, ASKED)
    await until(lambda: context.plans.taken is not None)
    taken = context.plans.taken
    assert taken is not None
    assert taken.planned == {CPU: before.total}
    assert taken.measured.devices[CPU] == pytest.approx(before.total, rel=0.2)
    asked = GenerationRequest("the sea is cold and clear " * 100, SamplingParameters(max_tokens=4))
    await context.pool.submit(asked, owner="test").wait()
    await until(lambda: context.plan(facts, LOADER, ASKED).corrected)
    again = context.plan(facts, LOADER, ASKED)
    assert again.measured is not None
    assert again.total == pytest.approx(again.measured.total, abs=MIB)
    assert before.total == pytest.approx(again.measured.total, rel=0.08)
    # What the loaded model holds comes back with a swap, so it counts as free.
    freed = again.devices[0].available or 0
    await context.pool.unload()
    await until(lambda: context.plans.taken is None)
    assert context.plan(facts, LOADER, ASKED).devices[0].available == pytest.approx(freed, rel=0.05)
    other = context.plan(facts, LOADER, {**ASKED, "context_size": 8192})
    assert other.measured is None
    assert other.corrected


@pytest.mark.engine
async def test_the_exact_plan_is_the_engines_own_and_needs_no_load(context: AppContext, starter_model: Path) -> None:
    facts = inspect_model(starter_model)
    for loader in (LOADER, "xllamacpp"):
        found = await context.exact_plan(facts, loader, ASKED)
        assert found.exact
        assert found.devices[0].kv_cache == 45 * MIB
        assert found.devices[0].compute == pytest.approx(context.plan(facts, loader, ASKED).devices[0].compute, rel=0.1)
    assert context.pool.status.pid is None
    with pytest.raises(InvalidRequest, match="cannot plan a load without doing it"):
        await context.exact_plan(facts, "ctransformers", {})


def test_records_hold_for_the_same_model_engine_and_machine(tmp_path: Path) -> None:
    model = tmp_path / "model.gguf"
    model.write_bytes(b"GGUF" * 10)
    facts = replace(LLAMA_8B, path=model, files=(model,))
    file = tmp_path / "plans.json"

    def record(took: int, used: int, **parameters: int) -> None:
        PlanRecords(file, lambda: "machine").add(
            facts,
            "1.0",
            loader=LOADER,
            parameters=parameters,
            planned={CPU: 100},
            measured=Measured({CPU: took}, 1.0),
            used_tokens=used,
        )

    record(110, 600, context_size=1)
    record(500, 3, context_size=2)  # it was not used to the full: no measure of the plan
    record(130, 600, context_size=3)
    record(120, 600, context_size=1)
    kept = PlanRecords(file, lambda: "machine")
    assert kept.correction(facts, LOADER, "1.0") == 25
    assert kept.measured(facts, LOADER, "1.0", {"context_size": 1}) == Measured({CPU: 120}, 1.0)
    assert kept.measured(facts, LOADER, "1.0", {"context_size": 9}) is None
    assert PlanRecords(file, lambda: "another").correction(facts, LOADER, "1.0") == 0
    record(120, 600, context_size=1)
    assert kept.correction(facts, LOADER, "2.0") == 0
    file.write_text('{"version": 1, "files": {"x": [{"known": {"loader": 3}}]}}')
    assert PlanRecords(file, lambda: "machine").correction(facts, LOADER, "1.0") == 0
