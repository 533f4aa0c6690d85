"""Draws declared parameters: one `ControlSpec` becomes one Gradio component, one parameter class a group of them.

What a parameter is, its bounds and its words are declared in `webui.loaders`; this module only decides which component
shows it and gives it its stable `elem_id` (`<prefix>-<name>`, dashes for underscores). What a component hands back is
turned into the declared types by `read_values`; whether the values are allowed is for `Parameters.parse` to say, which
names the field, so no bounds are given to number fields (Gradio's own complaint would not name it).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import gradio as gr
from gradio.components import Component

from webui.loaders.parameters import Control, ControlSpec, Group, Parameters, controls

SLIDER_REACH = 4
"""A slider is drawn as long as its bound is at most this many times what people use; beyond it every useful value would
sit in the first pixels, and a number field is better."""

UNSET = ""
"""The choice that stands for `None` in a dropdown of an optional field."""


def build_control(spec: ControlSpec, *, prefix: str, value: Any = None) -> Component:
    """The component that shows `spec`, holding `value` (the default where `value` is None)."""
    shown = spec.default if value is None else value
    words: dict[str, Any] = {
        "label": _label(spec.control),
        "info": spec.control.help,
        "elem_id": element_id(prefix, spec.name),
        "interactive": True,
    }
    if spec.kind == "choice" or (spec.kind == "bool" and spec.optional):
        return gr.Dropdown(choices=_choices(spec), value=UNSET if shown is None else shown, **words)
    if spec.kind == "bool":
        return gr.Checkbox(value=bool(shown), **words)
    if spec.kind == "text":
        lines = spec.control.lines
        return gr.Textbox(value=shown or "", lines=lines, max_lines=max(lines, 8), **words)
    if _fits_a_slider(spec):
        return gr.Slider(
            minimum=spec.minimum or 0,
            maximum=spec.maximum or 0,
            step=_step(spec),
            precision=0 if spec.kind == "int" else None,
            value=shown,
            **words,
        )
    return gr.Number(value=shown, precision=0 if spec.kind == "int" else None, step=_step(spec), **words)


def _label(control: Control) -> str:
    """The label with its unit, unless the label says it already: "GPU layers", but "Context size (tokens)"."""
    said = control.label.casefold().split()
    return f"{control.label} ({control.unit})" if control.unit and control.unit not in said else control.label


def build_group(
    parameters_class: type[Parameters], prefix: str, values: Mapping[str, Any] | None = None
) -> dict[str, Component]:
    """Draw every field of `parameters_class` where the caller stands: basic ones open, the others folded by section.

    `values` overrides the defaults. Returns the components by field name, in the order of the declaration.
    """
    held = dict(values or {})
    declared = controls(parameters_class)
    drawn: dict[str, Component] = {}
    with gr.Group(elem_id=f"{prefix}-basic", elem_classes="controls-basic"):
        for spec in declared:
            if spec.control.group is Group.BASIC:
                drawn[spec.name] = build_control(spec, prefix=prefix, value=held.get(spec.name))
    advanced = [spec for spec in declared if spec.control.group is not Group.BASIC]
    for section in dict.fromkeys(spec.control.section for spec in advanced):
        section_id = f"{prefix}-section-{section.lower().replace(' ', '-')}"
        with gr.Accordion(section, open=False, elem_id=section_id, elem_classes="controls-section"):
            for spec in advanced:
                if spec.control.section == section:
                    drawn[spec.name] = build_control(spec, prefix=prefix, value=held.get(spec.name))
    return {spec.name: drawn[spec.name] for spec in declared}


def element_id(prefix: str, name: str) -> str:
    """The stable id of the control for `name`: what tests and extensions find it by."""
    return f"{prefix}-{name.replace('_', '-')}"


def read_values(parameters_class: type[Parameters], raw: Mapping[str, Any]) -> dict[str, Any]:
    """What components handed back, as values for `parameters_class.parse`.

    An emptied number falls back to None where the field may be None and to its default otherwise. Names that the class
    does not declare are passed through, so that `parse` can name them.
    """
    by_name = {spec.name: spec for spec in controls(parameters_class)}
    return {name: _read(by_name[name], value) if name in by_name else value for name, value in raw.items()}


def show_values(parameters: Parameters) -> dict[str, Any]:
    """The inverse of `read_values`: what each component must hold to show `parameters`."""
    shown = parameters.model_dump(mode="json")
    for spec in controls(type(parameters)):
        if shown[spec.name] is None and spec.kind in ("choice", "bool"):
            shown[spec.name] = UNSET
    return shown


def _read(spec: ControlSpec, value: Any) -> Any:
    if spec.optional and value == UNSET:
        return None
    if value is None and not spec.optional:
        return spec.default
    if spec.kind == "int" and isinstance(value, float) and value.is_integer():
        return int(value)
    return value


def _choices(spec: ControlSpec) -> list[tuple[str, Any]]:
    unset: list[tuple[str, Any]] = [("not set", UNSET)] if spec.optional else []
    if spec.kind == "bool":
        return [*unset, ("yes", True), ("no", False)]
    return unset + [(choice, choice) for choice in spec.choices]


def _fits_a_slider(spec: ControlSpec) -> bool:
    if spec.optional or spec.minimum is None or spec.maximum is None:
        return False
    useful = spec.control.suggested_max or spec.maximum
    return spec.maximum <= SLIDER_REACH * useful and spec.maximum - spec.minimum <= 1000 * _step(spec)


def _step(spec: ControlSpec) -> float:
    return spec.control.step or (1 if spec.kind == "int" else 0.01)
