"""Advice from the record of use on the Diagnostics tab: what it shows, with evidence, a button to act, and a dismissal.

A button carries only the mark of its advice: whatever comes back from a browser is looked up among the advice that
stands at that moment.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import gradio as gr

from webui.context import AppContext
from webui.diagnostics.use import Use, carry_out
from webui.errors import AppError, InvalidRequest
from webui.planning.record_rules import RecordAdvice
from webui.tabs.offers import link_html
from webui.tabs.present import Tone, empty_html, escape, failure_html, fold_html, list_html, verdict_html
from webui.tabs.visible import SILENT, mark_of, seen_mark, ticking, when_opened

SECONDS_BETWEEN_TICKS = 10.0
TONES: dict[int, Tone] = {1: "plain", 2: "warning", 3: "problem"}
NOTHING = "Nothing to advise. Advice comes from loads and replies, and needs some of them."
LINKS = {"repair": ("Backend", "backend-card-{}"), "check": ("Diagnostics", "diagnostics-check")}
"""Buttons that lead to another part of the page: the page's script follows them."""
PRESS = """
element.addEventListener('click', (event) => {
  const button = event.target.closest('button[data-advice]');
  if (button) trigger('select', {advice: button.dataset.advice, do: button.dataset.do});
});
"""
"""Runs in the browser: reports what was pressed."""


def build(context: AppContext, use: Use) -> None:
    """Draw the section where the caller stands."""
    gr.HTML("<h2 class='part'>Advice</h2>")
    message = gr.HTML(elem_id="diagnostics-advice-message", elem_classes="may-be-empty")
    shown = gr.HTML(empty_html(NOTHING), js_on_load=PRESS, elem_id="diagnostics-advice")
    seen = seen_mark("diagnostics-advice")

    async def look(before: str) -> tuple[object, object]:
        html = advice_html(await asyncio.to_thread(use.advice))
        now = mark_of(html)
        return (gr.skip(), gr.skip()) if now == before else (html, now)

    async def press(event: gr.EventData) -> tuple[str, str, str]:
        mark, doing = str(getattr(event, "advice", "")), str(getattr(event, "do", ""))
        try:
            said = f'<p class="done" role="status">{escape(await _do(context, use, mark, doing))}</p>'
        except AppError as error:
            said = failure_html(error, title="Not done")
        html = advice_html(await asyncio.to_thread(use.advice))
        return said, html, mark_of(html)

    ticking(SECONDS_BETWEEN_TICKS, "Diagnostics").tick(look, seen, [shown, seen], queue=False, **SILENT)
    when_opened(look, [shown, seen], [seen])
    shown.select(press, None, [message, shown, seen], concurrency_limit=None, trigger_mode="multiple", **SILENT)


async def _do(context: AppContext, use: Use, mark: str, doing: str) -> str:
    standing = await asyncio.to_thread(use.advice)
    advice = next((one for one in standing if mark_of(one.key) == mark), None)
    if advice is None:
        raise InvalidRequest("This advice no longer holds.", hint="Look at what the page says now.")
    if doing == "dismiss":
        context.metrics.dismiss(advice.key, advice.size)
        return "Dismissed: it comes back only if it becomes clearly worse."
    if advice.act is None or doing != "act":
        raise InvalidRequest("The page asked for something unknown.", hint="Open the page again.")
    facts = await asyncio.to_thread(context.catalogue.find, advice.act.model)
    return await carry_out(context, advice.act, facts)


def advice_html(found: Sequence[RecordAdvice]) -> str:
    """Each piece of advice with its evidence folded and its buttons."""
    if not found:
        return empty_html(NOTHING)
    return f'<ul class="record-advice">{"".join(_one(advice) for advice in found)}</ul>'


def _one(advice: RecordAdvice) -> str:
    mark = mark_of(advice.key)
    evidence = fold_html("Evidence", list_html(advice.evidence), key=f"advice-{mark}", kind="evidence")
    return (
        f'<li data-rule="{escape(advice.rule)}">{verdict_html(TONES[advice.weight], advice.sentence)}{evidence}'
        f'<div class="offers">{_act(advice, mark)}{_button(mark, "dismiss", "Dismiss")}</div></li>'
    )


def _act(advice: RecordAdvice, mark: str) -> str:
    act = advice.act
    if act is None:
        return ""
    if act.kind in LINKS:
        tab, where = LINKS[act.kind]
        return link_html(tab, where.format(act.loader), act.label, place=f"advice-{mark}")
    return _button(mark, "act", act.label)


def _button(mark: str, doing: str, label: str) -> str:
    return (
        f'<button type="button" id="advice-{mark}-{doing}" data-advice="{mark}" data-do="{doing}">'
        f"{escape(label)}</button>"
    )
