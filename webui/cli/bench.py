"""`bench FILE`: how fast each loader runs a model here, compared with earlier runs, or with the bare engine."""

from __future__ import annotations

import asyncio
import sys
from collections import deque
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, Any

import typer

from webui.cli import bench_table, columns
from webui.cli.assignments import known_loader, read_assignments, sort_out
from webui.cli.ending import WrongUsage
from webui.cli.session import in_app
from webui.paths import Paths
from webui.setup.terminal import TerminalProgress

if TYPE_CHECKING:
    from webui.context import AppContext
    from webui.diagnostics.benchmark_results import BenchmarkRun
    from webui.diagnostics.benchmark_store import BenchmarkStore
    from webui.models.facts import ModelFacts

ALL = "all"


@dataclass(frozen=True, slots=True)
class _Keeping:
    """What is to be done with the run: compared with another, kept as a baseline, printed as JSON."""

    compare: str
    save_baseline: str
    as_json: bool


def bench(
    file: Annotated[
        str | None,
        typer.Argument(
            metavar="[FILE]",
            help="A model file or folder, or the name of a listed model. Without it, earlier runs are looked at.",
            show_default=False,
        ),
    ] = None,
    loaders: Annotated[
        str, typer.Option(metavar="A,B|all", help="Loaders to measure; by default those that are ready for the model.")
    ] = "",
    depths: Annotated[
        str,
        typer.Option(
            metavar="N,N,…", help="Tokens in the context when replies begin.  [default: 0,1024,4096 as far as they fit]"
        ),
    ] = "",
    runs: Annotated[
        int, typer.Option(metavar="N", min=1, max=1000, help="Replies per loader and depth; medians are shown.")
    ] = 5,
    tokens: Annotated[int, typer.Option(metavar="N", min=2, max=4096, help="Tokens of each reply.")] = 128,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="NAME=VALUE", help="A parameter of the loaders; may be repeated."),
    ] = None,
    list_: Annotated[bool, typer.Option("--list", help="List the runs and baselines that are kept.")] = False,
    compare: Annotated[
        str,
        typer.Option(
            metavar="RUN|NAME|last", help="Compare with an earlier run or a baseline, by the beginning of its name."
        ),
    ] = "",
    baseline: Annotated[str, typer.Option(metavar="NAME", help="Compare with this baseline.")] = "",
    save_baseline: Annotated[str, typer.Option(metavar="NAME", help="Keep the run as a baseline of this name.")] = "",
    overhead: Annotated[
        bool, typer.Option("--overhead", help="Compare replies through the app with the bare engine, in turns.")
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> int:
    """Measure loading, prompts, generation and memory for each loader, and compare with earlier runs.

    Without FILE, --compare and --save-baseline take the latest run.
    """
    if compare and baseline:
        raise WrongUsage("--compare and --baseline exclude each other.")
    keeping = _Keeping(compare or baseline, save_baseline, json)
    if list_:
        return _list(_store(), as_json=json)
    if file is None:
        if not (keeping.compare or save_baseline):
            raise WrongUsage("There is no FILE.", hint="Name a model, or use --list, --compare or --save-baseline.")
        return _latest(_store(), keeping)
    assigned = read_assignments(set_ or ())

    async def work(context: AppContext) -> int:
        facts = await asyncio.to_thread(context.catalogue.find, file)
        chosen = _chosen(context, facts, loaders)
        values = _parameters(context, assigned, chosen)
        if overhead:
            return await _overhead(context, facts, chosen, values, runs, as_json=json)
        return await _measure(context, facts, (chosen, depths, runs, tokens, values), keeping)

    return in_app(work)


def _store() -> BenchmarkStore:
    from webui.diagnostics.benchmark_store import BenchmarkStore

    return BenchmarkStore(Paths.from_environment().benchmarks)


def _chosen(context: AppContext, facts: ModelFacts, names: str) -> list[str]:
    """The loaders named, all of them, or those that are ready for the model. Raises where none is."""
    from webui.planning.selection import refusal

    asked = [name.strip() for name in names.split(",") if name.strip()]
    if ALL in asked:
        return list(context.loaders)
    if asked:
        return list(dict.fromkeys(known_loader(name, context.loaders) or name for name in asked))
    candidates = context.pool.rank(facts)
    ready = [candidate.loader for candidate in candidates if candidate.suitable]
    if not ready:
        raise refusal(facts, candidates)
    return ready


def _parameters(context: AppContext, assigned: dict[str, str], loaders: list[str]) -> dict[str, Any]:
    """`--set` as values that at least one of the loaders has; raises `WrongUsage`."""
    sampling, values = sort_out(assigned, {name: context.loaders[name] for name in loaders}, None)
    if sampling:
        raise WrongUsage(
            f"{next(iter(sampling))} belongs to sampling, which is the same in every benchmark.",
            hint="--set takes parameters of the loaders here; --tokens is the length of replies.",
        )
    return values


async def _measure(
    context: AppContext,
    facts: ModelFacts,
    asked: tuple[list[str], str, int, int, dict[str, Any]],
    keeping: _Keeping,
) -> int:
    from webui.diagnostics.benchmark import measure
    from webui.diagnostics.benchmark_request import BenchmarkRequest, depths_or_default, read_depths
    from webui.models.inspect import model_id

    loaders, depths, runs, tokens, values = asked
    store = context.benchmarks.store
    # Looked up first: nobody should wait for a measurement only to hear that a name is wrong.
    before = await asyncio.to_thread(store.find, keeping.compare, model_id(facts)) if keeping.compare else None
    if keeping.save_baseline:
        store.check_name(keeping.save_baseline)
    request = BenchmarkRequest(
        facts, tuple(loaders), depths_or_default(read_depths(depths), facts, tokens), runs, tokens, values
    )
    terminal = TerminalProgress("Benchmark")
    found: deque[BenchmarkRun] = deque(maxlen=1)
    try:
        run = await measure(context, request, progress=terminal, on_change=found.append)
    except BaseException:
        # Ctrl-C, or the engine's end: what was measured until then is worth keeping.
        if found and not found[-1].failed:
            store.save(replace(found[-1], state="stopped"))
        raise
    finally:
        terminal.stop()
    if lost := await asyncio.to_thread(store.save, run):
        sys.stderr.write(f"{lost}\n")
    if keeping.save_baseline:
        await asyncio.to_thread(store.save_baseline, keeping.save_baseline, run)
    _show(run, before.run if before is not None else None, as_json=keeping.as_json)
    return 1 if run.failed else 0


def _show(run: BenchmarkRun, before: BenchmarkRun | None, *, as_json: bool) -> None:
    from webui.diagnostics.benchmark_comparison import compare
    from webui.diagnostics.benchmark_results import run_to_dict

    comparison = compare(run, before) if before is not None else None
    if as_json:
        told = {"comparison": bench_table.comparison_to_dict(comparison)} if comparison is not None else {}
        columns.write_json({**run_to_dict(run), **told})
        return
    bench_table.write_run(run)
    if comparison is not None:
        bench_table.write_comparison(comparison)


def _latest(store: BenchmarkStore, keeping: _Keeping) -> int:
    """The latest run compared with an earlier one, or kept as a baseline."""
    from webui.diagnostics.benchmark_store import LAST

    before = store.find(keeping.compare) if keeping.compare not in ("", LAST) else None
    runs = store.runs()
    if keeping.compare == LAST:
        before = store.earlier(runs[0]) if runs else None
    latest = store.beside(before)
    if latest is None or (keeping.compare and before is None):
        raise WrongUsage("There is no run to take.", hint="Run bench FILE first.")
    if keeping.save_baseline:
        store.save_baseline(keeping.save_baseline, latest)
        sys.stderr.write(f"Kept {latest.id} ({latest.model}) as {keeping.save_baseline}.\n")
    _show(latest, before.run if before is not None else None, as_json=keeping.as_json)
    return 0


def _list(store: BenchmarkStore, *, as_json: bool) -> int:
    from webui.diagnostics.benchmark_results import run_to_dict

    saved = store.all()
    if as_json:
        columns.write_json([{"baseline": one.baseline or None, **run_to_dict(one.run)} for one in saved])
    else:
        bench_table.write_list(saved)
    return 0


async def _overhead(
    context: AppContext, facts: ModelFacts, loaders: list[str], values: dict[str, Any], runs: int, *, as_json: bool
) -> int:
    from dataclasses import asdict

    from webui.diagnostics.overhead import COMPARABLE, measure_overhead
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
        found = [
            await measure_overhead(context, facts, name, runs=runs, progress=terminal, parameters=values)
            for name in comparable
        ]
    finally:
        terminal.stop()
    if as_json:
        columns.write_json({"model": model_id(facts), "results": [asdict(one) for one in found]})
    else:
        for one in found:
            bench_table.write_overhead(one)
    return 0
