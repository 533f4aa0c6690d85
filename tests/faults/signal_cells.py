"""The cells in which a real engine is struck from outside, at a moment of its life."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator, Iterator
from typing import Any
from unittest import mock

import psutil

from tests.faults.cells import LOADING, Cell, Phase
from tests.faults.engine_cells import (
    JOB_SECONDS,
    SOME_TOKENS,
    TRIES,
    UPDATES,
    WORDS,
    check_reply,
    finish,
    idle_failed,
    load_failed,
    unload,
)
from tests.faults.stage import Stage
from webui.errors import AppError
from webui.loaders.contract import GenerationRequest
from webui.loaders.sampling import SamplingParameters
from webui.loaders.supervisor import WorkerProcess
from webui.models.facts import ModelFacts
from webui.models.inspect import inspect_model
from webui.pool import Job, JobState

SERVER = "server-"
PATIENCE_SECONDS = 3.0
READING_SECONDS = 0.01
"""A worker has the prompt by then, and has not read all of it."""
LONG_PROMPT = WORDS + " and so on" * 150
"""Takes an engine a while to read, and gets it more patience."""
LONG_REPLY = SamplingParameters(max_tokens=1500, temperature=0)
"""Not done before it is struck, however busy the machine is."""


async def play(stage: Stage, cell: Cell) -> None:
    """The cell from its first step to the next message."""
    _configure(stage, cell)
    facts = inspect_model(stage.copy_model(cell.loader))
    if cell.phase in LOADING:
        await _while_loading(stage, cell, facts)
        return
    await stage.load(cell.loader, facts, stage.parameters(cell.loader))
    if cell.phase is Phase.UNLOAD:
        await _while_unloading(stage, cell)
        return
    if cell.phase is Phase.IDLE:
        await _while_idle(stage, cell)
    else:
        await _while_replying(stage, cell)
    await stage.expect_answer()


def _configure(stage: Stage, cell: Cell) -> None:
    """A limit that ends a hang soon; the others stay as they are, so that a busy machine is not called one."""
    limit = "start_timeout" if cell.phase is Phase.START else "load_timeout"
    if cell.phase is Phase.CANARY or cell.phase not in LOADING:
        limit = "silence_timeout"
    stage.configure(**({f"limits__{limit}_seconds": PATIENCE_SECONDS} if cell.fault.silent else {}))


# --- loading ----------------------------------------------------------------------------------------------------------


async def _while_loading(stage: Stage, cell: Cell, facts: ModelFacts) -> None:
    if cell.phase is Phase.SWAP:
        await stage.load_one_before()
        stage.prober.asking.set()
    before = {worker.pid for worker in _workers()}
    with _at_the_first_prompt(cell) if cell.phase is Phase.CANARY else contextlib.nullcontext():
        load = asyncio.create_task(stage.load(cell.loader, facts, stage.parameters(cell.loader)))
        struck = cell.phase is Phase.CANARY or await _strike_the_newborn(stage, cell, before, load)
        try:
            await load
        except AppError as error:
            stage.prober.asking.clear()
            stage.expect(struck, "it failed by itself")
            await load_failed(stage, cell, error)
            return
        finally:
            stage.prober.asking.clear()
    stage.problems.append("the load worked")


@contextlib.contextmanager
def _at_the_first_prompt(cell: Cell) -> Iterator[None]:
    """Strike when the pool hands a model its first prompt, before it can have answered."""
    send = WorkerProcess.send

    def sending(worker: WorkerProcess, message: dict[str, Any]) -> None:
        if message["op"] == "generate" and worker.pid is not None:
            _strike(cell, _server_of(worker.pid) if cell.fault.name.startswith(SERVER) else worker.pid)
        send(worker, message)

    with mock.patch.object(WorkerProcess, "send", sending):
        yield


async def _strike_the_newborn(stage: Stage, cell: Cell, before: set[int], load: asyncio.Task[None]) -> bool:
    """Strike the worker that `load` starts, as soon as it is where the cell wants it."""
    async with contextlib.aclosing(_moments(stage, cell, load)) as moments:
        async for _ in moments:
            if target := _ready_to_strike(stage, cell, before):
                _strike(cell, target)
                return True
    return False


async def _moments(stage: Stage, cell: Cell, load: asyncio.Task[None]) -> AsyncIterator[None]:
    """When to look: at each change of the status, and of what no status shows every few milliseconds."""
    hidden = cell.phase is Phase.START or cell.fault.name.startswith(SERVER)
    watch = stage.pool.watch()
    while not load.done():
        changed = asyncio.ensure_future(anext(watch))
        await asyncio.wait([changed, load], timeout=0.005 if hidden else None, return_when=asyncio.FIRST_COMPLETED)
        yield
        if not changed.done():
            changed.cancel()
            await asyncio.wait([changed])
            watch = stage.pool.watch()
    await watch.aclose()


def _ready_to_strike(stage: Stage, cell: Cell, before: set[int]) -> int | None:
    """The process to strike, if this is the moment."""
    if cell.phase is Phase.START:
        return next((worker.pid for worker in _workers() if worker.pid not in before), None)
    worker = next((facts.pid for facts in stage.pool.workers() if facts.state == "loading"), None)
    # What a loader reports begins with a capital, what the pool itself reports does not.
    if worker is None or not stage.pool.status.step[:1].isupper():
        return None
    return _server_of(worker) if cell.fault.name.startswith(SERVER) else worker


def _workers() -> list[psutil.Process]:
    """The workers there are, also those that no status shows yet."""
    found = []
    for child in psutil.Process().children():
        with contextlib.suppress(psutil.Error):
            if "webui.loaders.worker" in child.cmdline():
                found.append(child)
    return found


def _server_of(worker: int) -> int | None:
    """The server process behind a worker, once it has been started to serve."""
    with contextlib.suppress(psutil.Error):
        for process in psutil.Process(worker).children(recursive=True):
            with contextlib.suppress(psutil.Error):
                words = process.cmdline()
                if "--port" in words and any(word.endswith("llama_server.py") for word in words[:3]):
                    return process.pid
    return None


def _strike(cell: Cell, target: int | None) -> None:
    """Strike what may have ended a moment ago: then the cell finds that nothing came of it."""
    with contextlib.suppress(ProcessLookupError):
        if target is not None:
            os.kill(target, signal.Signals[cell.fault.name.removeprefix(SERVER)])


# --- loaded -----------------------------------------------------------------------------------------------------------


def _strike_the_model(stage: Stage, cell: Cell) -> None:
    worker = stage.pool.status.pid
    target = _server_of(worker) if worker is not None and cell.fault.name.startswith(SERVER) else worker
    if stage.expect(target is not None, "there is nothing to strike") and target is not None:
        _strike(cell, target)


async def _while_replying(stage: Stage, cell: Cell) -> None:
    middle = cell.phase is Phase.MID_STREAM
    early = cell.phase is Phase.FIRST_TOKEN and not cell.fault.silent
    request = GenerationRequest(LONG_PROMPT if early else WORDS, LONG_REPLY)
    for _ in range(TRIES):
        job = stage.pool.submit(request, owner="cell")
        async with asyncio.timeout(JOB_SECONDS):
            async for _ in job.updates(UPDATES):
                if job.tokens >= SOME_TOKENS if middle else job.state is not JobState.QUEUED:
                    break
        await asyncio.sleep(READING_SECONDS if early else 0)
        if job.ended or (job.tokens and not middle):
            job.cancel()
            await finish(stage, job)
            continue
        before = job.text
        _strike_the_model(stage, cell)
        await finish(stage, job)
        again = job.sent_again and cell.phase is Phase.FIRST_TOKEN
        if job.state is JobState.DONE and not again:
            continue  # all of it was on its way already
        await _broken_off(stage, cell, job, before)
        return
    stage.problems.append("the moment was missed, or the reply did not mind")


async def _broken_off(stage: Stage, cell: Cell, job: Job, before: str) -> None:
    """The reply broke off where it was; or its question had not been read yet, and has been asked again."""
    if job.state is JobState.DONE:
        await idle_failed(stage, cell)
        return
    await check_reply(stage, cell, job)
    check_text(stage, job, before)
    if cell.phase is Phase.MID_STREAM:
        stage.expect(bool(job.text), "the partial text is lost")


def check_text(stage: Stage, job: Job, before: str) -> None:
    stage.notes["kept"] = len(job.text)
    stage.expect(job.text.startswith(before), f"the text was {before!r} and is {job.text!r}")


async def _while_idle(stage: Stage, cell: Cell) -> None:
    await stage.expect_answer()
    _strike_the_model(stage, cell)
    await idle_failed(stage, cell, unnoticed=cell.fault.name.startswith(SERVER))


async def _while_unloading(stage: Stage, cell: Cell) -> None:
    worker = stage.pool.status.pid
    unloading = asyncio.create_task(unload(stage))
    await asyncio.sleep(0)
    if stage.expect(worker is not None, "there is no worker to strike") and worker is not None:
        _strike(cell, worker)
    await unloading
