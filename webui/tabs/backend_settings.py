"""The settings on the Backend tab: all of them, drawn from their declarations, with search, source and reset.

There are far more of them than Gradio draws quickly, and a search must answer while one types. So they are rows of HTML
that a script of their own (`settings.js`) filters in the browser; what is changed goes to `SettingsSection.answer` in a
request of its own, and only the rows that are another afterwards come back.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr

from webui.context import AppContext
from webui.errors import AccessDenied, AppError, InvalidRequest
from webui.migration.archive import back_up
from webui.security import MAX_BODY, local_only
from webui.settings import Declared, Settings
from webui.settings.store import Snapshot
from webui.settings.words import HOLDS, typed, waiting
from webui.tabs.present import escape, failure_html, list_html, plural, verdict_html
from webui.tabs.settings_rows import label_of, row_html, rows_html
from webui.tabs.visible import mark_of

NAME = "settings"
SCRIPT = (Path(__file__).parent / "settings.js").read_text(encoding="utf-8")


@dataclass(frozen=True, slots=True)
class WayBack:
    """What "Undo" returns to, as long as the files are still as `after`."""

    before: Snapshot
    after: Snapshot
    count: int


def build(context: AppContext) -> None:
    """Draw the section where the caller stands."""
    SettingsSection(context).build()


class SettingsSection:
    """The section of one page. Whatever it answers, it has looked up and checked anew."""

    def __init__(self, context: AppContext) -> None:
        self.context = context
        self._way_back: WayBack | None = None

    def build(self) -> None:
        gr.HTML("<h2 class='part'>Settings</h2>")
        gr.HTML(_frame_html(self.context.page_key, local=self._local), elem_id="backend-settings", js_on_load=SCRIPT)
        self.context.page_answers[NAME] = self.answer

    async def answer(self, question: str) -> Mapping[str, Any]:
        """What the script asks: `list`, `set`, `reset`, `reset all` or `undo`, each with what belongs to it."""
        told = _read(question)
        before = self.context.settings
        try:
            said = await asyncio.to_thread(self._act, told)
        except AppError as error:
            title = "Not saved" if told.get("do") == "set" else ""
            return {"failed": failure_html(error, title=title), "key": str(told.get("key", ""))}
        settings = self.context.settings
        answer: dict[str, Any] = {"mark": _mark(settings), "undo": self._way_back is not None, "said": said}
        answer["notes"] = _notes_html(settings, self.context.started_with)
        if told.get("do") == "list":
            same = told.get("mark") == answer["mark"]
            return answer if same else {**answer, "html": rows_html(settings, local=self._local)}
        changed = [key for key in settings.keys() if _differs(settings, before, key)]  # noqa: SIM118 (not a mapping)
        touched = dict.fromkeys([*changed, *([str(told["key"])] if "key" in told else [])])
        rows = {key: row_html(settings, settings.declaration(key), local=self._local) for key in touched}
        return {**answer, "rows": rows}

    def _act(self, told: Mapping[str, Any]) -> str:
        """Do what is asked; returns what to say of it, as HTML."""
        match told.get("do"):
            case "list":
                return ""
            case "set":
                return self._set(self._declared(told), told.get("value"))
            case "reset":
                declared = self._declared(told)
                self.context.use_settings(self.context.settings_store.reset([declared.key]))
                self._way_back = None
                return self._done(declared, "has its default again")
            case "reset all":
                return self._reset_all()
            case "undo":
                return self._undo()
        raise InvalidRequest("The page asked for something unknown.", hint="Open the page again.")

    def _set(self, declared: Declared, value: Any) -> str:
        if isinstance(value, str):
            value = typed(declared, value)
        elif not isinstance(value, bool):
            raise InvalidRequest("The page sent no value.", hint="Open the page again.")
        self.context.save_settings({declared.key: value})
        self._way_back = None
        return self._done(declared, "is saved")

    def _done(self, declared: Declared, what: str) -> str:
        text = f"{label_of(declared)} {what}; it {HOLDS[declared.effect]}."
        source = self.context.settings.source(declared.key)
        if source.startswith("GGUF_") or source == "the command line":
            return verdict_html("warning", f"{text} Until the next start without it, {source} goes before.")
        return verdict_html("ok", text)

    def _reset_all(self) -> str:
        store, settings = self.context.settings_store, self.context.settings
        keys = [key for key in settings.keys() if settings.saved(key)]  # noqa: SIM118 (not a mapping)
        keys = [key for key in keys if self._allowed(settings.declaration(key))]
        backup = back_up(self.context.paths, settings, "before-reset")
        before = store.snapshot()
        self.context.use_settings(store.reset(keys))
        self._way_back = WayBack(before, store.snapshot(), len(keys))
        return verdict_html(
            "ok", f"{plural(len(keys), 'setting')} reset. What there was is kept in backups/{backup.name}."
        )

    def _undo(self) -> str:
        way = self._way_back
        if way is None:
            raise InvalidRequest("There is nothing to undo.", hint="Open the page again.")
        self._way_back = None
        self.context.use_settings(self.context.settings_store.go_back(way.before, way.after))
        return verdict_html("ok", f"{plural(way.count, 'setting')} as before.")

    def _declared(self, told: Mapping[str, Any]) -> Declared:
        """The setting that is meant. Raises where there is none, or where this visitor may not change it."""
        declared = self.context.settings.declaration(str(told.get("key", ""))[:200])
        if not self._allowed(declared):
            raise AccessDenied(
                f"{label_of(declared)} can be changed at the machine itself only.",
                cause="It concerns who may reach the server, or what runs on that machine.",
                hint=f"Use python3 app.py config set {declared.key} VALUE there.",
            )
        return declared

    def _allowed(self, declared: Declared) -> bool:
        return self._local or not (declared.protects or declared.spec.control.local)

    @property
    def _local(self) -> bool:
        return local_only(self.context.started_with)


def _read(question: str) -> dict[str, Any]:
    """The question as an object; anything else asks nothing, and is answered so."""
    try:
        told = json.loads(question)
    except (ValueError, RecursionError):
        return {}
    return told if isinstance(told, dict) else {}


def _mark(settings: Settings) -> str:
    shown = settings.shown()
    return mark_of(*(f"{key} {shown[key]} {settings.source(key)} {settings.saved(key)}" for key in shown))


def _differs(now: Settings, before: Settings, key: str) -> bool:
    return (now.value(key), now.source(key), now.saved(key)) != (
        before.value(key),
        before.source(key),
        before.saved(key),
    )


def _notes_html(settings: Settings, started_with: Settings) -> str:
    """What waits for a restart, and what in the files is wrong."""
    names = [label_of(settings.declaration(key)) for key in waiting(settings, started_with)]
    restart = [f"Start the app again for: {', '.join(names)}."] if names else []
    return list_html([*restart, *(problem.message for problem in settings.problems)], tone="warning")


def _frame_html(key: str, *, local: bool) -> str:
    """What stays while rows come and go: the search, the notes, the place of the rows, and files in and out."""
    with_secrets = (
        '<label><input type="checkbox" id="settings-export-secrets"> with login and API key</label>' if local else ""
    )
    protected = (
        '<label><input type="checkbox" id="settings-import-protected"> also what concerns this machine or who may '
        "reach it</label>"
        if local
        else ""
    )
    return (
        f'<div data-settings="{escape(key)}" data-most="{MAX_BODY}"><div class="settings-head">'
        '<input type="search" id="settings-search" placeholder="Search all settings" aria-label="Search all settings">'
        '<span id="settings-count" class="settings-count" role="status"></span>'
        '<label><input type="checkbox" id="settings-changed"> only those that were changed</label></div>'
        '<div id="settings-said" role="status"></div><div id="settings-notes"></div><div id="settings-list"></div>'
        '<div class="card-actions" id="settings-all"><button type="button" data-do="ask">Reset all settings …</button>'
        '<span class="settings-ask" hidden>Reset every setting that was saved here? '
        '<button type="button" data-do="reset all">Reset all</button> '
        '<button type="button" data-do="keep">Keep</button></span>'
        '<button type="button" data-do="undo" hidden>Undo the reset</button></div>'
        '<div class="card settings-files"><h3>Everything in one file</h3>'
        "<p>Settings, presets, what was saved for single models, and conversations.</p>"
        '<div class="card-actions"><label><input type="checkbox" id="settings-export-chats" checked> with conversations'
        f"</label>{with_secrets}"
        '<button type="button" data-do="export">Export</button></div>'
        f'<div class="card-actions">{protected}<button type="button" data-do="choose">Import …</button>'
        '<input type="file" id="settings-import-file" accept=".zip" hidden></div>'
        '<div id="settings-import" role="status"></div></div></div>'
    )
