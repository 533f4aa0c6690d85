"""Swapping back and forth under load: every request is answered or refused with a reason, and nothing adds up."""

from __future__ import annotations

import asyncio
import gc
from pathlib import Path

import psutil
import pytest

from tests.faults.test_residue import GROWTH_BYTES, descriptors
from tests.loaders.conftest import COMMON, Models
from webui.errors import AppError, CorruptFile, ModelError
from webui.loaders import LOADERS
from webui.loaders.contract import GenerationRequest
from webui.loaders.parameters import keep_known
from webui.loaders.sampling import SamplingParameters
from webui.models.facts import ModelFacts
from webui.models.inspect import inspect_model
from webui.paths import Paths
from webui.pool import Job, JobState, LoadRequest, Pool, PoolState, open_pool
from webui.settings import Settings

SWAPS = 50
STREAMS = 2


class Stream:
    """Somebody who asks again and again, and notes how each request ended."""

    def __init__(self, pool: Pool, name: str) -> None:
        self.pool, self.name = pool, name
        self.answered = 0
        self.refused: list[AppError] = []
        self.lost: list[Job] = []
        self.ended = False

    async def ask(self) -> None:
        while not self.ended:
            request = GenerationRequest("One two three", SamplingParameters(max_tokens=8, temperature=0))
            try:
                job = await self.pool.submit(request, owner=self.name).wait()
            except AppError as error:
                self.refused.append(error)
                await asyncio.sleep(0.05)
                continue
            if job.state is JobState.DONE:
                self.answered += 1
            elif job.error is not None and job.error.message:
                self.refused.append(job.error)
            else:
                self.lost.append(job)


def request_for(loader: str, facts: ModelFacts, *, hand_over: bool) -> LoadRequest:
    values = keep_known(LOADERS[loader].parameters, COMMON)
    return LoadRequest(facts, loader, values, running="hand over" if hand_over else "finish")


@pytest.mark.engine
@pytest.mark.timeout(600)
async def test_fifty_swaps_across_backends_lose_no_request(models: Models, tmp_path: Path) -> None:
    settings = Settings.load(Paths(tmp_path), environment={})
    starter, small = inspect_model(models.starter), inspect_model(models.sentencepiece)
    turns = [("xllamacpp", starter), ("ctransformers", small), ("llama-cpp-python", starter), ("ctransformers", small)]
    process = psutil.Process()
    async with open_pool(lambda: settings, LOADERS) as pool:
        await pool.load(request_for(*turns[-1], hand_over=False))
        gc.collect()
        memory, open_files, children = process.memory_info().rss, descriptors(), len(process.children())
        streams = [Stream(pool, f"stream {number}") for number in range(STREAMS)]
        asking = [asyncio.create_task(stream.ask()) for stream in streams]
        for swap in range(SWAPS):
            loader, facts = turns[swap % len(turns)]
            status = await pool.load(request_for(loader, facts, hand_over=swap % 3 == 0))
            assert (status.state, status.loader) == (PoolState.READY, loader)
        for stream in streams:
            stream.ended = True
        await asyncio.gather(*asking)
        assert [stream.lost for stream in streams] == [[]] * STREAMS
        assert [error.message for stream in streams for error in stream.refused] == []
        assert sum(stream.answered for stream in streams) >= SWAPS
        await pool.load(request_for(*turns[-1], hand_over=False))
        async with asyncio.timeout(30):
            async for _status in pool.watch():
                if len(pool.workers()) == 1:
                    break
        gc.collect()
        assert len(process.children()) == children
        # What an earlier test has left behind may be let go of meanwhile.
        assert descriptors() <= open_files
        assert process.memory_info().rss - memory < GROWTH_BYTES


@pytest.mark.engine
@pytest.mark.timeout(300)
async def test_a_swap_to_a_broken_file_costs_nobody_anything(models: Models, tmp_path: Path) -> None:
    settings = Settings.load(Paths(tmp_path), environment={})
    starter = inspect_model(models.starter)
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(models.starter.read_bytes())
    facts = inspect_model(broken)
    with broken.open("r+b") as file:
        file.truncate(models.starter.stat().st_size // 2)
    async with open_pool(lambda: settings, LOADERS) as pool:
        await pool.load(request_for("xllamacpp", starter, hand_over=False))
        pid = pool.status.pid
        request = GenerationRequest("Once upon a time", SamplingParameters(max_tokens=120, temperature=0))
        job = pool.submit(request, owner="somebody")
        async for _update in job.updates(50):
            if job.tokens >= 3:
                break
        with pytest.raises(ModelError) as failed:
            await pool.load(LoadRequest(facts))
        assert isinstance(failed.value, CorruptFile), failed.value.to_dict()
        await job.wait()
        assert (job.state, job.error) == (JobState.DONE, None)
        assert pool.status.pid == pid and pool.status.state is PoolState.READY
        assert pool.status.failure is failed.value
        assert (await pool.submit(request, owner="somebody").wait()).state is JobState.DONE
