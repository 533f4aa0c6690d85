"""What the app costs on top of the bare engine: the same prompts through both, turn and turn about.

The engine's own library runs in a child process (`webui.loaders.bare`). Taking turns lets whatever else the machine
does fall on both alike. Figures are medians.
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
from webui.diagnostics.benchmark import Report
from webui.diagnostics.benchmark_sample import Sample, sample
from webui.errors import AppError, EngineCrashed
from webui.loaders.parameters import keep_known
from webui.models.facts import ModelFacts
from webui.paths import PROJECT_ROOT
from webui.pool import LoadRequest

COMPARABLE = ("xllamacpp", "llama-cpp-python")
"""Loaders whose engine `webui.loaders.bare` can run by itself."""
REPLY_TOKENS = 128
STORY = (
    "Once upon a time a small machine stood in a house by the sea. It had read every book in the house, and it knew "
    "the names of the ships that passed. In the evening people came and asked it for stories. It told them of storms "
    "and harbours, of lamps in far windows, and of those who had gone out in the morning and not come back. One day a "
    "child asked for a story that nobody had ever heard before, and the machine thought for a long time. Then it said: "
)


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


async def measure_overhead(
    context: AppContext,
    facts: ModelFacts,
    loader: str,
    *,
    runs: int,
    progress: Report,
    parameters: Mapping[str, Any] | None = None,
) -> Overhead:
    """The same prompts through a job and through the engine's own library, in turns, with the same parameters.

    Raises `AppError` where the loader's engine has no bare counterpart or either side fails.
    """
    progress(f"{loader}: loading", None)
    await context.pool.unload()
    asked = keep_known(context.loaders[loader].parameters, parameters or {})
    status = await context.pool.load(LoadRequest(facts, loader, asked))
    app: list[Sample] = []
    engine: list[Sample] = []

    async def ours(run: int) -> Sample:
        return await sample(context.pool, prompt_of(run), REPLY_TOKENS)

    async with bare_engine(loader, facts, status.parameters) as ask:
        await ours(0)
        await ask(0)
        for run in range(1, runs + 1):
            progress(f"{loader}: pair {run} of {runs}", (run - 1) / runs)
            # Who goes first takes turns too, so that neither always finds the warmer cache.
            if run % 2:
                app.append(await ours(run))
                engine.append(await ask(run))
            else:
                engine.append(await ask(run))
                app.append(await ours(run))
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
