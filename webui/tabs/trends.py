"""Trends on the Diagnostics tab: how fast a model was day by day with each backend, and what each backend was used for.

Read only while the tab is looked at, and drawn again only when something was added.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import gradio as gr

from webui.context import AppContext
from webui.diagnostics.use import Use
from webui.migration.older_figures import OlderFigures, older_figures
from webui.planning.record import Record
from webui.planning.record_trend import Change, Usage, models_of, trends, usage
from webui.tabs.bars import Bar, Bars, bars_svg
from webui.tabs.present import duration, empty_html, escape, number, plural, speed
from webui.tabs.trend_plot import DAY_SECONDS, date_of, trend_html
from webui.tabs.visible import SILENT, mark_of, seen_mark, ticking, when_opened

SECONDS_BETWEEN_TICKS = 10.0
SPANS = (("7 days", 7), ("30 days", 30), ("90 days", 90), ("a year", 365))
SPAN = 30
CHANGES_SHOWN = 9
NOTHING = "Nothing has been recorded yet: load a model and ask it something."


def build(context: AppContext, use: Use) -> None:
    """Draw the section where the caller stands."""
    gr.HTML("<h2 class='part'>Trends</h2>")
    with gr.Row():
        model = gr.Dropdown([], label="Model", interactive=True, elem_id="diagnostics-trend-model", min_width=180)
        days = gr.Dropdown(
            list(SPANS), value=SPAN, label="Time", interactive=True, elem_id="diagnostics-trend-days", min_width=120
        )
    shown = gr.HTML(empty_html(NOTHING), elem_id="diagnostics-trends")
    seen = seen_mark("diagnostics-trends")
    inputs, outputs = [seen, model, days], [model, shown, seen]

    def look(before: str, wanted: str | None, span: int) -> list[Any]:
        record = use.record()
        known = models_of(record)
        chosen = wanted if wanted in known else next(iter(known), None)
        older = older_figures(context.paths.older_speeds)
        now = mark_of(context.metrics.changes, chosen, span, int(time.time() // DAY_SECONDS), known, older)
        if now == before:
            return [gr.skip()] * len(outputs)
        update = gr.update(choices=known, value=chosen)
        return [update, trends_html(record, chosen, time.time(), int(span)) + older_html(older), now]

    quiet: dict[str, Any] = {"queue": False, **SILENT}
    ticking(SECONDS_BETWEEN_TICKS, "Diagnostics").tick(look, inputs, outputs, **quiet)
    gr.on([model.input, days.input], look, inputs, outputs, trigger_mode="always_last", **quiet)
    when_opened(look, outputs, inputs)


def trends_html(record: Record, model: str | None, now: float, days: int) -> str:
    """The plots of `model`, what changed meanwhile, and the use of each backend."""
    if model is None:
        return empty_html(NOTHING)
    found = trends(record, model, now, days)
    plots = "".join(trend_html(trend) for trend in found)
    changes = changes_html(found[0].changes[-CHANGES_SHOWN:]) if found else ""
    body = f'<div class="trend-figures">{plots}</div>{changes}' if plots else empty_html("Nothing in this time.")
    return f'<div class="trends">{body}{usage_html(usage(record, now, days))}</div>'


def changes_html(changes: Sequence[Change]) -> str:
    """What the numbered lines of the plots stand for."""
    if not changes:
        return ""
    rows = "".join(f"<li>{date_of(one.at / DAY_SECONDS)}: {escape(one.said)}</li>" for one in changes)
    return f'<h3>What changed</h3><ol class="trend-changes">{rows}</ol>'


def usage_html(found: Sequence[Usage]) -> str:
    """How much each backend was used, whatever the model."""
    if not found:
        return ""
    bars = [Bar(one.loader, one.replies, plural(one.replies, "reply", "replies")) for one in found]
    head = "".join(
        f"<th>{name}</th>" for name in ("Backend", "Replies", "Replies failed", "Tokens", "Loads", "Loads failed")
    )
    rows = "".join(
        f"<tr><td>{escape(one.loader)}</td><td>{number(one.replies)}</td><td>{number(one.replies_failed)}</td>"
        f"<td>{number(one.tokens)}</td><td>{number(one.loads)}</td><td>{number(one.loads_failed)}</td></tr>"
        for one in found
    )
    table = f'<table class="workers"><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>'
    plot = bars_svg("Use of each backend", [Bars("Replies of all models", tuple(bars))])
    return f'<h3>Use of each backend</h3>{plot}<div class="scroll">{table}</div>'


def older_html(found: Sequence[OlderFigures]) -> str:
    """What was carried over from the older app, of all models."""
    if not found:
        return ""
    head = "".join(
        f"<th>{name}</th>" for name in ("Model", "Backend", "Measured", "Replies", "Prompts", "Load", "When")
    )
    rows = "".join(
        f"<tr><td>{escape(one.model)}</td><td>{escape(one.loader)}</td><td>{number(one.count)} ×</td>"
        f"<td>{speed(one.speed)}</td><td>{speed(one.prompt_speed)}</td><td>{duration(one.load_seconds)}</td>"
        f"<td>{_when(one)}</td></tr>"
        for one in found
    )
    table = f'<table class="workers older-figures"><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>'
    return (
        "<h3>Measured by the older app</h3><p class='aside'>Carried over for looking back: with which engines and"
        f' settings it was is not known, so nothing is decided by it.</p><div class="scroll">{table}</div>'
    )


def _when(one: OlderFigures) -> str:
    days = [f"{datetime.fromtimestamp(at, UTC):%d %b %Y}" for at in (one.first, one.last) if at is not None]
    return " – ".join(dict.fromkeys(days))
