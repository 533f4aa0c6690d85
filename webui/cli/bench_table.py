"""Benchmarks on a terminal: one run as a table, the list of those that are kept, and two of them compared."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from webui.cli import columns

if TYPE_CHECKING:
    from webui.diagnostics.benchmark_comparison import Comparison, Difference
    from webui.diagnostics.benchmark_results import BenchmarkRun, DepthResult, Figure, LoaderResult
    from webui.diagnostics.benchmark_store import Saved
    from webui.diagnostics.overhead import Overhead

VERDICTS = {"better": "better", "worse": "worse", "noise": "within noise", "unknown": "too few runs to tell"}
BYTES = "peak memory"
SECONDS = ("first token", "load time")


def write_run(run: BenchmarkRun) -> None:
    columns.write_table(
        (
            "loader",
            ">depth",
            ">prompt tokens",
            ">prompt tok/s",
            ">±",
            ">first token",
            ">tok/s",
            ">±",
            ">memory",
            ">peak",
            ">load",
            "remark",
        ),
        [row for result in run.results for row in _rows(result)],
    )
    for result in run.results:
        for note in result.notes:
            sys.stdout.write(f"{result.loader}: {note}\n")
    if run.disturbed:
        sys.stdout.write("Other replies were written meanwhile: figures are too low.\n")
    sys.stdout.write(f"Kept as {run.id}: {run.model}, median of {run.runs}, replies of {run.reply_tokens} tokens.\n")


def _rows(result: LoaderResult) -> list[tuple[str, ...]]:
    failure = result.failure
    remark = f"{failure.message} {failure.cause}".strip() if failure is not None else ""
    if not result.depths:
        return [(result.loader, *[""] * 10, remark)]
    rows: list[tuple[str, ...]] = []
    for place, found in enumerate(result.depths):
        first = place == 0
        rows.append(
            (
                result.loader if first else "",
                columns.number(found.depth),
                _tokens(found),
                *_speed(found.prompt_speed),
                columns.seconds(found.first_token.median if found.first_token is not None else None),
                *_speed(found.speed),
                columns.size(found.memory_bytes),
                columns.size(result.peak_memory_bytes) if first else "",
                columns.seconds(result.load.median if result.load is not None else None) if first else "",
                " ".join(filter(None, (found.problem, remark if first else ""))),
            )
        )
    return rows


def _tokens(found: DepthResult) -> str:
    if not found.prompt_tokens:
        return columns.UNKNOWN
    low, high = min(found.prompt_tokens), max(found.prompt_tokens)
    return columns.number(low) if low == high else f"{columns.number(low)}–{columns.number(high)}"


def _speed(found: Figure | None) -> tuple[str, str]:
    if found is None:
        return columns.UNKNOWN, ""
    return columns.rate(found.median), "" if found.spread is None else f"{found.spread:.1%}"


def write_list(saved: Sequence[Saved]) -> None:
    if not saved:
        sys.stdout.write("No benchmark is kept yet.\n")
        return
    columns.write_table(
        ("name", "date", "model", "loaders", "depths", ">tok/s", "state"),
        [
            (
                one.key,
                time.strftime("%Y-%m-%d %H:%M", time.localtime(one.run.at)),
                one.run.model,
                ", ".join(result.loader for result in one.run.results),
                ", ".join(map(str, one.run.depths)),
                columns.rate(_fastest(one.run)),
                "baseline" if one.baseline else one.run.state,
            )
            for one in saved
        ],
    )


def _fastest(run: BenchmarkRun) -> float | None:
    speeds = [found.speed.median for one in run.results for found in one.measured[:1] if found.speed is not None]
    return max(speeds, default=None)


def write_comparison(found: Comparison) -> None:
    sys.stdout.write(f"\nCompared with {found.before}:\n")
    for warning in found.warnings:
        sys.stdout.write(f"! {warning}\n")
    for remark in (*found.remarks, *found.missing):
        sys.stdout.write(f"  {remark}\n")
    columns.write_table(
        ("loader", ">depth", "figure", ">before", ">now", ">change", ">noise", "verdict"),
        [
            (
                one.loader,
                "" if one.depth is None else columns.number(one.depth),
                one.what,
                _amount(one, one.before),
                _amount(one, one.now),
                f"{one.change:+.1%}",
                columns.UNKNOWN if one.noise is None else f"±{one.noise:.1%}",
                VERDICTS[one.verdict],
            )
            for one in found.differences
        ],
    )


def _amount(one: Difference, value: float) -> str:
    if one.what == BYTES:
        return columns.size(round(value))
    return columns.seconds(value) if one.what in SECONDS else f"{columns.rate(value)} tok/s"


def comparison_to_dict(found: Comparison) -> dict[str, Any]:
    return asdict(found)


def write_overhead(one: Overhead) -> None:
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
