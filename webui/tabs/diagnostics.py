"""The Diagnostics tab: health, advice, error rates, loads and failures, trends, workers, extensions, the live log.

It is fed only while it is looked at, and a tick that finds nothing new sends nothing.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from typing import Any

import gradio as gr

from webui.context import AppContext
from webui.diagnostics.log import LogLine
from webui.diagnostics.use import Use
from webui.pool import WorkerFacts
from webui.tabs import extension_list, health, model_tests, record_advice, support_bundle, trends, waterfall
from webui.tabs.history import ANY, CATEGORIES, failures_html, loads_html, rates_html
from webui.tabs.present import (
    clock,
    duration,
    empty_html,
    escape,
    log_html,
    size,
)
from webui.tabs.visible import SILENT, mark_of, seen_mark, ticking, when_opened

LEVELS = {"Debug": logging.DEBUG, "Info": logging.INFO, "Warning": logging.WARNING, "Error": logging.ERROR}
SHOWN_LINES = 400
SECONDS_BETWEEN_TICKS = 1.5


def build(context: AppContext) -> None:
    """Draw the tab where the caller stands."""
    timer = ticking(SECONDS_BETWEEN_TICKS, "Diagnostics")
    health.build(context, timer)
    use = Use(context)
    record_advice.build(context, use)
    _history(context, timer)
    trends.build(context, use)
    waterfall.build(context, timer)
    model_tests.build(context, timer)
    gr.HTML("<h2 class='part'>Workers</h2>")
    workers = gr.HTML(workers_html([], time.time()), elem_id="diagnostics-workers")
    extension_list.build(context)
    gr.HTML("<h2 class='part'>Log</h2>")
    with gr.Row():
        level = gr.Dropdown(
            list(LEVELS), value="Info", label="From level", elem_id="diagnostics-level", min_width=120, scale=0
        )
        search = gr.Textbox(label="Search", placeholder="part of a line", elem_id="diagnostics-search", min_width=160)
    log = gr.HTML(log_html([]), elem_id="diagnostics-log", autoscroll=True, max_height=420)
    seen = seen_mark("diagnostics")

    def look(wanted_level: str, wanted_words: str) -> tuple[str, str]:
        return (
            workers_html(context.pool.workers(), time.time()),
            log_lines_html(context.log.lines(LEVELS.get(wanted_level, logging.INFO), wanted_words)),
        )

    _keep_true(timer, seen, [level, search], [workers, log], look)
    support_bundle.build(context)


def _history(context: AppContext, timer: gr.Timer) -> None:
    """Rates, loads and failures: apart from what changes all the time, so that unfolded stories are left alone."""
    gr.HTML("<h2 class='part'>How often backends fail</h2>")
    rates = gr.HTML(rates_html([], loaders=context.loaders), elem_id="diagnostics-rates")
    gr.HTML("<h2 class='part'>Loads and failures</h2>")
    with gr.Row():
        titles = [(spec.title, name) for name, spec in context.loaders.items()]
        loader = gr.Dropdown(
            [(ANY, ANY), *titles], value=ANY, label="Backend", elem_id="diagnostics-loader", min_width=140
        )
        category = gr.Dropdown(
            [ANY, *CATEGORIES], value=ANY, label="Category", elem_id="diagnostics-category", min_width=140
        )
    loads = gr.HTML(empty_html("Nothing has been loaded yet."), elem_id="diagnostics-loads")
    gr.HTML("<h2 class='part'>Failures, newest first</h2>")
    failures = gr.HTML(empty_html("No engine has failed."), elem_id="diagnostics-failures")
    seen = seen_mark("diagnostics-history")

    def look(wanted: str, kind: str) -> tuple[str, str, str]:
        pool, known = context.pool, context.loaders
        return (
            rates_html(pool.rates(), loaders=known),
            loads_html(pool.loads(), loader=wanted, category=kind, loaders=known),
            failures_html(pool.failures(), loader=wanted, category=kind, loaders=known),
        )

    _keep_true(timer, seen, [loader, category], [rates, loads, failures], look)


def _keep_true(
    timer: gr.Timer, seen: gr.Textbox, wanted: list[Any], shown: list[Any], look: Callable[[str, str], tuple[str, ...]]
) -> None:
    """Show in `shown` what `look` finds for the values of `wanted`; nothing is sent where nothing has changed."""
    outputs = [*shown, seen]

    def refresh(before: str, first: str, second: str) -> list[Any]:
        found = look(first, second)
        now = mark_of(*found)
        return [gr.skip()] * len(outputs) if now == before else [*found, now]

    quiet: dict[str, Any] = {"queue": False, **SILENT}
    inputs = [seen, *wanted]
    timer.tick(refresh, inputs, outputs, **quiet)
    gr.on([part.change for part in wanted], refresh, inputs, outputs, trigger_mode="always_last", **quiet)
    when_opened(refresh, outputs, inputs)


def workers_html(workers: Sequence[WorkerFacts], now: float) -> str:
    """One row for each living worker process."""
    if not workers:
        return empty_html("No worker is running: no model is loaded.")
    rows = "".join(
        f"<tr><td>{worker.pid}</td><td>{escape(worker.loader)}</td><td>{escape(worker.model)}</td>"
        f"<td>{escape(worker.state)}</td><td>{size(worker.memory_bytes)}</td>"
        f"<td>{duration(round(max(0.0, now - worker.since), -1))}</td></tr>"
        for worker in workers
    )
    head = "".join(f"<th>{name}</th>" for name in ("Process", "Loader", "Model", "State", "Memory", "Running for"))
    return (
        f'<div class="scroll"><table class="workers"><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>'
    )


def log_lines_html(lines: Sequence[LogLine]) -> str:
    """The last lines of the log: time, level, room and text."""
    shown = [
        f"{clock(line.at)}  {logging.getLevelName(line.level):<7}  {line.room.removeprefix('webui.')}: {line.text}"
        for line in lines[-SHOWN_LINES:]
    ]
    return log_html(shown, empty="No line matches.")
