"""The Chat tab: conversations on the left, one column of text, the panel on the right.

This file draws and wires; what happens is in `chat_replies`, what the panel holds in `chat_panel`, and how a
conversation looks in `chat_transcript` and `chat_list`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import gradio as gr

from webui.context import AppContext
from webui.models.facts import ModelFacts
from webui.models.inspect import model_id
from webui.pool import PoolState
from webui.tabs.chat_list import LIST_SCRIPT
from webui.tabs.chat_panel import QUIET, Panel, Seat, fresh_seat
from webui.tabs.chat_replies import Parts, Replies
from webui.tabs.chat_transcript import LATEX
from webui.tabs.chat_words import ACTIONS_SCRIPT, load_again
from webui.tabs.present import escape, failure_html, monitor_html, quantity
from webui.tabs.status import reply_html
from webui.tabs.visible import ticking

SUGGESTIONS = (
    "Explain in simple words why the sky is blue.",
    "Write a short, friendly e-mail that moves a meeting to Friday.",
    "Give me a Python function that counts the words of a text.",
)
IDLE_SECONDS = 2.0
EMPTY_SCRIPT = """
element.addEventListener('click', (event) => {
  const button = event.target.closest('[data-say]');
  if (button) trigger('click', {say: button.dataset.say});
});
"""
READ_CHAT = "(seat, chat) => [seat, window.ggufPage.chat()]"
KEEP_CHAT = "(chat) => { window.ggufPage.keepChat(chat); }"
FOLD = "() => { window.ggufPage.fold('%s'); }"


@dataclass(frozen=True)
class Buttons:
    """The buttons of the column. Which of them show follows from the style sheet, not from updates."""

    send: gr.Button
    stop: gr.Button
    regenerate: gr.Button
    resume: gr.Button
    undo: gr.Button


def build(context: AppContext) -> None:
    """Draw the tab inside the caller's `gr.Tab` and wire it."""
    seat = gr.State(fresh_seat(context))
    with gr.Row(elem_id="chat-tab", equal_height=False):
        with gr.Column(elem_id="chat-side", min_width=0):
            with gr.Row(elem_id="chat-side-head"):
                search = gr.Textbox(
                    placeholder="Search",
                    label="Search conversations",
                    show_label=False,
                    container=False,
                    elem_id="chat-search",
                )
                new = gr.Button("New", size="sm", elem_id="chat-new", min_width=60)
            listing = gr.HTML(js_on_load=LIST_SCRIPT, elem_id="chat-list", apply_default_css=False)
        with gr.Column(elem_id="chat-main", min_width=0):
            parts, buttons = _draw_column(context, listing)
        panel = Panel(context, seat, parts.chat_id)
    replies = Replies(context, parts, panel, lambda: empty_html(context))
    _wire(context, replies, parts, panel, seat, new, buttons)
    search.input(
        replies.search,
        [seat, parts.chat_id, search],
        listing,
        trigger_mode="always_last",
        queue=False,
        **QUIET,
    )


def empty_html(context: AppContext) -> str:
    """What stands where a conversation will be: things to try, or how to get a model."""
    status = context.pool.status
    if status.state in (PoolState.EMPTY, PoolState.FAILED):
        text = "No model is loaded yet." if status.state is PoolState.EMPTY else "The model could not be loaded."
        text = status.set_aside or text
        # A model that was tried and failed is explained on the top line; these came before any was tried.
        why = "".join(failure_html(problem) for problem in context.startup_problems)
        return (
            f'<div class="empty-chat"><h2>{text}</h2>{why}'
            '<button type="button" class="go" data-act="go-model">Choose a model</button></div>'
        )
    facts = status.facts or status.incoming
    about = f"<p>{escape(_about(facts))}</p>" if facts is not None else ""
    buttons = "".join(
        f'<button type="button" data-say="{escape(text)}">{escape(text)}</button>' for text in SUGGESTIONS
    )
    return f'<div class="empty-chat"><h2>What would you like to know?</h2>{about}<div class="try">{buttons}</div></div>'


def _about(facts: ModelFacts) -> str:
    """What a model of this size is good for, in one sentence."""
    count = facts.parameter_count
    if count is None:
        return f"{model_id(facts)} is loaded."
    if count < 1_000_000_000:
        use = "quick and small: for trying things out, short texts and simple questions. It is often wrong about facts"
    elif count < 5_000_000_000:
        use = "good for everyday questions, summaries and short programs"
    elif count < 20_000_000_000:
        use = "good for writing, reasoning in steps and programming"
    else:
        use = "good for long and difficult work"
    return f"{model_id(facts)} has {quantity(count)} parameters: {use}."


def _draw_column(context: AppContext, listing: gr.HTML) -> tuple[Parts, Buttons]:
    chat_id = gr.Textbox(visible="hidden", elem_id="chat-id", container=False)
    key = gr.Textbox(visible="hidden", elem_id="chat-key", container=False)
    with gr.Row(elem_id="chat-folds"):
        for name, label in (("list", "Conversations"), ("panel", "Settings")):
            fold = gr.Button(label, size="sm", elem_id=f"chat-fold-{name}", min_width=0)
            fold.click(None, js=FOLD % name, **QUIET)
    with gr.Column(elem_id="chat-scroll", min_width=0):
        empty = gr.HTML(js_on_load=EMPTY_SCRIPT, elem_id="chat-empty", apply_default_css=False)
        earlier = gr.Button("Show earlier messages", visible=False, size="sm", elem_id="chat-earlier")
        log = gr.Chatbot(
            elem_id="chat-log",
            label="Conversation",
            show_label=False,
            container=False,
            height=None,
            autoscroll=False,
            editable="all",
            buttons=["copy"],
            layout="panel",
            latex_delimiters=LATEX,
            group_consecutive_messages=False,
            feedback_options=None,
            allow_tags=False,
        )
        question = gr.HTML(js_on_load=ACTIONS_SCRIPT, elem_id="chat-question", apply_default_css=False)
        live = gr.Markdown(elem_id="chat-live", latex_delimiters=LATEX, line_breaks=True)
        with gr.Row(elem_id="chat-actions"):
            regenerate = gr.Button("Regenerate", size="sm", elem_id="chat-regenerate", min_width=0)
            resume = gr.Button("Continue", size="sm", elem_id="chat-continue", min_width=0)
            undo = gr.Button("Undo", size="sm", elem_id="chat-undo", min_width=0)
    with gr.Row(elem_id="chat-ask"):
        message = gr.Textbox(
            placeholder="Message",
            label="Message",
            show_label=False,
            container=False,
            lines=1,
            max_lines=12,
            autofocus=True,
            scale=1,
            elem_id="chat-message",
        )
        send = gr.Button("Send", variant="primary", elem_id="chat-send", scale=0, min_width=80)
        stop = gr.Button("Stop", variant="stop", elem_id="chat-stop", scale=0, min_width=80)
    status = gr.HTML(reply_html(context.pool.status), elem_id="chat-status", apply_default_css=False)
    gr.HTML(monitor_html(context.page_key), elem_id="chat-load", apply_default_css=False)
    parts = Parts(chat_id, key, listing, empty, earlier, log, question, live, message, status)
    return parts, Buttons(send, stop, regenerate, resume, undo)


def _wire(
    context: AppContext, replies: Replies, parts: Parts, panel: Panel, seat: gr.State, new: gr.Button, buttons: Buttons
) -> None:
    """Each event with the few inputs it needs. The pool's scheduler arbitrates replies, not Gradio's queue."""
    where = [seat, parts.chat_id]
    shown = parts.outputs()
    everything = [*shown, *panel.components]
    reply: dict[str, Any] = {**QUIET, "concurrency_limit": None, "trigger_mode": "multiple"}
    quick: dict[str, Any] = {**QUIET, "queue": False}

    gr.on([parts.message.submit, buttons.send.click], replies.send, [*where, parts.message], shown, **reply)
    buttons.regenerate.click(replies.regenerate, where, shown, **reply)
    buttons.resume.click(replies.continue_reply, where, shown, **reply)
    parts.log.option_select(replies.choose, where, shown, **reply)
    parts.log.edit(replies.edit, where, shown, **reply)
    buttons.undo.click(replies.undo, where, shown, **reply)
    buttons.stop.click(replies.stop, where, None, **quick)
    ticking(IDLE_SECONDS, "Chat").tick(replies.idle, where, [parts.empty, parts.log, parts.status], **quick)
    parts.earlier.click(replies.show_earlier, where, [parts.log, parts.earlier], **quick)

    async def say(seat: Seat, chat_id: str, event: gr.EventData) -> Any:
        async for updates in replies.send(seat, chat_id, str(event.say)):
            yield updates

    async def load_lost() -> AsyncIterator[str]:
        async for words in load_again(context.pool):
            yield words

    async def start_new(seat: Seat) -> Any:
        async for updates in replies.open(seat, ""):
            yield updates

    parts.question.click(load_lost, None, parts.question, **reply)
    parts.empty.click(say, where, shown, **reply)
    new.click(start_new, seat, everything, **reply)
    parts.listing.click(replies.list_click, where, everything, **reply)
    parts.chat_id.change(None, parts.chat_id, js=KEEP_CHAT, **QUIET)
    page = gr.context.Context.root_block
    if page is not None:
        page.load(replies.open, where, everything, js=READ_CHAT, **reply)
