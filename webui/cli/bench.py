"""`bench FILE`: how fast each loader runs a model here, or what the app costs beside the bare engine."""

from __future__ import annotations

import asyncio
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from webui.cli import columns
from webui.cli.assignments import known_loader
from webui.cli.session import in_app
from webui.setup.terminal import TerminalProgress

if TYPE_CHECKING:
    from webui.context import AppContext
    from webui.diagnostics.benchmark import Overhead, Result
    from webui.models.facts import ModelFacts

ALL = "all"


def bench(
    file: Annotated[str, typer.Argument(metavar="FILE", help="A model file or folder, or the name of a listed model.")],
    loaders: Annotated[
        str, typer.Option(metavar="A,B|all", help="Loaders to measure; by default those that are ready for the model.")
    ] = "",
    runs: Annotated[int, typer.Option(metavar="N", min=1, max=1000, help="Replies per loader; medians are shown.")] = 5,
    overhead: Annotated[
        bool, typer.Option("--overhead", help="Compare replies through the app with the bare engine, in turns.")
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> int:
    """Measure loading, prompt, first token, generation and memory for each loader."""

    async def work(context: AppContext) -> int:
        facts = await asyncio.to_thread(context.catalogue.find, file)
        chosen = _chosen(context, facts, loaders)
        if overhead:
            return await _overhead(context, facts, chosen, runs, as_json=json)
        return await _table(context, facts, chosen, runs, as_json=json)

    return in_app(work)


def _chosen(context: AppContext, facts: ModelFacts, names: str) -> list[str]:
    """The loaders named, all of them, or those that are ready for the model. Raises where none is."""
    from webui.planning.selection import refusal

    asked = [name.strip() for name in names.split(",") if name.strip()]
    if ALL in asked:
        return list(context.loaders)
    if asked:
        return [known_loader(name, context.loaders) or name for name in asked]
    candidates = context.pool.rank(facts)
    ready = [candidate.loader for candidate in candidates if candidate.suitable]
    if not ready:
        raise refusal(facts, candidates)
    return ready


async def _table(context: AppContext, facts: ModelFacts, loaders: list[str], runs: int, *, as_json: bool) -> int:
    from webui.diagnostics.benchmark import measure
    from webui.models.inspect import model_id

    terminal = TerminalProgress("Benchmark")
    try:
        results = await measure(context, facts, loaders, runs=runs, progress=terminal)
    finally:
        terminal.stop()
    if as_json:
        columns.write_json({"model": model_id(facts), "runs": runs, "results": [_result(result) for result in results]})
    else:
        columns.write_table(
            ("loader", "device", ">load", ">prompt tok/s", ">first token", ">tok/s", ">peak memory", "remark"),
            [_row(result) for result in results],
        )
    return 1 if all(result.error is not None for result in results) else 0


def _result(result: Result) -> dict[str, Any]:
    return {**asdict(result), "error": result.error.to_dict() if result.error is not None else None}


def _row(result: Result) -> tuple[str, ...]:
    return (
        result.loader,
        result.device or "",
        columns.seconds(result.load_seconds),
        columns.rate(result.prompt_tokens_per_second),
        columns.seconds(result.first_token_seconds),
        columns.rate(result.tokens_per_second),
        columns.size(result.peak_memory_bytes),
        f"{result.error.message} {result.error.cause}".strip() if result.error is not None else "",
    )


async def _overhead(context: AppContext, facts: ModelFacts, loaders: list[str], runs: int, *, as_json: bool) -> int:
    from webui.diagnostics.benchmark import COMPARABLE, measure_overhead
    from webui.errors import UnsupportedFormat
    from webui.models.inspect import model_id

    comparable = [name for name in loaders if name in COMPARABLE]
    if not comparable:
        raise UnsupportedFormat(
            "None of these loaders has a bare engine to compare with.",
            hint="There is one for: " + ", ".join(COMPARABLE),
        )
    terminal = TerminalProgress("Overhead")
    try:
        found = [await measure_overhead(context, facts, name, runs=runs, progress=terminal) for name in comparable]
    finally:
        terminal.stop()
    if as_json:
        columns.write_json({"model": model_id(facts), "results": [asdict(one) for one in found]})
    else:
        for one in found:
            _write_overhead(one)
    return 0


def _write_overhead(one: Overhead) -> None:
    columns.write_table(
        (f"{one.loader}, median of {one.runs}", ">first token", ">tok/s", ">tokens"),
        [
            (
                side,
                f"{sample.first_token_seconds * 1000:.1f} ms",
                columns.rate(sample.tokens_per_second),
                str(sample.completion_tokens),
            )
            for side, sample in (("through the app", one.app), ("bare engine", one.engine))
        ],
    )
    sys.stdout.write(f"speed {one.speed_ratio:.3f} ×, first token {one.delay_seconds * 1000:+.1f} ms\n")
