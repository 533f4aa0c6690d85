"""The cells of the engine that fails on request."""

from __future__ import annotations

import asyncio
import sys
from dataclasses import replace
from typing import Any

from tests.fakes import misbehaving
from tests.faults.cells import LOADING, REPLYING, Cell, Fault, Kind, Phase
from tests.faults.stage import Stage
from webui.errors import AppError
from webui.loaders.contract import GenerationRequest
from webui.loaders.sampling import SamplingParameters
from webui.models.inspect import inspect_model
from webui.pool import Job, JobState

PATIENCE: dict[Phase, dict[str, float]] = {
    Phase.START: {"limits__start_timeout_seconds": 3.0},
    **{phase: {"limits__load_timeout_seconds": 2.0} for phase in (Phase.IMPORT, Phase.LOAD, Phase.SWAP)},
    **{phase: {"limits__silence_timeout_seconds": 2.0} for phase in (Phase.CANARY, *REPLYING, Phase.IDLE)},
}
"""The limit that ends a hang in each phase; the others stay as they are, so that a busy machine is not called one."""
PROMPT = "one two three FAULT four five"
JOB_SECONDS = 60.0
WORDS = "One two three four five"
UPDATES = 1000.0
SOME_TOKENS = 3
TRIES = 4
"""How often a moment that is over in milliseconds may be missed."""
RECORDED = {Phase.START: "start", Phase.CANARY: "canary"}
"""The phase under which a failed load is on record, where it is not that of loading."""


async def play(stage: Stage, cell: Cell) -> None:
    """The cell from its first step to the next message."""
    silent = cell.fault.silent or cell.fault.expected(cell.phase) == "timed_out"
    stage.configure(**(PATIENCE.get(cell.phase, {}) if silent else {}))
    facts = inspect_model(stage.copy_model(cell.loader))
    if cell.phase is Phase.SWAP:
        await stage.load_one_before()
        stage.prober.asking.set()
    _prepare(stage, cell)
    try:
        await stage.load(cell.loader, facts, _parameters(stage, cell))
    except AppError as error:
        await load_failed(stage, cell, error)
        return
    finally:
        stage.prober.asking.clear()
    if cell.phase in LOADING and not stage.expect(not cell.fault.expected(cell.phase), "the load worked"):
        return
    if cell.phase in REPLYING:
        await _reply(stage, cell)
    elif cell.phase is Phase.IDLE:
        await _idle(stage, cell)
    if cell.phase is Phase.UNLOAD:
        await unload(stage)
    else:
        await next_message(stage, cell)


async def next_message(stage: Stage, cell: Cell) -> None:
    """After a fault of a running model: answered by the worker that follows, or refused where there can be none."""
    if cell.fault.lost:
        await stage.until("it is given up", lambda: stage.pool.status.failure is not None)
        await stage.expect_refusal()
    else:
        await stage.expect_answer()


def _parameters(stage: Stage, cell: Cell) -> dict[str, Any]:
    phase = Phase.LOAD if cell.phase is Phase.SWAP else cell.phase
    found = {"phase": str(phase), "fault": cell.fault.name, "signpost": str(stage.folder / "signpost")}
    # A load fails each time it is tried; a model that was loaded once fails once.
    return found if cell.phase in LOADING else {**found, "once": str(stage.folder / "once")}


def _prepare(stage: Stage, cell: Cell) -> None:
    """Put what the worker meets before its loader onto its way: a `sitecustomize`, or the loader's own module."""
    if cell.phase not in (Phase.START, Phase.IMPORT):
        return
    commit = f"from tests.fakes.faults import commit\ncommit({cell.fault.name!r})\n"
    sys.path.insert(0, str(stage.folder))
    if cell.phase is Phase.START:
        (stage.folder / "sitecustomize.py").write_text(commit)
        return
    module = f"engine_{stage.folder.name}"
    (stage.folder / f"{module}.py").write_text("from tests.fakes.misbehaving import MisbehavingLoader\n" + commit)
    # The worker imports the class by its module's name, and this process never does.
    loader = type("MisbehavingLoader", (misbehaving.MisbehavingLoader,), {"__module__": module})
    stage.context.loaders[cell.loader] = replace(misbehaving.SPEC, loader=loader)


async def load_failed(stage: Stage, cell: Cell, error: AppError) -> None:
    """The load ended with `error`: is it the right one, and what is there afterwards?"""
    check_error(stage, cell.fault, cell.fault.expected(cell.phase), error)
    shown = stage.pool.status.failure
    stage.expect(shown is not None and shown.code == error.code, f"the status shows {shown!r}")
    story = stage.pool.loads(1)[0]
    told = story.error.code if story.error is not None else ""
    stage.expect((story.outcome, told) == ("failed", error.code), f"the history says {story.outcome}: {told}")
    if cell.fault.kind in (Kind.ENGINE, Kind.SIGNAL):
        recorded = [(failure.phase, failure.error.code) for failure in stage.failures()]
        wanted = RECORDED.get(cell.phase, "load")
        stage.expect(recorded == [(wanted, error.code)], f"on record as {recorded}, not as {wanted}")
    if cell.phase is Phase.SWAP:
        stage.expect(stage.pool.status.pid == stage.pid_before, "the model before it is not there, or was loaded again")
        await stage.expect_answer()
    else:
        await stage.expect_refusal()


def check_error(stage: Stage, fault: Fault, code: str, error: AppError | None) -> None:
    """Is `error` the typed cause that `fault` is to have, with what proves it?"""
    if not stage.expect(error is not None, f"no error instead of {code}") or error is None:
        return
    stage.notes["error"] = f"{error.code}: {error.message}"
    stage.expect(error.code == code, f"{error.code} instead of {code or 'no error'}: {error.message} ({error.cause})")
    if error.code == code:
        for name, value in fault.facts.items():
            stage.expect(error.facts.get(name) == value, f"{name} is {error.facts.get(name)!r} instead of {value!r}")
    stage.expect(bool(error.message and error.hint), "no sentence, or no hint")
    numbers = fault.kind is Kind.REQUEST and error.facts.keys() >= {"prompt_tokens", "context_size"}
    stage.expect(bool(error.evidence or error.cause or numbers), "neither a cause nor evidence")
    if error.code in ("engine_hung", "timed_out"):
        stage.expect(bool(error.evidence), "nothing is recorded of what it was doing")
    stage.expect("Traceback" not in error.message + error.cause + error.hint, "a traceback for a person to read")


async def _reply(stage: Stage, cell: Cell) -> None:
    job = stage.pool.submit(GenerationRequest(PROMPT, SamplingParameters(max_tokens=100)), owner="cell")
    await finish(stage, job)
    await check_reply(stage, cell, job)
    expected = cell.fault.expected(cell.phase)
    if not expected:
        stage.expect(job.text == PROMPT + " ", f"the whole reply was {job.text!r}")
    elif cell.phase is Phase.MID_STREAM:
        stage.expect(job.text == "one two three ", f"the partial text is {job.text!r}")


async def begun(stage: Stage, sampling: SamplingParameters) -> Job:
    """A reply that is being written; begun again where a busy machine let it end unseen."""
    for _ in range(TRIES):
        job = stage.pool.submit(GenerationRequest(WORDS, sampling), owner="cell")
        async with asyncio.timeout(JOB_SECONDS):
            async for _ in job.updates(UPDATES):
                if job.tokens >= SOME_TOKENS:
                    break
        if not job.ended:
            break
    stage.expect(job.state is JobState.GENERATING, "the moment was missed")
    return job


async def finish(stage: Stage, job: Job) -> None:
    try:
        await asyncio.wait_for(job.wait(), JOB_SECONDS)
    except TimeoutError:
        stage.problems.append(f"the reply never ended: {job.state}, {job.text!r}")
        job.cancel()


async def check_reply(stage: Stage, cell: Cell, job: Job) -> None:
    """Did the reply end as it is to, and is its failure on record?"""
    expected = cell.fault.expected(cell.phase)
    if not expected:
        stage.expect(job.state is JobState.DONE, f"the reply ended as {job.state}: {job.error!r}")
        return
    stage.expect(job.state is JobState.FAILED, f"the reply ended as {job.state}")
    check_error(stage, cell.fault, expected, job.error)
    if await stage.until("its failure on record", stage.failures):
        recorded = [(failure.phase, failure.error.code) for failure in stage.failures()]
        stage.expect(("reply", expected) in recorded, f"on record as {recorded}")


async def _idle(stage: Stage, cell: Cell) -> None:
    signpost = stage.folder / "signpost"
    signpost.touch()
    await stage.until("the fault", lambda: not signpost.exists())
    await idle_failed(stage, cell)


async def idle_failed(stage: Stage, cell: Cell, *, unnoticed: bool = False) -> None:
    """A fault of a model that nobody asked anything. It shows by itself; `unnoticed` ones and hangs with a message."""
    expected = cell.fault.expected(cell.phase)
    if not expected:
        return
    if cell.fault.silent or unnoticed:
        response = await stage.ask()
        code = response.json().get("error", {}).get("code", "")
        stage.expect(response.status_code == 200 or code == expected, f"{response.status_code} {response.text[:200]}")
    if await stage.until("its failure on record", stage.failures):
        check_error(stage, cell.fault, expected, stage.failures()[0].error)


async def unload(stage: Stage) -> None:
    """Unloading ends in good time, and leaves nothing to complain about."""
    try:
        await asyncio.wait_for(stage.pool.unload(), 15)
    except TimeoutError:
        stage.problems.append("unloading never ended")
    stage.expect(not stage.failures(), f"a failure on record: {stage.failures()}")
    await stage.expect_refusal()
