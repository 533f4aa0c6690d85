"""`stats`: how much models were used, how fast they were, and what the record of use advises."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from webui.cli import columns
from webui.cli.session import in_app
from webui.paths import Paths

if TYPE_CHECKING:
    from webui.context import AppContext
    from webui.migration.older_figures import OlderFigures
    from webui.planning.record import Record
    from webui.planning.record_rules import RecordAdvice
    from webui.planning.record_summary import Summary

DAYS = 30
YEAR = 400
"""As long as sums are kept."""


def stats(
    model: Annotated[str, typer.Option("--model", metavar="NAME", help="Only this model.")] = "",
    loader: Annotated[str, typer.Option("--loader", metavar="NAME", help="Only this backend.")] = "",
    days: Annotated[int, typer.Option("--days", min=1, max=YEAR, metavar="N", help="How far to look back.")] = DAYS,
    advice: Annotated[bool, typer.Option("--advice", help="Say what the record advises, with its evidence.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print figures, trends and errors as JSON.")] = False,
) -> int:
    """Show how models were used and how fast they were, by backend, from the record on disk."""
    from webui.errors import NotFound
    from webui.migration.older_figures import older_figures
    from webui.planning.record_summary import summaries
    from webui.planning.record_trend import models_of

    record = _record()
    now = time.time()
    found = summaries(record, now, days, model, loader)
    older = older_figures(Paths.from_environment().older_speeds, model, loader)
    known = [*models_of(record), *(one.model for one in older)]
    if model and model not in known:
        raise NotFound(f"Nothing was recorded of {model!r}.", hint=f"Recorded: {', '.join(known) or 'nothing yet'}.")
    told = [one for one in in_app(_advice) if _matches(one, model, loader)] if advice else []
    if json:
        columns.write_json(_as_json(record, found, older, told if advice else None, now, days, loader))
        return 0
    if advice:
        _write_advice(told)
    else:
        _write_summaries(found, days)
        _write_older(older)
    return 0


def _record() -> Record:
    from webui.pool.metrics import Metrics

    path = Paths.from_environment().metrics
    metrics = Metrics(path if path.exists() else None)  # looking makes no file
    try:
        return metrics.record()
    finally:
        metrics.close()


async def _advice(context: AppContext) -> list[RecordAdvice]:
    import asyncio

    from webui.diagnostics.use import Use

    return await asyncio.to_thread(Use(context).advice)


def _matches(advice: RecordAdvice, model: str, loader: str) -> bool:
    return model in ("", advice.model) and loader in ("", advice.loader)


def _write_summaries(found: Sequence[Summary], days: int) -> None:
    if not found:
        sys.stdout.write(f"Nothing was recorded in the last {days} days.\n")
        return
    rows = [
        (
            one.model,
            one.loader,
            columns.number(one.replies),
            columns.number(one.replies_failed),
            columns.rate(one.speed),
            columns.rate(one.prompt_speed),
            columns.seconds(one.first_token_seconds),
            columns.size(one.memory),
            columns.number(one.loads),
            columns.number(one.loads_failed),
            columns.seconds(one.load_seconds),
        )
        for one in found
    ]
    titles = (
        ">replies",
        ">failed",
        ">tokens/s",
        ">prompt t/s",
        ">first token",
        ">memory",
        ">loads",
        ">failed",
        ">load",
    )
    columns.write_table(("model", "loader", *titles), rows)


def _write_older(found: Sequence[OlderFigures]) -> None:
    if not found:
        return
    rows = [
        (
            one.model,
            one.loader or columns.UNKNOWN,
            columns.number(one.count),
            columns.rate(one.speed),
            columns.rate(one.prompt_speed),
            columns.seconds(one.load_seconds),
            columns.day(one.first),
            columns.day(one.last),
        )
        for one in found
    ]
    sys.stdout.write("\nMeasured by the older app; nothing is decided by it:\n")
    columns.write_table(
        ("model", "loader", ">measured", ">tokens/s", ">prompt t/s", ">load", "first", "last"),
        rows,
    )


def _write_advice(found: Sequence[RecordAdvice]) -> None:
    if not found:
        sys.stdout.write("Nothing to advise.\n")
        return
    for one in found:
        sys.stdout.write(f"{one.sentence}\n")
        for line in one.evidence:
            sys.stdout.write(f"  {line}\n")
        if one.act is not None:
            sys.stdout.write(f"  → {one.act.label}\n")


def _as_json(
    record: Record,
    found: Sequence[Summary],
    older: Sequence[OlderFigures],
    advice: Sequence[RecordAdvice] | None,
    now: float,
    days: int,
    loader: str,
) -> dict[str, Any]:
    from dataclasses import asdict

    from webui.planning.record_trend import trends

    models = list(dict.fromkeys(one.model for one in found))
    drawn = [asdict(trend) for name in models for trend in trends(record, name, now, days)]
    for trend in drawn:
        trend["lines"] = [line for line in trend["lines"] if loader in ("", line["loader"])]
    report: dict[str, Any] = {
        "days": days,
        "models": [one.to_dict() for one in found],
        "trends": drawn,
        "older": [one.to_dict() for one in older],
    }
    return report if advice is None else {**report, "advice": [one.to_dict() for one in advice]}
