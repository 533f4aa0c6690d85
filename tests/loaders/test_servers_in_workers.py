"""The server loaders where they belong, in a worker process: several jobs over one channel, and nothing left behind."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.fakes import executable
from tests.loaders.running import TWO_TURNS, gguf_facts
from webui.errors import EngineCrashed
from webui.loaders import llamafile, xllamacpp
from webui.loaders.contract import Chunk, Finished, GenerationRequest, LoaderSpec
from webui.loaders.sampling import SamplingParameters
from webui.loaders.supervisor import WorkerProcess


@contextlib.asynccontextmanager
async def running(spec: LoaderSpec, model: Path, **parameters: Any) -> AsyncIterator[WorkerProcess]:
    worker = WorkerProcess(spec)
    await worker.start()
    try:
        await worker.load(gguf_facts(model), spec.parameters.parse({"threads": 1, "context_size": 512, **parameters}))
        yield worker
    finally:
        await worker.stop()


async def write(worker: WorkerProcess, prompt: str, tokens: int) -> tuple[str, Finished]:
    sampling = SamplingParameters(temperature=0, max_tokens=tokens)
    text = ""
    async for event in worker.generate(GenerationRequest(prompt, sampling)).events():
        if isinstance(event, Finished):
            return text, event
        text += event.text
    raise AssertionError("no end")


@pytest.mark.engine
async def test_xllamacpp_writes_several_replies_at_once(starter_model: Path) -> None:
    async with running(xllamacpp.SPEC, starter_model, warmup=False) as worker:
        alone, finished = await write(worker, TWO_TURNS[0], 8)
        assert finished.completion_tokens == 8
        together = await asyncio.gather(*(write(worker, TWO_TURNS[0], 8) for _ in range(3)))
        assert [text for text, _ in together] == [alone] * 3
        assert any("model loaded" in line for line in worker.output)


@pytest.mark.parametrize("ending", ["stop", "kill"])
async def test_a_llamafile_ends_with_its_worker(tmp_path: Path, ending: str) -> None:
    model = tmp_path / "model.gguf"
    model.write_bytes(b"GGUF")
    program = executable(tmp_path, "llamafile", "old_llamafile")
    async with running(llamafile.SPEC, model, executable=str(program)) as worker:
        assert (await write(worker, "numbers", 3))[0] == " one two three"
        assert any("listening" in line for line in worker.output)
        assert worker.pid is not None
        family = psutil.Process(worker.pid).children(recursive=True)
        assert len(family) >= 2
        if ending == "kill":
            os.kill(worker.pid, signal.SIGKILL)
            await worker.exited.wait()
        else:
            await worker.stop()
        _, alive = psutil.wait_procs(family, timeout=10)
        assert not [process for process in alive if process.status() != psutil.STATUS_ZOMBIE]


async def test_the_death_of_the_server_arrives_with_its_last_lines(tmp_path: Path) -> None:
    model = tmp_path / "model.gguf"
    model.write_bytes(b"GGUF")
    program = executable(tmp_path, "llamafile", "old_llamafile", "--manner", "crash")
    async with running(llamafile.SPEC, model, executable=str(program)) as worker:
        seen = ""
        with pytest.raises(EngineCrashed) as caught:
            async for event in worker.generate(GenerationRequest("numbers")).events():
                assert isinstance(event, Chunk)
                seen += event.text
        assert seen == " one two three"
        assert any("POST /completion" in line for line in caught.value.evidence)
