"""How fast loaders run a model on this machine, and what the app itself costs on top of the bare engine.

`measure` loads the model with a loader and lets it answer the same kind of prompt several times, as jobs in the pool:
what people get. `measure_overhead` runs that against the engine's own library in a child process
(`webui.loaders.bare`), turn and turn about, so that whatever else the machine does falls on both alike. Figures are
medians; showing them is left to the command line.
"""

from __future__ import annotations

import asyncio
import json
import os
import statistics
import sys
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from webui.context import AppContext
from webui.errors import AppError, EngineCrashed, EngineRefused
from webui.loaders.contract import GenerationRequest
from webui.loaders.sampling import SamplingParameters
from webui.models.facts import ModelFacts
from webui.paths import PROJECT_ROOT
from webui.pool import LoadRequest
from webui.pool.jobs import Job

OWNER = "benchmark"
REPLY_TOKENS = 128
COMPARABLE = ("xllamacpp", "llama-cpp-python")
"""Loaders whose engine `webui.loaders.bare` can run by itself."""
MOST_LOADS = 3
"""Loads per loader: they take long and vary little."""
STORY = (
    "Once upon a time a small machine stood in a house by the sea. It had read every book in the house, and it knew "
    "the names of the ships that passed. In the evening people came and asked it for stories. It told them of storms "
    "and harbours, of lamps in far windows, and of those who had gone out in the morning and not come back. One day a "
    "child asked for a story that nobody had ever heard before, and the machine thought for a long time. Then it said: "
)

Report = Callable[[str, "float | None"], None]


@dataclass(frozen=True, slots=True)
class Sample:
    """One reply: seconds to the first token, prompt and reply tokens per second, tokens of the reply."""

    first_token_seconds: float
    prompt_tokens_per_second: float | None
    tokens_per_second: float | None
    completion_tokens: int


@dataclass(frozen=True, slots=True)
class Result:
    """The medians of one loader; `error` says why there are none."""

    loader: str
    device: str | None = None
    runs: int = 0
    load_seconds: float | None = None
    prompt_tokens_per_second: float | None = None
    tokens_per_second: float | None = None
    first_token_seconds: float | None = None
    peak_memory_bytes: int | None = None
    error: AppError | None = None


@dataclass(frozen=True, slots=True)
class Overhead:
    """The app beside the bare engine. `speed_ratio` is app / engine (1 is no loss), `delay_seconds` app − engine.

    Both are medians over the pairs: a machine whose speed drifts slows both runs of a pair.
    """

    loader: str
    runs: int
    app: Sample
    engine: Sample
    speed_ratio: float
    delay_seconds: float


def prompt_of(run: int) -> str:
    """The prompt of one run. Its beginning differs from run to run, so that no engine has it in its cache."""
    return f"Story number {run}.\n\n{STORY}"


async def measure(
    context: AppContext, facts: ModelFacts, loaders: Iterable[str], *, runs: int, progress: Report
) -> list[Result]:
    """Benchmark each of `loaders`; one that cannot is reported with its error. The model is unloaded at the end."""
    results = []
    for loader in loaders:
        try:
            results.append(await _measure_one(context, facts, loader, runs, progress))
        except AppError as error:
            results.append(Result(loader, error=error))
    await context.pool.unload()
    return results


async def _measure_one(context: AppContext, facts: ModelFacts, loader: str, runs: int, progress: Report) -> Result:
    load_seconds = []
    loads = min(runs, MOST_LOADS)
    for turn in range(loads):
        progress(f"{loader}: loading, {turn + 1} of {loads}", None)
        # Unloaded first: a swap would run beside the model before it.
        await context.pool.unload()
        status = await context.pool.load(LoadRequest(facts, loader))
        load_seconds.append(status.load_seconds or 0.0)
    progress(f"{loader}: warming up", None)
    await _sample(context, 0)
    samples = []
    for run in range(1, runs + 1):
        progress(f"{loader}: reply {run} of {runs}", (run - 1) / runs)
        samples.append(await _sample(context, run))
    middle = median_of(samples)
    status = context.pool.status
    return Result(
        loader,
        status.model.device if status.model else None,
        runs,
        statistics.median(load_seconds),
        middle.prompt_tokens_per_second,
        middle.tokens_per_second,
        middle.first_token_seconds,
        context.pool.peak_memory_bytes(),
    )


async def _sample(context: AppContext, run: int) -> Sample:
    """One reply through the pool, as a job."""
    job = context.pool.submit(GenerationRequest(prompt_of(run), _sampling()), owner=OWNER)
    try:
        await job.wait()
    finally:
        job.cancel()
    if job.error is not None:
        raise job.error
    return _sample_of(job)


def _sampling() -> SamplingParameters:
    return SamplingParameters(max_tokens=REPLY_TOKENS, temperature=0.0)


def _sample_of(job: Job) -> Sample:
    finished = job.finished
    if finished is None or job.first_token_seconds is None:
        raise EngineRefused("The engine ended the reply without a token.")
    read = finished.prompt_tokens - finished.cached_tokens
    # By the clock in this process, as somebody who waits for the reply sees it.
    rest = (job.total_seconds or 0.0) - job.first_token_seconds
    return Sample(
        job.first_token_seconds,
        read / finished.prompt_seconds if finished.prompt_seconds > 0 else None,
        (finished.completion_tokens - 1) / rest if rest > 0 and finished.completion_tokens > 1 else None,
        finished.completion_tokens,
    )


def median_of(samples: Sequence[Sample]) -> Sample:
    """The median of each figure by itself."""

    def middle(values: Iterable[float | None]) -> float | None:
        known = [value for value in values if value is not None]
        return statistics.median(known) if known else None

    return Sample(
        statistics.median(sample.first_token_seconds for sample in samples),
        middle(sample.prompt_tokens_per_second for sample in samples),
        middle(sample.tokens_per_second for sample in samples),
        round(statistics.median(sample.completion_tokens for sample in samples)),
    )


# --- the app against the bare engine --------------------------------------------------------------------------------


async def measure_overhead(
    context: AppContext, facts: ModelFacts, loader: str, *, runs: int, progress: Report
) -> Overhead:
    """The same prompts through a job and through the engine's own library, in turns, with the same parameters.

    Raises `AppError` where the loader's engine has no bare counterpart or either side fails.
    """
    progress(f"{loader}: loading", None)
    await context.pool.unload()
    status = await context.pool.load(LoadRequest(facts, loader))
    app: list[Sample] = []
    engine: list[Sample] = []
    async with bare_engine(loader, facts, status.parameters) as ask:
        await _sample(context, 0)
        await ask(0)
        for run in range(1, runs + 1):
            progress(f"{loader}: pair {run} of {runs}", (run - 1) / runs)
            # Who goes first takes turns too, so that neither always finds the warmer cache.
            if run % 2:
                app.append(await _sample(context, run))
                engine.append(await ask(run))
            else:
                engine.append(await ask(run))
                app.append(await _sample(context, run))
    await context.pool.unload()
    return compare(loader, app, engine)


def compare(loader: str, app: Sequence[Sample], engine: Sequence[Sample]) -> Overhead:
    """Runs of the app and of the bare engine, pair by pair. Replies too short to have a speed do not count for it."""
    pairs = list(zip(app, engine, strict=True))
    ratios = [
        ours.tokens_per_second / theirs.tokens_per_second
        for ours, theirs in pairs
        if ours.tokens_per_second and theirs.tokens_per_second
    ]
    return Overhead(
        loader,
        len(pairs),
        median_of(app),
        median_of(engine),
        statistics.median(ratios) if ratios else 0.0,
        statistics.median(ours.first_token_seconds - theirs.first_token_seconds for ours, theirs in pairs),
    )


Ask = Callable[[int], Awaitable[Sample]]


@asynccontextmanager
async def bare_engine(loader: str, facts: ModelFacts, parameters: Mapping[str, Any]) -> AsyncGenerator[Ask, None]:
    """A child process with the engine's library and the model; what is yielded runs the prompt of one run in it."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "webui.loaders.bare",
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        cwd=PROJECT_ROOT,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(PROJECT_ROOT), os.environ.get("PYTHONPATH", "")])},
    )

    async def exchange(message: Mapping[str, Any]) -> dict[str, Any]:
        if process.stdin is None or process.stdout is None:
            raise AssertionError("the process was started with pipes")
        process.stdin.write(json.dumps(message).encode() + b"\n")
        await process.stdin.drain()
        line = await process.stdout.readline()
        if not line:
            raise EngineCrashed(f"The bare engine of {loader} ended with status {await process.wait()}.")
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise AppError.from_dict(answer["error"])
        return answer

    async def ask(run: int) -> Sample:
        return Sample(**await exchange({"prompt": prompt_of(run), "max_tokens": REPLY_TOKENS}))

    try:
        await exchange({"loader": loader, "path": str(facts.path), "parameters": dict(parameters)})
        yield ask
    finally:
        if process.stdin is not None:
            process.stdin.close()
        try:
            async with asyncio.timeout(10):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()
