"""The rows of the settings: one for each declaration, by section. Pure functions."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import Any

from webui.settings import Declared, Settings
from webui.settings.words import HOLDS, written
from webui.tabs.present import escape, plural

GENERAL = "general"
MACHINE_ONLY = "can be changed at the machine itself only"


def rows_html(settings: Settings, *, local: bool) -> str:
    """All settings, a folded part for each section."""
    declared = [settings.declaration(key) for key in settings.keys()]  # noqa: SIM118 (not a mapping)
    return "".join(
        _section_html(section, settings, list(items), local=local) for section, items in groupby(declared, section_of)
    )


def section_of(declared: Declared) -> str:
    """The part of the file that a key stands in: `limits`, `loaders.xllamacpp`."""
    return declared.key.rpartition(".")[0] or GENERAL


def label_of(declared: Declared) -> str:
    """What a person calls it: "Queue length", and a backend's with the backend's name."""
    section = section_of(declared)
    owner = f" of {section.removeprefix('loaders.')}" if section.startswith("loaders.") else ""
    return f"{declared.spec.control.label}{owner}"


def row_html(settings: Settings, declared: Declared, *, local: bool) -> str:
    """One setting: what it is, its value, where that comes from, and the way back to the default."""
    control, key = declared.spec.control, declared.key
    here = local or not (declared.protects or control.local)
    unit = f" ({escape(control.unit)})" if control.unit else ""
    saved = settings.saved(key)
    reset = (
        f'<button type="button" data-do="reset" aria-label="Reset {escape(control.label)}">Reset</button>'
        if saved and here
        else ""
    )
    place = "" if here else f" · {MACHINE_ONLY}"
    return (
        f'<div class="setting" data-key="{escape(key)}" data-words="{escape(_words(settings, declared))}"'
        f"{' data-changed' if settings.given(key) else ''}>"
        f'<div class="setting-what"><label for="{_id(key)}">{escape(control.label)}{unit}</label> '
        f"<code>{escape(key)}</code><p>{escape(control.help)}</p></div>"
        f'<div class="setting-value">{_field(settings, declared, usable=here)}</div>'
        f'<div class="setting-source"><span class="source">{escape(settings.source(key))}</span> · '
        f"{HOLDS[declared.effect]}{place} {reset}</div>"
        '<div class="setting-failed" role="alert"></div></div>'
    )


def _section_html(section: str, settings: Settings, items: Sequence[Declared], *, local: bool) -> str:
    rows = "".join(row_html(settings, declared, local=local) for declared in items)
    changed = sum(settings.given(declared.key) for declared in items)
    count = plural(len(items), "setting") + (f", {changed} changed" if changed else "")
    return (
        f'<details class="settings-section" data-section="{escape(section)}"><summary>{escape(section)} '
        f'<span class="settings-count">{count}</span></summary>{rows}</details>'
    )


def _words(settings: Settings, declared: Declared) -> str:
    """What the search looks in. A secret's value is nowhere on the page."""
    value = "" if declared.secret else written(settings.value(declared.key))
    control = declared.spec.control
    return f"{declared.key} {control.label} {control.help} {value} {settings.source(declared.key)}".casefold()


def _field(settings: Settings, declared: Declared, *, usable: bool) -> str:
    """The field that fits the kind of value; whether what is typed is allowed is for the declaration to say."""
    spec, value = declared.spec, settings.value(declared.key)
    common = f'id="{_id(declared.key)}" data-field title="{escape(declared.allowed())}"{"" if usable else " disabled"}'
    if spec.kind == "bool" and not spec.optional:
        return f'<input type="checkbox" {common}{" checked" if value else ""}>'
    if spec.kind in ("choice", "bool"):
        choices = ["true", "false"] if spec.kind == "bool" else list(spec.choices)
        chosen = written(value)
        options = "".join(_option(choice, chosen) for choice in ([""] if spec.optional else []) + choices)
        return f"<select {common}>{options}</select>"
    if declared.secret:
        state = "set; type a new one to change it" if value else "not set"
        return f'<input type="password" autocomplete="off" {common} placeholder="{state}">'
    if spec.control.lines > 1:
        return f'<textarea rows="{spec.control.lines}" {common}>{escape(written(value))}</textarea>'
    numeric = ' inputmode="decimal"' if spec.kind in ("int", "float") else ""
    return (
        f'<input type="text" {common}{numeric} value="{escape(written(value))}" placeholder="{_empty(spec.default)}">'
    )


def _option(choice: str, chosen: str) -> str:
    selected = " selected" if choice == chosen else ""
    return f'<option value="{escape(choice)}"{selected}>{escape(choice) or "not set"}</option>'


def _empty(default: Any) -> str:
    return escape(written(default)) or "empty"


def _id(key: str) -> str:
    return "setting-" + escape(key.replace(".", "-").replace("_", "-"))
