"""The last reply on the Diagnostics tab: where its time went, as bars on one line of time."""

from __future__ import annotations

import gradio as gr

from webui.context import AppContext
from webui.diagnostics.reply_profile import ReplyProfile, Span, profile_of
from webui.tabs.present import duration, empty_html, escape, number, speed, verdict_html
from webui.tabs.visible import SILENT, mark_of, seen_mark, when_opened

NOTHING = "Nothing has been answered yet."
THINNEST = 0.4
"""Percent of the line that a span takes at least, so that it can be seen."""


def build(context: AppContext, timer: gr.Timer) -> None:
    """Draw the part where the caller stands; `timer` ticks while its tab is looked at."""
    gr.HTML("<h2 class='part'>The last reply</h2>")
    shown = gr.HTML(empty_html(NOTHING), elem_id="diagnostics-reply")
    seen = seen_mark("diagnostics-reply")

    def refresh(before: str) -> list[object]:
        found = last_reply_html(context)
        now = mark_of(found)
        return [gr.skip(), gr.skip()] if now == before else [found, now]

    timer.tick(refresh, seen, [shown, seen], queue=False, **SILENT)
    when_opened(refresh, [shown, seen], [seen])


def last_reply_html(context: AppContext) -> str:
    """The latest reply that has ended."""
    ended = next((job for job in reversed(context.pool.jobs()) if job.ended), None)
    return empty_html(NOTHING) if ended is None else waterfall_html(profile_of(ended))


def waterfall_html(profile: ReplyProfile) -> str:
    """Bars to scale, each with its time and what happened in it; the same in words for who cannot see them."""
    rows = "".join(_row(span, profile.total_seconds) for span in profile.spans)
    told = f"{number(profile.completion_tokens)} tokens, {speed(profile.tokens_per_second)}"
    first = f"first token after {duration(profile.first_token_seconds)}, " if profile.first_token_seconds else ""
    head = f"<p>{escape(f'{first}{told}, {duration(profile.total_seconds)} in all, by {profile.loader}')}</p>"
    remark = f"<p>{verdict_html('warning', profile.remark)}</p>" if profile.remark else ""
    label = "Where the time of the last reply went"
    return f'<section class="waterfall" aria-label="{label}">{head}<ul>{rows}</ul>{remark}</section>'


def _row(span: Span, total: float) -> str:
    left = span.start / total * 100 if total > 0 else 0.0
    width = max(THINNEST, span.seconds / total * 100) if total > 0 else 0.0
    left = min(left, 100 - width)
    kind = span.name.replace(" ", "-")
    bar = f'<span class="{kind}" style="left:{left:.2f}%;width:{width:.2f}%"></span>'
    return (
        f'<li data-span="{escape(kind)}" title="{escape(span.about)}"><span class="name">{escape(span.name)}</span>'
        f'<span class="track" aria-hidden="true">{bar}</span>'
        f'<span class="time">{escape(duration(span.seconds))}</span></li>'
    )
