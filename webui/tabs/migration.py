"""Settings of the older app: a dialog that offers them when the page is opened, and their part of the Backend tab.

Both show the plan as a table, value by value, before anything is done, and the result with the way back after it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import gradio as gr

from webui.context import AppContext
from webui.errors import AppError, InvalidRequest
from webui.migration.backup import Backup
from webui.migration.plan import Line, Outcome, Plan
from webui.tabs.present import date, empty_html, escape, failure_html, place, plural
from webui.tabs.visible import SILENT, when_opened

MOST_ROWS = 300
QUIET: dict[str, Any] = {"queue": False, **SILENT}

DIALOG = """
const show = () => {
  const dialog = element.querySelector('dialog');
  if (!dialog || dialog.open) return;
  dialog.addEventListener('cancel', (event) => { event.preventDefault(); send(dialog.dataset.escape); });
  dialog.showModal();
};
const send = (action) => {
  for (const button of element.querySelectorAll('button')) button.disabled = true;
  trigger('select', {action});
};
element.addEventListener('click', (event) => {
  const button = event.target.closest('button[data-action]');
  if (button) send(button.dataset.action);
});
watch('value', show);
show();
"""
"""Runs in the browser: shows a dialog that has been drawn, and reports the button that was pressed, once."""

SECTION = """
element.addEventListener('click', (event) => {
  const button = event.target.closest('button[data-action]');
  if (!button) return;
  for (const other of element.querySelectorAll('button')) other.disabled = true;
  trigger('select', {action: button.dataset.action});
});
"""

Buttons = tuple[tuple[str, str], ...]
ANSWERS: Buttons = (("carry", "Carry over"), ("later", "Not now"), ("never", "Never ask"))
DONE: Buttons = (("undo", "Undo"), ("close", "Close"))
INSIST: Buttons = (("undo-all-the-same", "Undo all the same"), ("close", "Close"))
CLOSE: Buttons = (("close", "Close"),)


def build_dialog(context: AppContext) -> None:
    """The dialog, for the page as a whole. Asked for each time the page is opened, until somebody answers."""
    dialog = gr.HTML("", elem_id="migration-dialog", elem_classes="may-be-empty", js_on_load=DIALOG)

    async def offer() -> str:
        try:
            plan = await asyncio.to_thread(context.migrations.offer)
        except AppError:  # settings that cannot be read: the checks speak of them
            return ""
        return "" if plan is None else dialog_html(question_html(plan), ANSWERS)

    async def act(event: gr.EventData) -> str:
        found = await _act(context, str(getattr(event, "action", "")))
        return dialog_html(found.html, found.buttons) if found else ""

    when_opened(offer, dialog)
    dialog.select(act, None, dialog, **QUIET)


def build_section(context: AppContext) -> None:
    """The part of the Backend tab: look for older settings at any time, and undo what was carried over."""
    gr.HTML("<h2 class='part'>Settings of the older app</h2>")
    section = gr.HTML(empty_html("Not looked for yet."), elem_id="backend-migration", js_on_load=SECTION)

    async def opened() -> str:
        return section_html(await asyncio.to_thread(context.migrations.latest))

    async def act(event: gr.EventData) -> str:
        action = str(getattr(event, "action", ""))
        if action == "look":
            plan = await asyncio.to_thread(context.migrations.look)
            buttons: Buttons = (ANSWERS[0], *CLOSE) if plan.effects else CLOSE
            return question_html(plan) + buttons_html(buttons)
        found = await _act(context, action)
        return found.html + buttons_html(found.buttons) if found else await opened()

    when_opened(opened, section)
    section.select(act, None, section, **QUIET)


@dataclass(frozen=True, slots=True)
class Answer:
    """What an action led to, and what can be done next."""

    html: str
    buttons: Buttons


async def _act(context: AppContext, action: str) -> Answer | None:
    """Do what a button asks for; None where there is nothing more to say. The browser's word is checked."""
    known: dict[str, Callable[[], Answer | None]] = {
        "carry": lambda: _carry(context),
        "undo": lambda: _undo(context, force=False),
        "undo-all-the-same": lambda: _undo(context, force=True),
        "later": lambda: context.migrations.later(),
        "never": lambda: context.migrations.never(),
        "close": lambda: None,
    }
    try:
        if action not in known:
            raise InvalidRequest("The page asked for something unknown.", hint="Open the page again.")
        return await asyncio.to_thread(known[action])
    except AppError as error:
        insist = error.code == "changed_since_migration"
        return Answer(failure_html(error), INSIST if insist else CLOSE)


def _carry(context: AppContext) -> Answer:
    done = context.migrations.carry_over()
    return Answer(done_html(done.backup, done.notes, context.paths.migration_log.name), DONE)


def _undo(context: AppContext, *, force: bool) -> Answer:
    undone = context.migrations.undo(force=force)
    sentence = f"Undone: {plural(len(undone.written), 'file')} as before. The older files were never changed."
    return Answer(f'<p class="done" data-migration="undone">{escape(sentence)}</p>', CLOSE)


# What is shown


def dialog_html(content: str, buttons: Buttons) -> str:
    """A dialog; Escape means its last button but one where it asks, and its last otherwise."""
    escape_to = "later" if ("later", "Not now") in buttons else "close"
    return (
        f'<dialog class="migration" aria-label="Settings of the older app" data-escape="{escape_to}">'
        f'<h2 tabindex="-1" autofocus>Settings of the older app</h2>{content}{buttons_html(buttons)}</dialog>'
    )


def buttons_html(buttons: Buttons) -> str:
    shown = "".join(f'<button type="button" data-action="{action}">{label}</button>' for action, label in buttons)
    return f'<div class="migration-buttons">{shown}</div>'


def section_html(latest: Backup | None) -> str:
    """What was carried over last, and the button that looks for more."""
    look: Buttons = (("look", "Look for older settings"),)
    if latest is None:
        return empty_html("Nothing has been carried over.") + buttons_html(look)
    sentence = f"On {date(latest.started_at)} {plural(latest.counts.get('carried', 0), 'value')} came over."
    return f'<p class="done">{escape(sentence)}</p>' + buttons_html((*look, ("undo", "Undo it")))


def question_html(plan: Plan) -> str:
    """What would be done, value by value."""
    if not plan.sources:
        return empty_html("No older files were found.")
    carried = plan.count(Outcome.CARRIED)
    files = "".join(
        f"<li>{escape(place(source.file))} <span class='source'>({escape(source.form)})</span>"
        + (f" <span class='source'>{escape(source.problem)}</span>" if source.problem else "")
        + "</li>"
        for source in plan.sources
    )
    what = f"{carried:,} of {plural(len(plan.lines), 'value')} can be carried over."
    first = " What an earlier file says goes before a later one." if len(plan.sources) > 1 else ""
    safe = "All files are copied first, the older ones stay as they are, and it can be undone."
    return (
        f'<p data-migration="plan">{escape(what)}{first} {safe}</p><ol class="migration-files">{files}</ol>'
        f"{table_html(plan)}"
    )


def table_html(plan: Plan) -> str:
    """What comes over, then the rest; each in the order of the files."""
    ordered = sorted(plan.lines, key=lambda line: line.outcome is not Outcome.CARRIED)
    rows = "".join(_row_html(line) for line in ordered[:MOST_ROWS])
    left = len(ordered) - MOST_ROWS
    more = (
        f'<p class="aside">{plural(left, "more value")}: python3 app.py migrate --dry-run --json</p>'
        if left > 0
        else ""
    )
    head = "".join(f"<th>{title}</th>" for title in ("From", "To", "How, or why not"))
    return (
        '<div class="migration-plan" tabindex="0" role="region" aria-label="The plan"><table>'
        f"<thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>{more}</div>"
    )


def done_html(backup: Backup, notes: tuple[str, ...], log_name: str) -> str:
    """What was done, what does not hold at once, and where to read of it."""
    said = f"{plural(backup.counts.get('carried', 0), 'value')} came over. logs/{log_name} tells what became of each."
    models = "What concerns backends holds from the next load."
    lines = "".join(f"<li>{escape(line)}</li>" for line in (models, *notes))
    return f'<p class="done" data-migration="done">{escape(said)}</p><ul class="sentences">{lines}</ul>'


def _row_html(line: Line) -> str:
    name = f"{line.name} = {line.shown()}" if line.name else "the whole file"
    to = "<br>".join(escape(target.text()) for target in line.targets) or escape(line.outcome)
    return (
        f'<tr data-outcome="{line.outcome.name.lower()}" data-key="{escape(line.name)}">'
        f'<td><span class="source">{escape(line.file.name)}</span> {escape(name)}</td>'
        f"<td>{to}</td><td>{escape(line.why())}</td></tr>"
    )
