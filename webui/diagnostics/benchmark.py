"""How fast loaders run a model on this machine: loading, prompts and replies at several depths, memory.

`measure` takes one loader after the other and lets the model answer prompts of known length several times, as jobs in
the pool: what people get. What it finds is in `benchmark_results`; showing and keeping it is left to others.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

import webui
from webui.diagnostics.benchmark_loader import LoaderBenchmark
from webui.diagnostics.benchmark_request import BenchmarkRequest
from webui.diagnostics.benchmark_results import BenchmarkRun, LoaderResult
from webui.diagnostics.benchmark_store import new_id
from webui.errors import AppError
from webui.hardware.facts import fingerprint
from webui.models.inspect import model_id
from webui.planning.speed import Speed

if TYPE_CHECKING:
    from webui.context import AppContext

Report = Callable[[str, "float | None"], None]
OnChange = Callable[[BenchmarkRun], None]


async def measure(
    context: AppContext,
    request: BenchmarkRequest,
    *,
    progress: Report = lambda text, share: None,
    on_change: OnChange = lambda run: None,
) -> BenchmarkRun:
    """Benchmark the loaders of `request` in turn; one that cannot is reported with its error. The last stays loaded.

    `on_change` is called with what there is so far, from the beginning on. What was measured is added to the app's
    measurements, from which loaders are chosen. Raises `Superseded` when somebody loads or unloads a model meanwhile.
    """
    run = _begun(request, fingerprint(await context.hardware()))
    on_change(run)
    for place, loader in enumerate(request.loaders):

        def changed(found: LoaderResult, before: BenchmarkRun = run) -> None:
            on_change(_with(before, found, disturbed=False))

        def report(text: str, share: float, place: int = place) -> None:
            progress(text, (place + share) / len(request.loaders))

        result, disturbed = await _one(context, request, loader, report, changed)
        run = _with(run, result, disturbed=disturbed)
        on_change(run)
        await asyncio.to_thread(_remember, context, request, result)
    return replace(run, state="done", seconds=time.time() - run.at)


def _begun(request: BenchmarkRequest, machine: str) -> BenchmarkRun:
    now = time.time()
    return BenchmarkRun(
        id=new_id(now),
        at=now,
        app_version=webui.__version__,
        machine=machine,
        model=model_id(request.facts),
        path=str(request.facts.path),
        file_bytes=request.facts.file_bytes,
        runs=request.runs,
        reply_tokens=request.reply_tokens,
        depths=request.depths,
        parameters=dict(request.parameters),
    )


def _with(run: BenchmarkRun, result: LoaderResult, *, disturbed: bool) -> BenchmarkRun:
    return replace(
        run,
        results=(*run.results, result),
        seconds=max(0.0, time.time() - run.at),
        disturbed=run.disturbed or disturbed,
    )


async def _one(
    context: AppContext,
    request: BenchmarkRequest,
    loader: str,
    report: Callable[[str, float], None],
    on_change: Callable[[LoaderResult], None],
) -> tuple[LoaderResult, bool]:
    """What one loader did, and whether it was disturbed."""
    spec, configured = context.loaders[loader], context.settings.backends.parameters(loader)
    try:
        one = LoaderBenchmark(context.pool, spec, request, configured, report=report, on_change=on_change)
    except AppError as error:  # its parameters are wrong
        return LoaderResult(loader, error=error.to_dict()), False
    return await one.run(), one.disturbed


def _remember(context: AppContext, request: BenchmarkRequest, result: LoaderResult) -> None:
    """Add the speeds of one loader to what the choice of loaders goes by; writes a file."""
    for found in result.measured:
        if found.speed is None:
            continue
        speed = Speed(
            result.loader,
            result.parameters,
            found.speed.median,
            found.prompt_speed.median if found.prompt_speed is not None else None,
            result.load.median if result.load is not None else None,
            found.memory_bytes,
            found.depth,
            time.time(),
            "bench",
        )
        context.measurements.add(request.facts, result.version, speed)
