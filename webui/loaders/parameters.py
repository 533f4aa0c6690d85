"""How a parameter is declared: once, as an annotated field of a pydantic model.

From one declaration come the control on the page, validation, the `settings.yaml` key, `--set name=value`, the load
API, the migration target and the reference page. A field is an `Annotated` type whose metadata holds the pydantic
bounds and a `Control`; `controls()` reads them back. Fields that mean the same in several loaders share the type (and
so the name, the label, the bounds) from `webui.loaders.shared`, and a value survives a change of loader.
"""

from __future__ import annotations

import types
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin

import annotated_types
from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic.fields import FieldInfo

from webui.errors import AccessDenied, InvalidSetting

P = TypeVar("P", bound="Parameters")


class Group(StrEnum):
    """Basic controls are always shown; advanced ones are folded."""

    BASIC = "basic"
    ADVANCED = "advanced"


@dataclass(frozen=True, slots=True)
class Control:
    """What a person sees of a field. `unit` is shown behind the label, `section` gathers related fields."""

    label: str
    help: str
    unit: str = ""
    group: Group = Group.ADVANCED
    section: str = "General"
    step: float | None = None
    lines: int = 1
    suggested_max: float | None = None
    """Where a slider ends if the bound itself is far beyond what people use; larger values may be typed."""
    local: bool = False
    """It names a file of this machine or lets one run code: visitors from elsewhere may not change it."""


Kind = Literal["bool", "int", "float", "text", "choice", "list"]


@dataclass(frozen=True, slots=True)
class ControlSpec:
    """A field's declaration read back: everything needed to draw, explain or parse it.

    `kind` is one of bool, int, float, text, choice, list (several texts, written with commas between them). `optional`
    means that `None` (an empty control) is allowed.
    """

    name: str
    kind: Kind
    default: Any
    optional: bool
    control: Control
    minimum: float | None = None
    maximum: float | None = None
    choices: tuple[str, ...] = ()


class Parameters(BaseModel):
    """Base of every declared group of parameters: frozen, no unknown keys, no silent coercion of nonsense."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)

    @classmethod
    def parse(cls: type[P], values: Mapping[str, Any], *, where: str = "") -> P:
        """Validate `values`; raise `InvalidSetting` naming each wrong key, what it is and what is allowed."""
        try:
            return cls.model_validate(dict(values))
        except ValidationError as error:
            raise InvalidSetting(
                "; ".join(_explain(cls, item) for item in error.errors()),
                cause=f"in {where}" if where else "",
                hint="The parameters and their bounds are listed in docs/parameters.md.",
            ) from error

    def changed(self) -> dict[str, Any]:
        """The values that differ from their defaults, as JSON types: what is worth saving."""
        return self.model_dump(mode="json", exclude_defaults=True)


def keep_known(cls: type[Parameters], values: Mapping[str, Any]) -> dict[str, Any]:
    """The part of `values` that `cls` declares: how values travel from one loader to another."""
    return {name: value for name, value in values.items() if name in cls.model_fields}


@cache
def controls(cls: type[Parameters]) -> tuple[ControlSpec, ...]:
    """The declared fields of `cls`, in order. A field without a `Control` is a defect and raises `TypeError`."""
    return tuple(_read(name, info) for name, info in cls.model_fields.items())


def refuse_local(cls: type[Parameters], values: Mapping[str, Any]) -> None:
    """Raise `AccessDenied` if `values` holds a parameter that only somebody at this machine may change."""
    local = [spec.control.label for spec in controls(cls) if spec.control.local and spec.name in values]
    if local:
        raise AccessDenied(
            f"{', '.join(local)} can be changed at the machine itself only.",
            cause="It names files of the machine the server runs on, or lets them run code there.",
            hint="Set it under loaders in settings.yaml on that machine.",
        )


def _read(name: str, info: FieldInfo) -> ControlSpec:
    control = next((item for item in info.metadata if isinstance(item, Control)), None)
    if control is None:
        raise TypeError(f"field {name!r} is declared without a Control")
    inner, optional = _strip_optional(info.annotation)
    minimum = maximum = None
    for item in info.metadata:
        if isinstance(item, annotated_types.Ge):
            minimum = float(item.ge)  # type: ignore[arg-type]
        elif isinstance(item, annotated_types.Le):
            maximum = float(item.le)  # type: ignore[arg-type]
    kind, choices = _kind(name, inner)
    return ControlSpec(name, kind, info.get_default(), optional, control, minimum, maximum, choices)


def _kind(name: str, inner: Any) -> tuple[Kind, tuple[str, ...]]:
    if get_origin(inner) is Literal:
        return "choice", tuple(str(choice) for choice in get_args(inner))
    if isinstance(inner, type) and issubclass(inner, StrEnum):
        return "choice", tuple(member.value for member in inner)
    if inner is bool:
        return "bool", ()
    if inner is int:
        return "int", ()
    if inner is float:
        return "float", ()
    if inner is str or inner is Path:
        return "text", ()
    if inner == tuple[str, ...]:
        return "list", ()
    raise TypeError(f"field {name!r} has type {inner!r}, for which there is no control")


def _strip_optional(annotation: Any) -> tuple[Any, bool]:
    if get_origin(annotation) is Annotated:
        annotation = get_args(annotation)[0]
    if get_origin(annotation) in (Union, types.UnionType):
        rest = [item for item in get_args(annotation) if item is not type(None)]
        if len(rest) == 1:
            return rest[0], True
    return annotation, False


def _explain(cls: type[Parameters], item: Any) -> str:
    """One clause for one pydantic error, with the nearest declared name for an unknown key."""
    import difflib

    name = ".".join(str(part) for part in item["loc"]) or "value"
    if item["type"] == "extra_forbidden":
        near = difflib.get_close_matches(name, cls.model_fields, n=1)
        return f"{name} is not a known parameter" + (f"; did you mean {near[0]}?" if near else "")
    shown = repr(item.get("input"))
    return f"{name} is {shown[:60]}: {item['msg'][0].lower()}{item['msg'][1:]}"
