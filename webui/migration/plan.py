"""A plan: one line for every older value, saying where it goes or why it goes nowhere, and what is to be written."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

from webui.chat.carried import CarriedChat

Key = tuple[str | int, ...]
"""The way to a value in a file: names of objects and places in lists."""

HIDDEN = "********"
SECRET = re.compile(r"(?i)(api[-_]?key|token|secret|passw|credential|authoriz|bearer|^auth$|^pwd$)")
NOT_SECRET = re.compile(r"(?i)(max_?(new_?)?tokens|tokens$|tokens_per|tokenizer|token_(id|type|count))")
SHAPE = re.compile(
    r"(?<=://)[^/\s@]+(?=@)|(?<=[?&])(?i:(?:api_?)?key|(?:access_)?token|auth|sig)=[^&\s]+|"
    r"\b(?:hf_|sk-|gh[pousr]_|github_pat_)[\w-]{16,}"
)
"""A login in an address, or a key itself, whatever it is called."""
OPTION = re.compile(r"(--?[A-Za-z][\w-]*(?:\s+|=))([^\s-]\S*)")
"""An option and the value behind it, in a line of arguments."""
LONGEST_SHOWN = 160


class Outcome(StrEnum):
    """What becomes of a value. `SAME` is one that holds already, by default or because it was set so."""

    CARRIED = "carried over"
    SAME = "already so"
    LEFT = "not carried over"


@dataclass(frozen=True, slots=True)
class Wish:
    """What one older value asks for: `value` for the setting `key`, or for one `item` of what `key` holds.

    Where several ask for the same, files earlier in the order go first, and within one file the smaller `rank`. `how`
    says what was done to the value, where anything was.
    """

    key: str
    value: Any
    rank: int = 5
    item: str = ""
    how: str = ""


@dataclass(frozen=True, slots=True)
class Finding:
    """What the rules make of one value: its wishes, or why there are none, or both."""

    wishes: tuple[Wish, ...] = ()
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Entry:
    """One older value with what it asks for."""

    file: Path
    key: Key
    value: Any
    finding: Finding


@dataclass(frozen=True, slots=True)
class Target:
    """Where a value goes."""

    key: str
    value: Any
    item: str = ""

    def text(self) -> str:
        """`backends.gpu_enabled = false`"""
        return f"{self.key} = {shown_value(self.key, self.value)}"

    def logged(self) -> str:
        """The same for a log, where nothing that somebody wrote stands."""
        return f"{self.key} = {logged_value(self.key, self.value)}"


@dataclass(frozen=True, slots=True)
class Line:
    """One older value: from (`file`, `key`, `value`) → to (`targets`, `how`), or why not (`reason`).

    A value that goes to several places may be carried to some of them; `reason` then speaks of the others. An empty
    `key` stands for the whole file.
    """

    file: Path
    key: Key
    value: Any
    outcome: Outcome
    targets: tuple[Target, ...] = ()
    how: str = ""
    reason: str = ""

    @property
    def name(self) -> str:
        return key_text(self.key)

    def shown(self) -> str:
        """The value as it may be shown and logged: short, and no secret."""
        return shown_value(self.name, self.value)

    def logged(self) -> str:
        """The value for a log, where nothing that somebody wrote stands."""
        return logged_value(self.name, self.value)

    def why(self) -> str:
        """How it was converted, or why it was not: whatever there is to say."""
        return "; ".join(filter(None, (self.how, self.reason)))

    def to_dict(self) -> dict[str, Any]:
        """As JSON, secrets hidden."""
        return {
            "file": str(self.file),
            "key": self.name,
            "value": self.shown(),
            "outcome": self.outcome.value,
            "to": [
                {"key": target.key, "value": shown_value(target.key, target.value)}
                | ({"item": target.item} if target.item else {})
                for target in self.targets
            ],
            "how": self.how,
            "reason": self.reason,
        }


@dataclass(frozen=True, slots=True)
class Effects:
    """What is to be written. `settings` are dotted keys, `sampling` what the preset `preset` says beyond its base.

    `new_form` says that `backend_config.json` holds an older form and is written anew.
    """

    settings: Mapping[str, Any] = field(default_factory=dict)
    sampling: Mapping[str, Any] = field(default_factory=dict)
    preset: str = ""
    chats: tuple[CarriedChat, ...] = ()
    speeds: tuple[Mapping[str, Any], ...] = ()
    new_form: bool = False

    def __bool__(self) -> bool:
        return bool(self.settings or self.sampling or self.chats or self.speeds or self.new_form)


@dataclass(frozen=True, slots=True)
class Source:
    """A file that was looked at, in the order of precedence. `problem` is why nothing could be read from it."""

    file: Path
    form: str
    problem: str = ""


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything that a migration would do."""

    sources: tuple[Source, ...]
    lines: tuple[Line, ...]
    effects: Effects

    def count(self, outcome: Outcome) -> int:
        return sum(line.outcome is outcome for line in self.lines)

    def of(self, file: Path) -> Iterator[Line]:
        return (line for line in self.lines if line.file == file)


def key_text(key: Key) -> str:
    """`backend_configs.llamafile.custom_args[2]`; "" for the whole file."""
    text = ""
    for part in key:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text


def shown_value(name: str, value: Any) -> str:
    """`value` on one short line; hidden where its name says that it is a secret."""
    leaf = re.sub(r"\[\d+\]$", "", name).rpartition(".")[2]
    if value not in (None, "") and _is_secret(leaf):
        return HIDDEN
    value = _without_secrets(value)
    text = value if isinstance(value, str) and value else json.dumps(value, ensure_ascii=False, default=str)
    line = " ".join(text.split()) or text
    return line if len(line) <= LONGEST_SHOWN else line[: LONGEST_SHOWN - 1] + "…"


def _without_secrets(value: Any) -> Any:
    """`value` with the secrets in it hidden: by their names in objects, behind their options in arguments."""
    if isinstance(value, dict):
        return {key: HIDDEN if item and _is_secret(str(key)) else _without_secrets(item) for key, item in value.items()}
    if isinstance(value, list):
        behind = [False, *(isinstance(item, str) and item.startswith("-") and _is_secret(item) for item in value)]
        return [HIDDEN if hide else _without_secrets(item) for item, hide in zip(value, behind, strict=False)]
    if isinstance(value, str):
        hidden = OPTION.sub(lambda match: f"{match[1]}{HIDDEN}" if _is_secret(match[1]) else match[0], value)
        return SHAPE.sub(HIDDEN, hidden)
    return value


def _is_secret(name: str) -> bool:
    return bool(SECRET.search(name.strip(" =-")) and not NOT_SECRET.search(name))


def logged_value(name: str, value: Any) -> str:
    """As `shown_value`, with prompts and conversations told by their size alone."""
    if isinstance(value, str) and ("prompt" in name.lower() or name == "conversation"):
        return f"{len(value)} characters"
    if isinstance(value, dict | list) and not re.search(r"(?i)model|args|order|window", name):
        return f"{len(value)} values"
    return shown_value(name, value)
