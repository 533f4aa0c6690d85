"""Storms: the pool under everything at once. `STORM_STEPS` and `STORM_SEEDS` make them longer, by hand."""

from __future__ import annotations

import contextlib
import os
from collections import Counter
from pathlib import Path

import psutil
import pytest

from tests.pool.conftest import loader
from tests.pool.quick import Machine
from tests.pool.storms import Storm, Weather
from webui.paths import Paths
from webui.pool import Job, JobState, Pool
from webui.settings import Settings

STEPS = int(os.environ.get("STORM_STEPS", "150"))
SEEDS = int(os.environ.get("STORM_SEEDS", "8"))
FIRST = int(os.environ.get("STORM_FIRST", "0"))
REAL_STEPS = int(os.environ.get("STORM_REAL_STEPS", "40"))
REAL_SEEDS = int(os.environ.get("STORM_REAL_SEEDS", "3"))


@pytest.fixture
def ends(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often each job has ended, by its id."""
    counted: Counter[str] = Counter()
    end = Job._end

    def counting(self: Job, state: JobState) -> None:
        counted[self.id] += 1
        end(self, state)

    monkeypatch.setattr(Job, "_end", counting)
    return counted


def make_pool(home: Path, fault: str, limit: float) -> tuple[Pool, Weather]:
    loaders = {name: loader(name) for name in ("first", "second")}
    settings = Settings.load(
        Paths.from_environment({"GGUF_HOME": str(home)}),
        environment={},
        command_line={"loaders.first.fault": fault, "limits.queue_length": 12},
        loaders=loaders,
    )
    weather = Weather(settings, limit)
    return Pool(lambda: weather.settings, loaders, lambda: weather.available, device_memory=lambda: 0), weather


@pytest.mark.parametrize("seed", range(FIRST, FIRST + SEEDS))
async def test_a_storm_of_quick_workers(
    seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ends: Counter[str]
) -> None:
    machine = Machine(seed)
    monkeypatch.setattr("webui.pool.residency.WorkerProcess", machine.worker)
    pool, weather = make_pool(tmp_path, ("", "refuse", "crash")[seed % 3], limit=0.3)
    storm = Storm(pool, weather, seed, kill=machine.kill, living=lambda: len(machine.living), moment=0.005, ends=ends)
    await storm.blow(STEPS, settle=seed % 2 == 0)


@pytest.mark.parametrize("seed", range(FIRST, FIRST + REAL_SEEDS))
async def test_a_storm_of_real_processes(seed: int, tmp_path: Path, ends: Counter[str]) -> None:
    own = psutil.Process()
    before = {child.pid for child in own.children(recursive=True)}
    descriptors = own.num_fds() if hasattr(own, "num_fds") else 0

    def living() -> int:
        return sum(child.pid not in before for child in own.children(recursive=True))

    def kill(pid: int) -> None:
        with contextlib.suppress(psutil.NoSuchProcess):
            psutil.Process(pid).kill()

    pool, weather = make_pool(tmp_path, ("", "refuse")[seed % 2], limit=10)
    # Whoever starts a process waits until the machine has begun to run it: a busy one takes its time.
    storm = Storm(pool, weather, seed, kill=kill, living=living, moment=0.3, ends=ends, longest_block=1.0)
    await storm.blow(REAL_STEPS, settle=seed % 2 == 0)
    assert not hasattr(own, "num_fds") or own.num_fds() <= descriptors
