"""Real engines that fail, and what a user has after it: another loader, safer flags, less memory, or the numbers."""

from __future__ import annotations

import dataclasses
import os
import shlex
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.app_process import ROOT
from tests.loaders import toy
from tests.loaders.conftest import COMMON
from webui.errors import EngineCrashed, EngineRefused, HostOutOfMemory, MissingPackage
from webui.loaders import LOADERS
from webui.loaders.contract import GenerationRequest, LoaderSpec
from webui.loaders.parameters import keep_known
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
        async with open_pool(lambda: settings, loaders, device_memory=lambda: 0) as pool:
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
        assert [(rung.attempt.loader, rung.state) for rung in status.ladder] == [("llama-cpp-python", "worked")]


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


@pytest.mark.skipif(sys.platform != "linux", reason="the limit is Linux's")
@pytest.mark.parametrize("name", ["xllamacpp", "llama-cpp-python"])
async def test_a_worker_with_too_little_memory_gets_a_model_that_fits(
    pool_of: OpenPool, starter_model: Path, name: str
) -> None:
    own = psutil.Process()
    async with pool_of(LOADERS[name], limits__worker_memory_mib=420) as pool:
        before = own.memory_info().rss
        large = {**COMMON, "context_size": 8192, "cache_type_k": "f32", "cache_type_v": "f32"}
        values = keep_known(LOADERS[name].parameters, large)
        status = await pool.load(LoadRequest(inspect_model(starter_model), name, values))
        assert status.model is not None and status.degraded is not None
        smaller = status.model.context_size < 8192
        assert smaller or status.parameters["cache_type_k"] != "f32", status.parameters
        assert (await pool.submit(HELLO, owner="test").wait()).state is JobState.DONE
        assert own.memory_info().rss - before < 30 * 1024 * 1024


@pytest.mark.skipif(sys.platform != "linux", reason="the limit is Linux's")
async def test_where_nothing_can_fit_the_load_is_refused_with_the_numbers(
    pool_of: OpenPool, starter_model: Path
) -> None:
    async with pool_of(LOADERS["llama-cpp-python"], limits__worker_memory_mib=24) as pool:
        with pytest.raises(HostOutOfMemory, match="MiB") as refused:
            await pool.load(LoadRequest(inspect_model(starter_model), parameters={"use_mmap": False}))
        assert "24" in refused.value.message + refused.value.cause
        assert pool.workers() == []


MEMORY_GROUPS = Path("/sys/fs/cgroup/memory")
GROUP_BYTES = 480 * 1024 * 1024


@pytest.fixture
def small_group() -> Iterator[Path]:
    """A memory control group, where this machine lets us make one."""
    group = MEMORY_GROUPS / f"gguf-tests-{os.getpid()}"
    try:
        group.mkdir()
        (group / "memory.limit_in_bytes").write_text(str(GROUP_BYTES))
    except OSError as error:
        pytest.skip(f"no memory control group can be made here: {error}")
    yield group
    group.rmdir()


def test_in_a_small_container_the_model_is_made_to_fit(small_group: Path, tmp_path: Path, starter_model: Path) -> None:
    values = ["context_size=8192", "cache_type_k=f32", "cache_type_v=f32", "slots=4", "use_mmap=false"]
    arguments = [
        *(sys.executable, str(ROOT / "app.py"), "--no-setup", "run", str(starter_model), "Say hello."),
        *("--loader", "xllamacpp", "--set", "max_tokens=4"),
        *(part for value in values for part in ("--set", value)),
    ]
    joined = f"echo $$ > {small_group / 'tasks'} && exec {shlex.join(arguments)}"
    done = subprocess.run(
        ["sh", "-c", joined],
        capture_output=True,
        text=True,
        env={**os.environ, "GGUF_HOME": str(tmp_path)},
        timeout=120,
        check=False,
    )
    assert "Traceback" not in done.stderr
    assert done.returncode == 0, done.stderr
    assert "8,192" in done.stderr or "cache" in done.stderr, done.stderr
    killed = (small_group / "memory.oom_control").read_text()
    assert "oom_kill 0" in killed, killed
