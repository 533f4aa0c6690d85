"""The worker and its supervisor, with real processes and a loader that misbehaves on purpose."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import AsyncIterator
from pathlib import Path

import psutil
import pytest

from tests.loaders.toy import SPEC, ToyParameters
from webui.errors import ContextTooLong, EngineCrashed, EngineRefused, TimedOut
from webui.loaders.contract import Chunk, Finished, GenerationRequest
from webui.loaders.sampling import SamplingParameters
from webui.loaders.supervisor import Generation, WorkerLimits, WorkerProcess
from webui.models.facts import ModelFacts, ModelFormat

FACTS = ModelFacts(Path("toy.gguf"), ModelFormat.GGUF, (Path("toy.gguf"),), 1, "toy")


@contextlib.asynccontextmanager
async def running(parameters: ToyParameters | None = None, **limits: float) -> AsyncIterator[WorkerProcess]:
    worker = WorkerProcess(SPEC, limits=WorkerLimits(**limits))
    await worker.start()
    try:
        await worker.load(FACTS, parameters or ToyParameters())
        yield worker
    finally:
        await worker.stop()


async def everything(generation: Generation) -> tuple[str, Finished]:
    text = ""
    async for event in generation.events():
        if isinstance(event, Finished):
            return text, event
        text += event.text
    raise AssertionError("no end")


async def test_loads_generates_and_tokenises() -> None:
    steps: list[str] = []
    worker = WorkerProcess(SPEC)
    await worker.start()
    loaded = await worker.load(FACTS, ToyParameters(), lambda step, share: steps.append(step))
    assert (loaded.engine, loaded.context_size, steps) == ("toy", 64, ["reading"])
    text, finished = await everything(worker.generate(GenerationRequest("one two three")))
    assert text == "one two three "
    assert (finished.reason, finished.prompt_tokens, finished.completion_tokens) == ("stop", 3, 3)
    assert await worker.tokenize("ab cde") == [2, 3]
    assert (worker.memory_bytes() or 0) > 1_000_000
    assert (worker.peak_memory_bytes() or 0) >= 1_000_000
    await worker.stop()
    assert worker.memory_bytes() is None


async def test_what_the_engine_prints_is_kept_and_never_mixed_into_the_channel() -> None:
    async with running() as worker:
        await everything(worker.generate(GenerationRequest("x")))
        assert "toy: printed on standard output" in worker.output


async def test_several_generations_share_the_channel() -> None:
    async with running(ToyParameters(delay=0.01, slots=3)) as worker:
        prompts = ["a b c", "d e f", "g h i"]
        results = await asyncio.gather(*(everything(worker.generate(GenerationRequest(p))) for p in prompts))
        assert [text.split() for text, _ in results] == [p.split() for p in prompts]


async def test_cancel_ends_one_generation_and_not_the_other() -> None:
    async with running(ToyParameters(delay=0.02, slots=2)) as worker:
        long = " ".join(str(n) for n in range(50))
        other = asyncio.create_task(everything(worker.generate(GenerationRequest("a b c"))))
        generation = worker.generate(GenerationRequest(long))
        seen = []
        async for event in generation.events():
            seen.append(event)
            if len(seen) == 2:
                generation.cancel()
        assert isinstance(seen[-1], Finished)
        assert seen[-1].reason == "cancelled"
        assert len(seen) < 50
        assert (await other)[1].reason == "stop"


async def test_a_generation_cancelled_before_it_starts_says_so() -> None:
    async with running() as worker:
        generation = worker.generate(GenerationRequest("a b"))
        generation.cancel()
        assert (await everything(generation))[1].reason == "cancelled"


async def test_errors_of_the_loader_arrive_typed() -> None:
    async with running() as worker:
        with pytest.raises(ContextTooLong) as caught:
            await everything(worker.generate(GenerationRequest("w " * 100)))
        assert caught.value.facts == {"prompt_tokens": 100, "context_size": 64}
        with pytest.raises(EngineRefused, match="a toy's own error") as refused:
            await everything(worker.generate(GenerationRequest("RAISE")))
        assert any("ValueError" in line for line in refused.value.evidence)
        assert (await everything(worker.generate(GenerationRequest("still here"))))[0] == "still here "


@pytest.mark.parametrize(("fault", "error"), [("refuse", EngineRefused), ("raise", EngineRefused)])
async def test_a_refused_load_is_typed(fault: str, error: type[Exception]) -> None:
    with pytest.raises(error):
        async with running(ToyParameters(fault=fault)):
            pass


async def test_a_crash_while_loading_names_the_signal() -> None:
    with pytest.raises(EngineCrashed) as caught:
        async with running(ToyParameters(fault="crash")):
            pass
    assert caught.value.facts["signal"] == "SIGSEGV"


async def test_a_crash_in_mid_reply_keeps_the_text_before_it() -> None:
    async with running() as worker:
        seen: list[str] = []
        with pytest.raises(EngineCrashed) as caught:
            async for event in worker.generate(GenerationRequest("one two CRASH three")).events():
                assert isinstance(event, Chunk)
                seen.append(event.text)
        assert seen == ["one ", "two "]
        assert caught.value.facts["signal"] == "SIGSEGV"
        assert any("Segmentation fault" in line for line in caught.value.evidence)
        with pytest.raises(EngineCrashed):
            await worker.tokenize("after the end")


async def test_a_load_that_hangs_is_given_up() -> None:
    with pytest.raises(TimedOut):
        async with running(ToyParameters(fault="hang"), load_seconds=0.5):
            pass


async def test_stopping_twice_and_before_starting_is_harmless() -> None:
    worker = WorkerProcess(SPEC)
    await worker.stop()
    await worker.start()
    await worker.stop()
    await worker.stop()
    assert worker.exited.is_set()


async def test_a_number_that_may_be_another_process_by_now_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    async with running() as worker:
        worker.kill()
        await worker.exited.wait()
        ended: list[int] = []
        monkeypatch.setattr("webui.loaders.processes.kill_group", ended.append)
        worker.kill()
        await worker.stop()
        assert ended == []


async def test_max_tokens_crosses_the_channel() -> None:
    async with running() as worker:
        request = GenerationRequest("a b c d", sampling=SamplingParameters(max_tokens=2))
        text, finished = await everything(worker.generate(request))
        assert (text, finished.reason) == ("a b ", "length")


@pytest.mark.skipif(sys.platform == "win32", reason="SIGKILL is of POSIX")
def test_no_worker_outlives_a_parent_that_is_killed() -> None:
    script = textwrap.dedent(
        """
        import asyncio, sys
        from tests.loaders.toy import SPEC
        from webui.loaders.supervisor import WorkerProcess
        async def main():
            worker = WorkerProcess(SPEC)
            await worker.start()
            print(worker.pid, flush=True)
            await asyncio.sleep(60)
        asyncio.run(main())
        """
    )
    root = Path(__file__).parents[2]
    with subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, cwd=root, env={**os.environ, "PYTHONPATH": str(root)}
    ) as parent:
        assert parent.stdout is not None
        worker = psutil.Process(int(parent.stdout.readline()))
        parent.send_signal(signal.SIGKILL)
        parent.wait()
    _gone, alive = psutil.wait_procs([worker], timeout=5)
    assert alive == []
