"""`compare BASELINE [RUN]`: what changed since a benchmark was kept, in percent, without measuring anything."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from webui.cli import bench_table, columns
from webui.cli.ending import WrongUsage
from webui.paths import Paths


def compare(
    baseline: Annotated[
        str, typer.Argument(metavar="BASELINE", help="A baseline, or an earlier run by the beginning of its name.")
    ],
    run: Annotated[
        str | None,
        typer.Argument(
            metavar="[RUN]", help="The run to compare; by default the latest of the same model.", show_default=False
        ),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> int:
    """Compare a benchmark with an earlier one, in percent; `bench` measures and keeps them."""
    from webui.diagnostics.benchmark_comparison import compare as compared
    from webui.diagnostics.benchmark_store import BenchmarkStore

    store = BenchmarkStore(Paths.from_environment().benchmarks)
    before = store.find(baseline)
    now = store.find(run).run if run is not None else store.beside(before)
    if now is None:
        raise WrongUsage("There is no other run to compare.", hint="Run bench FILE first.")
    found = compared(now, before.run)
    if json:
        columns.write_json(bench_table.comparison_to_dict(found))
        return 0
    sys.stdout.write(f"{now.id}: {now.model}\n")
    bench_table.write_comparison(found)
    return 0
