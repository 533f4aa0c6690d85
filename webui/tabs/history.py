"""The history on the Diagnostics tab: loads with their ladders, failures, and how often each backend fails.

Pure functions over the pool's records. Lists are bounded; what lies behind the newest entries stays in the file.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from webui.pool import Failure, LoadStory
from webui.pool.history import Rate
from webui.tabs.ladder import Loaders, story_html, title_of
from webui.tabs.present import UNKNOWN, empty_html, escape, failure_html, moment, number, percent, plural

LOADS_SHOWN = 30
FAILURES_SHOWN = 20
ANY = "all"
CATEGORIES = ("installation", "hardware", "model", "configuration", "application")
"""The branches of the tree of errors; the last one is what has no other."""
PHASES = {"canary": "first token", "restore": "bringing it back"}
"""Phases of a failure that are called something else by those who see them."""


def loads_html(loads: Sequence[LoadStory], *, loader: str, category: str, loaders: Loaders) -> str:
    """The loads and restarts in which `loader` was tried and something of `category` went wrong, newest first."""
    found = [story for story in loads if _story_matches(story, loader, category)]
    if not found:
        return empty_html("No load matches." if loads else "Nothing has been loaded yet.")
    shown = "".join(story_html(story, loaders=loaders) for story in found[:LOADS_SHOWN])
    return f'<div class="stories">{shown}</div>{_more(len(found), LOADS_SHOWN, "load")}'


def failures_html(failures: Sequence[Failure], *, loader: str = ANY, category: str = ANY, loaders: Loaders) -> str:
    """The failures of `loader` and `category`, newest first, each with its evidence."""
    found = [
        failure for failure in failures if loader in (ANY, failure.loader) and category in (ANY, failure.error.category)
    ]
    if not found:
        return empty_html("No failure matches." if failures else "No engine has failed.")
    shown = "".join(_failure_html(failure, loaders) for failure in found[:FAILURES_SHOWN])
    return f"{shown}{_more(len(found), FAILURES_SHOWN, 'failure')}"


def rates_html(rates: Sequence[Rate], *, loaders: Loaders) -> str:
    """How often each backend was tried, how often it failed, and with what, by category."""
    if not rates:
        return empty_html("No backend has been tried yet.")
    categories = [name for name in CATEGORIES if any(rate.by_category.get(name) for rate in rates)]
    head = "".join(
        f"<th>{escape(name)}</th>" for name in ("Backend", "Tried", "Failed", "Rate", *map(str.capitalize, categories))
    )
    rows = "".join(_rate_row(rate, categories, loaders) for rate in rates)
    table = f"<thead><tr>{head}</tr></thead><tbody>{rows}</tbody>"
    return f'<div class="scroll"><table class="workers rates">{table}</table></div>'


def _story_matches(story: LoadStory, loader: str, category: str) -> bool:
    tried = {story.loader, story.asked_loader, *(rung.attempt.loader for rung in story.rungs)}
    errors = [story.error, *(rung.error for rung in story.rungs)]
    return loader in (ANY, *tried) and (
        category == ANY or any(error is not None and error.category == category for error in errors)
    )


def _failure_html(failure: Failure, loaders: Loaders) -> str:
    phase = PHASES.get(failure.phase, failure.phase)
    parts = (moment(failure.at), phase, title_of(failure.loader, loaders), failure.model)
    return failure_html(failure.error, title=" · ".join(filter(None, parts)), key=f"{failure.at}")


def _rate_row(rate: Rate, categories: Sequence[str], loaders: Loaders) -> str:
    share = UNKNOWN if rate.share is None else percent(rate.share)
    counts = "".join(
        f'<td title="{escape(_codes(rate.by_code))}">{number(rate.by_category.get(name, 0))}</td>'
        for name in categories
    )
    return (
        f'<tr data-loader="{escape(rate.loader)}"><td>{escape(title_of(rate.loader, loaders))}</td>'
        f"<td>{number(rate.attempts)}</td><td>{number(rate.failures)}</td><td>{share}</td>{counts}</tr>"
    )


def _codes(by_code: Mapping[str, int]) -> str:
    return ", ".join(f"{code.replace('_', ' ')}: {number(count)}" for code, count in by_code.items())


def _more(found: int, shown: int, what: str) -> str:
    left = found - shown
    return f'<p class="aside">{escape(plural(left, f"older {what}"))} not shown.</p>' if left > 0 else ""
