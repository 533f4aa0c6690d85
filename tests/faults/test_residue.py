"""What is left after many loads: nothing. Twenty loads, replies and unloads across all the loaders there are."""

from __future__ import annotations

import gc
import sys
from pathlib import Path

import psutil
import pytest

from tests.loaders.conftest import COMMON, NEEDS, Models
from webui.loaders import LOADERS
from webui.loaders.contract import GenerationRequest
from webui.loaders.parameters import keep_known
from webui.loaders.sampling import SamplingParameters
from webui.paths import Paths
from webui.pool import JobState, LoadRequest, PoolState, open_pool
from webui.settings import Settings

LOADS = 20
GROWTH_BYTES = 20 * 1024 * 1024


def descriptors() -> int:
    process = psutil.Process()
    return process.num_handles() if sys.platform == "win32" else process.num_fds()


@pytest.mark.engine
@pytest.mark.timeout(600)
async def test_twenty_loads_and_unloads_leave_nothing_behind(models: Models, tmp_path: Path) -> None:
    settings = Settings.load(Paths(tmp_path), environment={})
    process = psutil.Process()
    names = list(LOADERS)
    async with open_pool(lambda: settings, LOADERS) as pool:
        gc.collect()
        memory, open_files, children = process.memory_info().rss, descriptors(), len(process.children())
        for round_number in range(LOADS):
            spec = LOADERS[names[round_number % len(names)]]
            needs = NEEDS[spec.name](tmp_path) if spec.name in NEEDS else {}
            parameters = keep_known(spec.parameters, {**COMMON, **needs})
            status = await pool.load(LoadRequest(models.for_loader(spec), spec.name, parameters))
            assert status.state is PoolState.READY
            request = GenerationRequest("One two three", SamplingParameters(max_tokens=3, temperature=0))
            job = await pool.submit(request, owner="test").wait()
            assert (job.state, job.error) == (JobState.DONE, None), spec.name
            await pool.unload()
            assert pool.workers() == []
        gc.collect()
        assert len(process.children()) == children
        assert descriptors() == open_files
        assert process.memory_info().rss - memory < GROWTH_BYTES
