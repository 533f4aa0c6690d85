"""Every key that may be set, with its declaration, and the check of one value against it.

Keys are dotted: `server.port`, `debug`, `loaders.xllamacpp.context_size`. The check never shows a secret and always
says what would have been allowed.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from webui.errors import InvalidSetting
from webui.loaders.parameters import ControlSpec, Parameters, controls
from webui.settings.backend_config import NAMED_DIFFERENTLY
from webui.settings.groups import GROUPS, Effect, GeneralSettings, Protects, Secret

if TYPE_CHECKING:
    from webui.loaders.contract import LoaderSpec

HIDDEN = "********"


@dataclass(frozen=True, slots=True)
class Declared:
    """One key. `owner` is the class that declares it; `secret`, `protects` and `effect` are its marks in `groups`."""

    key: str
    owner: type[Parameters]
    spec: ControlSpec
    secret: bool = False
    protects: bool = False
    effect: Effect = Effect.NEXT_LOAD
    """When a change of it holds; parameters of a backend are given to its process when it loads a model."""

    @property
    def variable(self) -> str:
        """The environment variable that sets this key."""
        return "GGUF_" + self.key.upper().replace(".", "_").replace("-", "_")

    def allowed(self) -> str:
        """What may stand there, in words."""
        spec = self.spec
        if spec.kind == "bool":
            text = "true or false"
        elif spec.kind == "choice":
            text = "one of " + ", ".join(spec.choices)
        elif spec.kind == "list":
            text = "a list of names"
        elif spec.kind == "text":
            text = "text"
        else:
            text = ("a whole number" if spec.kind == "int" else "a number") + _range(spec)
        return text + (" or nothing" if spec.optional else "")

    def check(self, value: Any, source: str, written: str = "") -> Any:
        """`value` as the declared type; raises `InvalidSetting` naming source, key, value and what is allowed.

        `written` is what the key is called in `source`, where that is another name.
        """
        if value is None and not self.spec.optional:
            raise self._wrong(value, source, written)
        if isinstance(value, bool) and self.spec.kind in ("int", "float"):
            raise self._wrong(value, source, written)
        try:
            checked = self.owner.model_validate({self.spec.name: value})
        except ValidationError as error:
            raise self._wrong(value, source, written, error.errors()[0]["msg"]) from None
        return getattr(checked, self.spec.name)

    def _wrong(self, value: Any, source: str, written: str, reason: str = "") -> InvalidSetting:
        shown = HIDDEN if self.secret else _shown(value)
        hint = "Put numbers that are meant as text in quotes." if self.spec.kind == "text" else ""
        allowed = self.allowed()
        if self.spec.kind == "text" and isinstance(value, str):  # text, and not of the form that is asked for
            allowed, hint = "text of the form that it is described with", self.spec.control.help
        return InvalidSetting(
            f"{written or self.key} is {shown} in {source}, and must be {allowed}{self._meant(value)}",
            cause="" if self.secret else reason,
            hint=hint or "All settings, with what they allow, are listed in docs/settings.md.",
            key=self.key,
            source=source,
        )

    def _meant(self, value: Any) -> str:
        """The choice that a wrong value is near to."""
        near = difflib.get_close_matches(str(value)[:60].lower(), self.spec.choices, n=1)
        return f"; did you mean {near[0]}?" if near else ""


def declare(loaders: Mapping[str, LoaderSpec]) -> dict[str, Declared]:
    """All keys in the order they are written to a file: general, each section, each loader's parameters."""
    found = [_declared("", GeneralSettings)]
    found += [_declared(f"{section}.", group) for section, group in GROUPS.items()]
    found += [_declared(f"loaders.{name}.", spec.parameters) for name, spec in loaders.items()]
    return {item.key: item for items in found for item in items}


def find(key: str, keys: Mapping[str, Declared]) -> Declared | None:
    """The declaration of a dotted key, also where the key goes by the name that a shared file has for it."""
    if key in keys:
        return keys[key]
    before, _, leaf = key.rpartition(".")
    return keys.get(f"{before}.{NAMED_DIFFERENTLY.get(leaf, leaf)}")


def unknown(key: str, source: str, keys: Iterable[str]) -> InvalidSetting:
    """The error for a key nobody declares, with the nearest right one if there is one near."""
    near = nearest(key, keys)
    return InvalidSetting(
        f"{key} in {source} is not a setting" + (f"; did you mean {near}?" if near else ""),
        hint="All settings are listed in docs/settings.md.",
        key=key,
        source=source,
    )


def nearest(key: str, keys: Iterable[str]) -> str | None:
    """The declared key that `key` was probably meant to be.

    A name alike in the same section, else the same name in another section, else a key alike as a whole.
    """
    known = list(keys)
    section, _, leaf = key.rpartition(".")
    beside = [item.rpartition(".")[2] for item in known if item.rpartition(".")[0] == section]
    if near := difflib.get_close_matches(leaf, beside, n=1):
        return f"{section}.{near[0]}" if section else near[0]
    if section and beside:
        return None
    same = [item for item in known if item.rpartition(".")[2] == leaf and not item.startswith("loaders.")]
    if len(same) == 1:
        return same[0]
    return next(iter(difflib.get_close_matches(key, known, n=1, cutoff=0.7)), None)


def plain(value: Any) -> Any:
    """A checked value as JSON and YAML know it."""
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, tuple):
        return list(value)
    return value


def _declared(prefix: str, owner: type[Parameters]) -> list[Declared]:
    def marked(name: str, mark: type) -> bool:
        return any(isinstance(item, mark) for item in owner.model_fields[name].metadata)

    def effect(name: str) -> Effect:
        marks = (item for item in owner.model_fields[name].metadata if isinstance(item, Effect))
        return next(marks, Effect.NEXT_LOAD)

    return [
        Declared(
            prefix + spec.name,
            owner,
            spec,
            secret=marked(spec.name, Secret),
            protects=marked(spec.name, Protects),
            effect=effect(spec.name),
        )
        for spec in controls(owner)
    ]


def _shown(value: Any) -> str:
    try:
        return repr(value)[:60]
    except ValueError:  # a number of thousands of digits
        return "a number that is far too long"


def _range(spec: ControlSpec) -> str:
    def number(value: float) -> str:
        return f"{int(value):,}".replace(",", " ") if value == int(value) else str(value)

    unit = f" ({spec.control.unit})" if spec.control.unit else ""
    if spec.minimum is not None and spec.maximum is not None:
        return f" from {number(spec.minimum)} to {number(spec.maximum)}{unit}"
    if spec.minimum is not None:
        return f" of at least {number(spec.minimum)}{unit}"
    if spec.maximum is not None:
        return f" of at most {number(spec.maximum)}{unit}"
    return unit
