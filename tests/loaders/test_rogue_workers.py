"""Workers that break the rules: each ends as one typed error, and costs the app neither memory nor time."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

import psutil
import pytest

from tests.loaders.rogue import SPEC, RogueParameters
from webui.errors import (
    AppError,
    BrokenPackage,
    CorruptFile,
    DeviceOutOfMemory,
    EngineCrashed,
    EngineGarbled,
    EngineHung,
    EngineRefused,
    HostOutOfMemory,
    TimedOut,
)
from webui.loaders.contract import Chunk, Finished, GenerationRequest
from webui.loaders.sampling import SamplingParameters
from webui.loaders.supervisor import WorkerLimits, WorkerProcess
from webui.models.facts import ModelFacts, ModelFormat

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="the faults are POSIX's")

FACTS = ModelFacts(Path("rogue.gguf"), ModelFormat.GGUF, (Path("rogue.gguf"),), 1, "rogue")
TURN_SECONDS = 0.05


@contextlib.asynccontextmanager
async def running(
    *, facts: ModelFacts = FACTS, limits: WorkerLimits | None = None, **parameters: str
) -> AsyncIterator[WorkerProcess]:
    worker = WorkerProcess(SPEC, limits=limits)
    await worker.start()
    try:
        await worker.load(facts, RogueParameters(**parameters))
        yield worker
    finally:
        await worker.stop()


async def write(worker: WorkerProcess, prompt: str, max_tokens: int = 16) -> tuple[str, AppError | None]:
    """The text of a reply, and what ended it early."""
    text = ""
    try:
        async for event in worker.generate(
            GenerationRequest(prompt, SamplingParameters(max_tokens=max_tokens))
        ).events():
            if isinstance(event, Chunk):
                text += event.text
            else:
                assert isinstance(event, Finished)
    except AppError as error:
        return text, error
    return text, None


@contextlib.asynccontextmanager
async def nobody_waits() -> AsyncIterator[None]:
    """In the block, another coroutine has its turn after little work of others, and this process hardly grows.

    The work is measured in processor time of this thread, so that a busy machine does not count.
    """
    longest = 0.0
    before = psutil.Process().memory_info().rss

    async def tick() -> None:
        nonlocal longest
        while True:
            began = time.thread_time()
            await asyncio.sleep(0.001)
            longest = max(longest, time.thread_time() - began)

    ticking = asyncio.create_task(tick())
    try:
        yield
    finally:
        ticking.cancel()
    assert longest < TURN_SECONDS
    assert psutil.Process().memory_info().rss - before < 48 * 1024 * 1024


@pytest.mark.parametrize(
    "fault",
    [
        "garbage",
        "nested",
        "endless line",
        "flood",
        "wrong end",
        "closed",
        'raw:"a string"',
        'raw:{"kind": "chunk"}',
        'raw:{"kind": "chunk", "id": 1, "text": 5, "tokens": 1}',
        'raw:{"kind": "chunk", "id": 1, "text": "a", "tokens": -1}',
        'raw:{"kind": "result", "id": "one", "value": 1}',
        'raw:{"kind": "result", "id": 1}',
        'raw:{"kind": "error", "id": 1, "error": "bad"}',
        'raw:{"kind": "new"}',
        "raw:\x00\xff",
    ],
)
async def test_an_answer_that_is_none_ends_the_worker(fault: str) -> None:
    async with running() as worker:
        pid = worker.pid
        async with nobody_waits():
            text, error = await asyncio.wait_for(write(worker, fault), 30)
            await asyncio.wait_for(worker.exited.wait(), 10)
        assert isinstance(error, EngineGarbled)
        assert text.startswith("before ")
        assert isinstance(worker.death(), EngineGarbled)
        assert pid is not None and not psutil.pid_exists(pid)


@pytest.mark.parametrize("fault", ["wrong model", "many slots", "garbage"])
async def test_a_loaded_model_that_is_none_ends_the_worker(fault: str) -> None:
    with pytest.raises(EngineGarbled) as caught:
        async with running(while_loading=fault):
            pass
    assert "Rogue" in caught.value.message
    assert caught.value.cause


async def test_tokens_that_are_none_end_the_worker() -> None:
    async with running() as worker:
        with pytest.raises(EngineGarbled):
            await worker.tokenize("wrong tokens")
        await asyncio.wait_for(worker.exited.wait(), 10)


async def test_a_long_text_is_tokenised_in_parts() -> None:
    async with running() as worker:
        assert await worker.tokenize("a" * 120_001) == list(range(120_001))


async def test_a_flood_of_output_is_drained_and_kept_short() -> None:
    async with running() as worker:
        async with nobody_waits():
            text, error = await asyncio.wait_for(write(worker, "noise"), 60)
        assert (text, error) == ("before ", None)
        assert sum(len(line) for line in worker.output) < 1_000_000


async def test_a_flood_of_right_messages_leaves_others_their_turn() -> None:
    async with running() as worker, nobody_waits():
        _, error = await asyncio.wait_for(write(worker, "small flood"), 60)
        assert isinstance(error, EngineGarbled)  # progress is no part of a reply


async def test_answers_that_nobody_reads_do_not_pile_up() -> None:
    async with running() as worker:
        generation = worker.generate(GenerationRequest("small flood"))
        events = generation.events()
        async with nobody_waits():
            await anext(events)
            await asyncio.sleep(1.0)  # the time in which it would pile up
        with contextlib.suppress(AppError):
            await events.aclose()


async def test_what_nobody_has_read_keeps_no_pipe_open_after_the_worker() -> None:
    async with running():
        pass  # what is opened once and stays
    before = psutil.Process().num_fds()
    async with running() as worker:
        events = worker.generate(GenerationRequest("small flood")).events()
        await anext(events)
        await asyncio.sleep(1.0)  # the time in which the pipe fills
        worker.kill()
        await worker.exited.wait()
        with contextlib.suppress(AppError):
            await events.aclose()
    async with asyncio.timeout(10):
        while psutil.Process().num_fds() > before:
            await asyncio.sleep(0.02)


@pytest.mark.parametrize(
    ("said", "error", "facts"),
    [
        ("|SIGSEGV", EngineCrashed, {"signal": "SIGSEGV"}),
        ("|SIGABRT", EngineCrashed, {"signal": "SIGABRT"}),
        ("|SIGFPE", EngineCrashed, {"signal": "SIGFPE"}),
        ("|SIGBUS", EngineCrashed, {"signal": "SIGBUS"}),
        ("|SIGKILL", EngineCrashed, {"signal": "SIGKILL"}),
        ("|SIGTERM", EngineCrashed, {"signal": "SIGTERM"}),
        ("|SIGILL", BrokenPackage, {"signal": "SIGILL"}),
        ("|0", EngineCrashed, {"exit_status": 0, "unknown": True}),
        ("|7", EngineCrashed, {"exit_status": 7, "unknown": True}),
        ("CUDA error: out of memory|SIGABRT", DeviceOutOfMemory, {"signal": "SIGABRT"}),
        ("terminate called after throwing an instance of 'std::bad_alloc'|SIGABRT", HostOutOfMemory, {}),
        ("ggml-cpu.c:1200: GGML_ASSERT(false) failed|SIGABRT", EngineCrashed, {"signal": "SIGABRT"}),
        ("GGML_ASSERT: x/llama.cpp:453: data|1", HostOutOfMemory, {"exit_status": 1}),
    ],
)
async def test_a_death_is_named_by_its_last_words_or_its_signal(
    said: str, error: type[AppError], facts: dict[str, object]
) -> None:
    async with running() as worker:
        text, found = await asyncio.wait_for(write(worker, f"say:{said}"), 30)
        assert type(found) is error
        assert found is not None and text == "before "
        assert facts.items() <= found.facts.items()
        assert "Rogue" in found.message or "GPU" in found.message
        assert "before_start" not in found.facts
        words = said.rpartition("|")[0]
        if words:
            assert words in found.evidence
            assert words[-20:] in found.cause
        if found.facts.get("unknown"):
            assert "does not know" in found.message


async def test_processor_time_that_is_used_up_is_named() -> None:
    async with running() as worker:
        _, error = await asyncio.wait_for(write(worker, "processor time"), 30)
        assert isinstance(error, EngineCrashed)
        assert error.facts["signal"] == "SIGXCPU"
        assert "ulimit -t" in error.cause


async def test_a_file_that_is_cut_while_it_is_mapped_is_the_files_fault(tmp_path: Path) -> None:
    model = tmp_path / "model.gguf"
    model.write_bytes(b"x" * 200_000)
    facts = ModelFacts(model, ModelFormat.GGUF, (model,), 200_000, "model")
    async with running(facts=facts) as worker:
        _, error = await asyncio.wait_for(write(worker, f"truncated:{model}"), 30)
    assert isinstance(error, CorruptFile)
    assert error.facts["signal"] == "SIGBUS"
    assert "200,000" in error.cause


async def test_an_old_line_does_not_explain_a_new_death() -> None:
    async with running() as worker:
        assert (await write(worker, "print:CUDA error: out of memory"))[1] is None
        async with asyncio.timeout(10):
            while "CUDA error: out of memory" not in worker.output:
                await asyncio.sleep(0.01)
        _, error = await write(worker, "say:|SIGSEGV")
        assert type(error) is EngineCrashed


async def test_an_unknown_failure_says_so_and_shows_what_the_engine_said() -> None:
    async with running() as worker:
        _, error = await write(worker, "raise:the moon was in the wrong house")
        assert type(error) is EngineRefused
        assert "does not know" in error.message
        assert error.facts["unknown"] is True
        assert any("the moon" in line for line in error.evidence)
        assert (await write(worker, ""))[1] is None


async def test_a_failure_that_cannot_be_told_ends_the_worker_and_nobody_waits_for_it() -> None:
    async with running() as worker:
        _, error = await asyncio.wait_for(write(worker, "untellable"), 30)
        assert type(error) is EngineCrashed
        assert any("the words are lost" in line for line in error.evidence)


async def test_a_worker_whose_engine_died_tells_why_and_ends() -> None:
    async with running() as worker:
        _, error = await asyncio.wait_for(write(worker, "died"), 10)
        assert isinstance(error, EngineCrashed)
        assert error.message == "The rogue's engine is gone."
        assert error.facts["signal"] == "SIGSEGV"


async def test_a_job_for_a_worker_that_died_unnoticed_was_never_started() -> None:
    async with running() as worker:
        assert worker.pid is not None
        os.kill(worker.pid, signal.SIGSTOP)
        generation = asyncio.create_task(write(worker, "anything"))
        await asyncio.sleep(0.2)
        os.kill(worker.pid, signal.SIGKILL)
        text, error = await asyncio.wait_for(generation, 10)
        assert text == ""
        assert error is not None and error.facts["before_start"] is True
        _, later = await write(worker, "too late")
        assert later is not None and later.facts["before_start"] is True


@pytest.mark.parametrize(
    ("fault", "doing", "stack"),
    [("stopped", "stopped", False), ("native", "waiting", True), ("spin", "spinning", True), ("hang", "waiting", True)],
)
async def test_a_hung_worker_tells_what_it_was_doing_and_is_ended(fault: str, doing: str, stack: bool) -> None:
    async with running() as worker:
        generation = asyncio.create_task(write(worker, fault))
        async with asyncio.timeout(10):
            while "begun" not in worker.output:
                await asyncio.sleep(0.01)
        began = time.monotonic()
        await worker.record_state()
        assert time.monotonic() - began < 2.0
        assert any(f"_{fault}" in line for line in worker.output) == stack
        states = [line for line in worker.output if line.startswith("state of process")]
        assert states and doing in states[-1]
        assert any("thread" in line for line in worker.output)
        worker.generate(GenerationRequest("x" * 5_000_000)).cancel()
        other = asyncio.create_task(write(worker, "x" * 5_000_000))  # more than any pipe holds
        await asyncio.sleep(0)
        began = time.monotonic()
        await worker.stop()
        assert time.monotonic() - began < 12
        assert await generation
        _, error = await other
        assert error is not None or fault in ("spin", "hang"), "only one whose Python runs can read on and end it"


async def test_a_hung_worker_that_dies_of_the_look_was_hung() -> None:
    async with running() as worker:
        assert worker.pid is not None
        generation = asyncio.create_task(write(worker, "hang"))
        async with asyncio.timeout(10):
            while "begun" not in worker.output:
                await asyncio.sleep(0.01)
        hung = EngineHung("It said nothing.")
        ending = asyncio.create_task(worker.end_hung(hung))
        async with asyncio.timeout(10):
            while not any("_hang" in line for line in worker.output):
                await asyncio.sleep(0.01)
        os.kill(worker.pid, signal.SIGSEGV)
        await ending
        _, error = await generation
        assert isinstance(error, EngineHung)
        assert any("_hang" in line for line in hung.evidence)


async def test_a_load_that_hangs_leaves_its_stack() -> None:
    with pytest.raises(TimedOut) as caught:
        async with running(while_loading="hang", limits=WorkerLimits(load_seconds=0.5)):
            pass
    assert any("_hang" in line for line in caught.value.evidence)


@pytest.mark.parametrize(
    ("fault", "told"),
    [
        ("raise:it would not close", "it would not close"),
        ("hang", "did not close within its time"),
        ("native", "did not close within its time"),
        ("stopped", "ended by force"),
        ("say:|SIGSEGV", "SIGSEGV"),
    ],
)
async def test_a_failure_while_unloading_is_bounded_and_only_logged(
    fault: str, told: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, "webui.loaders.supervisor"):
        async with running(on_close=fault) as worker:
            pid = worker.pid
        assert pid is not None and not psutil.pid_exists(pid)
    assert told in caplog.text


async def test_nothing_is_left_of_a_workers_children() -> None:
    async with running() as worker:
        await asyncio.wait_for(write(worker, "children"), 20)
        await asyncio.wait_for(worker.exited.wait(), 20)
        child = next(int(line.split()[1]) for line in worker.output if line.startswith("child "))
        async with asyncio.timeout(5):
            while psutil.pid_exists(child) and psutil.Process(child).status() != psutil.STATUS_ZOMBIE:
                await asyncio.sleep(0.01)


@pytest.mark.skipif(sys.platform != "linux", reason="the limit is Linux's")
async def test_a_worker_cannot_take_more_than_its_limit() -> None:
    async with running(limits=WorkerLimits(memory_bytes=300 << 20)) as worker:
        _, error = await asyncio.wait_for(write(worker, "eat:2000"), 30)
        assert isinstance(error, HostOutOfMemory)
        assert error.facts["limit_bytes"] == 300 << 20
        assert "300 MiB" in error.message
        assert (worker.memory_bytes() or 0) < 320 << 20
        assert (await write(worker, "eat:10"))[1] is None


async def test_a_worker_that_cannot_start_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/nonexistent/python")
    worker = WorkerProcess(SPEC)
    with pytest.raises(AppError):
        await worker.start()
    await worker.stop()


async def test_a_worker_that_ends_before_its_greeting_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "pydantic.py").write_text("import a_package_nobody_has\n")
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    worker = WorkerProcess(SPEC)
    with pytest.raises(AppError) as caught:
        await asyncio.wait_for(worker.start(), 30)
    assert caught.value.code == "missing_package"
    assert caught.value.facts["package"] == "a_package_nobody_has"
    await worker.stop()
