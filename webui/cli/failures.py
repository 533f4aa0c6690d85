"""`failures`: what went wrong in the last weeks, and how often each loader fails, from the history on disk."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from webui.cli import columns
from webui.paths import Paths

if TYPE_CHECKING:
    from webui.pool.history import Rate
    from webui.pool.status import Failure


def failures(
    limit: Annotated[int, typer.Option(min=1, metavar="N", help="How many, newest first.")] = 20,
    json: Annotated[bool, typer.Option("--json", help="Print loads, failures and rates as JSON.")] = False,
) -> int:
    """List what failed in the last weeks, newest first, and how often each loader fails."""
    from webui.pool.history import History

    path = Paths.from_environment().history
    history = History(path if path.exists() else None)  # looking makes no file
    try:
        loads, failed, rates = history.loads(limit), history.failures(limit), history.rates()
    finally:
        history.close()
    if json:
        from webui.pool.records import failure_to_dict, story_to_dict

        columns.write_json(
            {
                "loads": [story_to_dict(story) for story in loads],
                "failures": [failure_to_dict(failure) for failure in failed],
                "rates": [_rate(rate) for rate in rates],
            }
        )
        return 0
    _write_failures(failed)
    _write_rates(rates)
    return 0


def _rate(rate: Rate) -> dict[str, Any]:
    return {
        "loader": rate.loader,
        "attempts": rate.attempts,
        "failures": rate.failures,
        "share": rate.share,
        "by_category": rate.by_category,
        "by_code": rate.by_code,
    }


def _write_failures(failed: Sequence[Failure]) -> None:
    if not failed:
        sys.stdout.write("Nothing has failed.\n")
        return
    for failure in failed:
        when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(failure.at))
        where = " · ".join(filter(None, (when, failure.loader, failure.model, f"at {failure.phase}")))
        cause = f" ({failure.error.cause})" if failure.error.cause else ""
        sys.stdout.write(f"{where}\n  {failure.error.code}: {failure.error.message}{cause}\n")
        if failure.error.hint:
            sys.stdout.write(f"  → {failure.error.hint}\n")


def _write_rates(rates: Sequence[Rate]) -> None:
    if not rates:
        return
    sys.stdout.write("\n")
    rows = [
        (
            rate.loader,
            columns.number(rate.attempts),
            columns.number(rate.failures),
            columns.UNKNOWN if rate.share is None else f"{rate.share:.0%}",
            ", ".join(f"{code} {count}" for code, count in rate.by_code.items()),
        )
        for rate in rates
    ]
    columns.write_table(("loader", ">attempts", ">failures", ">share", "kinds"), rows)
