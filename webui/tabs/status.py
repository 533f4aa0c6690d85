"""The top line of the page, on every tab: what is loaded, with what, on which device, how fast, how full.

It is asked for once a second by the page and sent only when it has changed, together with the Chat tab's banner. The
sentences that explain a degraded or failed state are folded behind its dot, with what can be done about it. While the
app cannot be reached, the page's script marks the line: then it only says what was known last.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any, Literal

import gradio as gr
import psutil

from webui.context import AppContext
from webui.errors import Cancelled
from webui.models.inspect import model_id
from webui.pool import Job, JobState, PoolState, PoolStatus
from webui.tabs.degraded import banner_html
from webui.tabs.offers import PRESS, act_on_press, link_html, offers_html, retry_offers
from webui.tabs.present import (
    duration,
    escape,
    failure_html,
    list_html,
    number,
    percent,
    progress_html,
    size,
    speed,
)
from webui.tabs.visible import SILENT, mark_of, seen_mark

TICK_SECONDS = 1.0
PLACE = "status"

Light = Literal["none", "loading", "ready", "degraded", "failed"]
LOST = '<span class="lost">Not connected; last known: </span>'
"""Shown only while the page's script finds no app that answers."""


@dataclass(frozen=True, slots=True)
class Item:
    """One figure of the line: its name for screen readers and hovering, its value, a class for its look."""

    name: str
    value: str
    kind: str = "figure"


def build(context: AppContext) -> gr.HTML:
    """Draw the top line where the caller stands. `keep_true` has to follow when the page is drawn."""
    line = gr.HTML(
        top_line_html(context.pool.status, None), js_on_load=PRESS, elem_id="status-line", apply_default_css=False
    )
    act_on_press(context, line)
    return line


def keep_true(context: AppContext, line: gr.HTML, banner: gr.HTML) -> None:
    """Keep the top line and the Chat tab's banner as the pool is."""
    seen = seen_mark(PLACE)
    timer = gr.Timer(TICK_SECONDS)

    def tick(before: str) -> list[Any]:
        status = context.pool.status
        available = psutil.virtual_memory().available
        now = mark_of(top_line_html(status, available, None), banner_html(status, place="chat", link=True))
        if now == before:
            return [gr.skip()] * 3
        return [top_line_html(status, available, time.time()), banner_html(status, place="chat", link=True), now]

    quiet: dict[str, Any] = {"queue": False, **SILENT}
    timer.tick(tick, seen, [line, banner, seen], **quiet)


def light_of(status: PoolStatus) -> Light:
    """The colour of the dot."""
    if status.state is PoolState.LOADING:
        return "loading"
    if status.state is PoolState.READY:
        return "degraded" if status.degraded or remarks(status) or _failed(status) else "ready"
    return "failed" if status.state is PoolState.FAILED else "none"


def state_words(status: PoolStatus) -> str:
    """What the dot means, in words."""
    light = light_of(status)
    if light == "degraded":
        if status.degraded is not None:
            return "Ready, with less than asked"
        return "Ready; the last load failed" if _failed(status) else "Ready, with remarks"
    failed = "Loading failed" if status.facts is None else "Model lost"
    if light == "none" and status.set_aside:
        return status.set_aside.rstrip(".")
    return {"none": "No model loaded", "loading": "Loading", "ready": "Ready", "failed": failed}[light]


def remarks(status: PoolStatus) -> list[str]:
    """What is different from what was asked: steps that were given up, and the engine's own remarks."""
    of_the_engine = status.model.notes if status.model else ()
    return list(dict.fromkeys([*status.notes, *of_the_engine]))


def top_line_html(status: PoolStatus, available_bytes: int | None, now: float | None = None) -> str:
    """The whole line for one state of the pool. `available_bytes` is the machine's free memory, if known.

    `now` is on the wall clock; without it a load shows no time.
    """
    light = light_of(status)
    dot = (
        f'<span class="dot {light}" aria-hidden="true"></span>{LOST}'
        f'<span class="state">{escape(state_words(status))}</span>'
    )
    why = _why_html(status, now)
    lamp = (
        f'<details class="why" data-fold="why"><summary>{dot}</summary><div class="why-text">{why}</div></details>'
        if why
        else f'<span class="lamp">{dot}</span>'
    )
    items = "".join(
        f'<span class="{item.kind}" title="{escape(item.name)}" data-item="{escape(item.name)}">'
        f'<span class="sr-only">{escape(item.name)}: </span>{escape(item.value)}</span>'
        for item in [*model_items(status), *_figures(status, available_bytes)]
    )
    return f'<div class="status" role="status" aria-label="Model status" data-light="{light}">{lamp}{items}</div>'


def model_items(status: PoolStatus) -> list[Item]:
    """Model, backend and device in use."""
    items = []
    if status.facts is not None:
        items.append(Item("Model", model_id(status.facts), "model"))
    if status.loader:
        items.append(Item("Backend", status.loader, "backend"))
    if status.model is not None:
        items.append(Item("Device in use", status.model.device, "device"))
    return items


def reply_html(status: PoolStatus, job: Job | None = None, *, busy: bool = False) -> str:
    """The line under the message field: who answers, on what, how fast, how full the context is.

    While a reply is written it is marked busy, and the style sheet shows Stop instead of Send.
    """
    items = model_items(status)
    if job is not None:
        items.append(Item("State", _state_words(job), "state"))
        first, pace = job.first_token_seconds, job.tokens_per_second
    else:
        first, pace = status.first_token_seconds, status.tokens_per_second
    if pace is not None:
        items.append(Item("Speed", speed(pace)))
    if first is not None:
        items.append(Item("Time to first token", f"first token {duration(first)}"))
    if status.model is not None:
        used = job.used_tokens if job is not None and job.used_tokens is not None else status.used_tokens
        items.append(Item("Context used", _context_words(used, status.model.context_size)))
    cells = "".join(
        f'<span class="{item.kind}" title="{escape(item.name)}" data-item="{escape(item.name)}">'
        f"{escape(item.value)}</span>"
        for item in items
    )
    mark = " data-busy" if busy or (job is not None and not job.ended) else ""
    return f'<div class="reply-status"{mark}>{cells}</div>'


def _figures(status: PoolStatus, available_bytes: int | None) -> list[Item]:
    items = []
    if status.tokens_per_second is not None:
        items.append(Item("Speed", speed(status.tokens_per_second)))
    if status.model is not None:
        items.append(Item("Context used", _context_words(status.used_tokens, status.model.context_size)))
    if status.memory_bytes is not None:
        items.append(Item("Memory of the model", f"{size(_rounded(status.memory_bytes))} used"))
    if available_bytes is not None:
        items.append(Item("Memory free", f"{size(_rounded(available_bytes))} free"))
    if status.running or status.queued or status.finishing:
        counts = [(status.running, "running"), (status.queued, "waiting"), (status.finishing, "finishing")]
        words = ", ".join(f"{number(count)} {word}" for count, word in counts if count)
        items.append(Item("Replies being written", words))
    return items


def _why_html(status: PoolStatus, now: float | None) -> str:
    parts = []
    if status.state is PoolState.LOADING:
        since = now - status.started_at if now is not None and status.started_at is not None else None
        parts.append(progress_html(status.step or "Starting", status.share, since))
    parts.append(banner_html(status, place=PLACE))
    failure = status.failure
    if failure is not None and status.state is not PoolState.LOADING and not isinstance(failure, Cancelled):
        buttons = offers_html(retry_offers(status), place=PLACE)
        lost = status.state is PoolState.FAILED and status.facts is not None
        title = "The model was lost" if lost else "The last load failed"
        parts.append(failure_html(failure, title=title, actions=buttons))
    parts.append(list_html(remarks(status), tone="warning"))
    if any(parts):
        parts.append(
            offers_html([], place=PLACE, more=link_html("Model", "model-status", "Open the Model tab", place=PLACE))
        )
    return "".join(parts)


def _failed(status: PoolStatus) -> bool:
    return status.failure is not None and not isinstance(status.failure, Cancelled)


def _context_words(used: int | None, total: int) -> str:
    """`312 of 4,096 tokens (8 %)`; where nothing was asked yet, `4,096 tokens of context`."""
    if not used:
        return f"{number(total)} tokens of context"
    return f"{number(used)} of {number(total)} tokens ({percent(used / total)})" if total else number(used)


def _state_words(job: Job) -> str:
    words = {
        JobState.QUEUED: f"waiting, place {job.place}" if job.place else "waiting",
        JobState.PROMPT: "reading the prompt",
        JobState.GENERATING: "writing",
        JobState.DONE: "done",
        JobState.CANCELLED: "stopped",
        JobState.FAILED: "failed",
    }
    return words[job.state]


def _rounded(count: int) -> int:
    """To 16 MiB, so that the line is not sent again for every page the system moves."""
    step = 16 * 1024 * 1024
    return max(step, round(count / step) * step)
