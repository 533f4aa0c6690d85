"""A conversation as the Chatbot component wants it, and a reply in the making as Markdown: pure functions.

A stored message can become several rows (its reasoning, its text, a note about how it ended); every row remembers the
message it came from, because the page speaks of rows by their number and the store of messages by their id.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from webui.chat.conversations import Message
from webui.chat.recovery import died
from webui.errors import AppError, Cancelled
from webui.tabs.present import escape, failure_html, list_html, verdict_html

LATEX: list[dict[str, str | bool]] = [
    {"left": "$$", "right": "$$", "display": True},
    {"left": "\\[", "right": "\\]", "display": True},
    {"left": "\\(", "right": "\\)", "display": False},
    {"left": "$", "right": "$", "display": False},
]

CONTINUE, RETRY = "Continue", "Retry"
"""The buttons of a reply that failed."""

_GUARD = "\u200b"
_OPEN, _CLOSE = "<think>", "</think>"
_REMOTE_IMAGE = re.compile(r"!\[(?=[^\]\n]*\]\(\s*<?(?:https?:)?//)")
_REASONING = re.compile(r"^\s*<think>(?P<thought>.*?)(?P<end></think>|$)(?P<text>.*)$", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Row:
    """One entry of the Chatbot: what it shows, and which part of which message that is."""

    message_id: str
    part: Literal["text", "reasoning", "note"]
    shown: dict[str, Any]


def rows_of(messages: Sequence[Message], limit: int) -> tuple[list[Row], int]:
    """The rows of the last `limit` messages, and how many messages before them are not shown."""
    hidden = max(0, len(messages) - limit)
    rows = [row for message in messages[hidden:] for row in _rows(message)]
    if rows and (options := _options(messages[-1])):
        rows[-1].shown["options"] = options
    return rows, hidden


def split_reasoning(text: str) -> tuple[str, str, bool]:
    """What the model thought, what it said, and whether the thought is complete. No thought gives an empty one."""
    # Some templates open the thought in the prompt, so that the reply holds its end only.
    if _CLOSE in text and _OPEN not in text:
        text = _OPEN + text
    found = _REASONING.match(text)
    if found is None:
        return "", text, True
    return found["thought"].strip(), found["text"].lstrip(), bool(found["end"])


def live_markdown(text: str) -> str:
    """A reply that is still growing: its reasoning folded, the rest as it stands."""
    thought, said, complete = split_reasoning(_without_images(text))
    if not thought:
        return said
    title, state = ("Reasoning", "") if complete else ("Thinking …", " open")
    return f'<details class="reasoning"{state}><summary>{title}</summary>\n\n{thought}\n\n</details>\n\n{said}'


def question_html(text: str) -> str:
    """The user's message while its reply is being made, as the Chatbot will show it afterwards."""
    return f'<div class="question">{escape(text)}</div>'


def note_html(message: Message) -> str:
    """How a reply ended, if not by itself (stopped, or failed: cause and remedy), and what was done about it."""
    notes = list_html(message.notes)
    if message.error is not None:
        error = AppError.from_dict(message.error)
        error.hint = _next_step(error, begun=bool(message.content))
        title = "The reply broke off" if message.content else "There is no reply"
        return failure_html(error, title=title, tone="warning" if isinstance(error, Cancelled) else "problem") + notes
    if message.partial:
        return verdict_html("warning", "Stopped here. Continue goes on from this point.") + notes
    return notes


def _next_step(error: AppError, *, begun: bool) -> str:
    """What to do about a failed reply: first what can be done right here."""
    here = f"{CONTINUE} goes on from here, {RETRY} asks again." if begun else f"{RETRY} asks again."
    if isinstance(error, Cancelled):
        return here
    if died(error):
        return f"{here} If it happens again, choose another loader on the Model tab."
    return f"{here} {error.hint}".strip()


def _options(message: Message) -> list[dict[str, str]]:
    """The buttons of a reply that failed: what they do is the value."""
    if message.role != "assistant" or message.error is None:
        return []
    names = (CONTINUE, RETRY) if message.content else (RETRY,)
    return [{"value": name} for name in names]


def show_literally(text: str) -> str:
    """The user's text as Markdown in which `<` never begins HTML. `read_literally` is the inverse.

    A zero-width space behind `<` keeps a browser from reading a tag; an entity would be shown as such in code and when
    the message is edited.
    """
    return _without_images(text.replace("<", "<" + _GUARD))


def read_literally(text: str) -> str:
    """What a person means who edited a text as it was shown."""
    return text.replace("<" + _GUARD, "<").replace("!" + _GUARD, "!")


def _without_images(text: str) -> str:
    """Pictures of other hosts become links: the page asks no other host for anything, so they could not be shown."""
    return _REMOTE_IMAGE.sub("!" + _GUARD + "[", text)


def _rows(message: Message) -> list[Row]:
    if message.role == "user":
        return [Row(message.id, "text", {"role": "user", "content": show_literally(message.content)})]
    rows = []
    thought, said, _ = split_reasoning(_without_images(message.content))
    if thought:
        shown = {"role": "assistant", "content": thought, "metadata": {"title": "Reasoning", "status": "done"}}
        rows.append(Row(message.id, "reasoning", shown))
    note = note_html(message)
    if said or not (thought or note):
        rows.append(Row(message.id, "text", {"role": "assistant", "content": said or "*(an empty reply)*"}))
    if note:
        rows.append(Row(message.id, "note", {"role": "assistant", "content": note}))
    return rows
