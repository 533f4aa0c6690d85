"""Settings in words: what the page and the command say of a value, its source, and when a change holds."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from webui.settings.declared import HIDDEN, Declared, plain
from webui.settings.groups import Effect
from webui.settings.model import Settings

HOLDS = {
    Effect.NOW: "holds now",
    Effect.NEXT_LOAD: "holds from the next load of a model",
    Effect.RESTART: "holds from the next start of the app",
}


def written(value: Any) -> str:
    """A value as one line that can be typed as well: `8192`, `true`, `a, b`, and nothing for an empty one."""
    value = plain(value)
    if value is None:
        return ""
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def shown(settings: Settings, declared: Declared) -> str:
    """The value of a key for people: a secret is hidden, and an empty value said to be empty."""
    value = settings.value(declared.key)
    if declared.secret and value:
        return HIDDEN
    return written(value) or ("nothing" if value is None else "empty")


def typed(declared: Declared, text: str) -> Any:
    """The value that somebody means who types `text`, before it is checked."""
    if declared.spec.optional and not text.strip():
        return None
    return text if declared.spec.kind in ("text", "list") else text.strip()


def matching(settings: Settings, words: Iterable[str]) -> list[Declared]:
    """The settings in whose key, label, help or value every one of `words` occurs."""
    wanted = [word.casefold() for word in words]
    found = []
    for key in settings.keys():  # noqa: SIM118 (not a mapping)
        declared = settings.declaration(key)
        control = declared.spec.control
        value = "" if declared.secret else written(settings.value(key))
        text = f"{key} {control.label} {control.help} {value}".casefold()
        if all(word in text for word in wanted):
            found.append(declared)
    return found


def changed(settings: Settings) -> list[Declared]:
    """The settings that somebody gave a value."""
    return [
        settings.declaration(key)
        for key in settings.keys()  # noqa: SIM118 (not a mapping)
        if settings.given(key)
    ]


def waiting(now: Settings, started_with: Settings) -> list[str]:
    """The keys that were changed since the start and hold from the next one."""
    return [
        key
        for key in now.keys()  # noqa: SIM118 (not a mapping)
        if now.declaration(key).effect is Effect.RESTART and now.value(key) != started_with.value(key)
    ]
