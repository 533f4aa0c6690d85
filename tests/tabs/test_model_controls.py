"""The loaders' controls: defaults, what a load asks for, saved values, and fields shared by name.

The tests are coroutines: outside a running event loop Gradio makes a loop per component and never closes it.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Any

import gradio as gr
import pytest
from pydantic import Field

from tests.loaders import toy
from webui.errors import InvalidSetting
from webui.loaders.parameters import Control, Parameters
from webui.loaders.shared import ContextSize
from webui.tabs.model_controls import LoaderControls


class OtherParameters(Parameters):
    context_size: ContextSize = 2048
    slots: Annotated[int, Field(ge=1, le=2), Control("Slots", "Other bounds than the toy's.")] = 1
    limit: Annotated[int | None, Field(ge=0), Control("Limit", "Empty for none.")] = None


LOADERS = {"toy": toy.SPEC, "other": replace(toy.SPEC, name="other", parameters=OtherParameters)}


def drawn(configured: dict[str, dict[str, Any]] | None = None) -> tuple[LoaderControls, gr.Blocks]:
    controls = LoaderControls(LOADERS, configured or {})
    with gr.Blocks() as page:
        controls.build(shown="toy")
    return controls, page


def held(controls: LoaderControls, **edits: Any) -> dict[Any, Any]:
    """What the page would hold: every component's value, with edits by elem_id (dashes as underscores)."""
    names = {name.replace("_", "-"): value for name, value in edits.items()}
    return {component: names.get(component.elem_id, component.value) for component in controls.components}


async def test_every_field_of_every_loader_has_a_control_with_a_stable_name() -> None:
    controls, _ = drawn()
    ids = {component.elem_id for component in controls.components}
    assert ids == {
        *(f"loader-toy-{name.replace('_', '-')}" for name in toy.ToyParameters.model_fields),
        *(f"loader-other-{name.replace('_', '-')}" for name in OtherParameters.model_fields),
    }


async def test_untouched_controls_ask_for_nothing_and_edited_ones_for_themselves() -> None:
    controls, _ = drawn({"toy": {"context_size": 128}})
    assert controls.changed("toy", held(controls)) == {}
    assert controls.changed("toy", held(controls, loader_toy_delay=0.5)) == {"delay": 0.5}
    # Back to the declared default is a change where another value is configured.
    assert controls.changed("toy", held(controls, loader_toy_context_size=64)) == {"context_size": 64}


async def test_nonsense_is_refused_by_name_and_only_for_the_loader_in_use() -> None:
    controls, _ = drawn()
    nonsense = held(controls, loader_toy_delay=-3)
    with pytest.raises(InvalidSetting, match="delay is -3"):
        controls.changed("toy", nonsense)
    assert controls.changed("other", nonsense) == {}


async def test_values_are_put_into_every_loader_that_takes_them() -> None:
    controls, _ = drawn()
    shown = {component.elem_id: update["value"] for component, update in controls.updates({"context_size": 99}).items()}
    assert shown["loader-toy-context-size"] == shown["loader-other-context-size"] == 99
    shown = {component.elem_id: update["value"] for component, update in controls.updates({"slots": 8}).items()}
    assert shown["loader-toy-slots"] == 8
    assert shown["loader-other-slots"] == 1  # its bounds are others: 8 is not taken


async def test_values_that_no_longer_fit_are_named() -> None:
    controls, _ = drawn()
    assert controls.refused("other", {"slots": 8, "context_size": 4096})[0].startswith("slots is 8")
    assert controls.refused("toy", {"gone": 1}) == ["gone is not a known parameter"]
    assert controls.refused("toy", {"slots": 8}) == []


async def test_only_fields_that_are_declared_alike_are_linked() -> None:
    _, page = drawn()
    names = {component["id"]: component["props"].get("elem_id") for component in page.config["components"]}
    links = {
        (names[event["targets"][0][0]], tuple(names[target] for target in event["outputs"]))
        for event in page.config["dependencies"]
        if event["targets"][0][1] == "input"
    }
    assert links == {
        ("loader-toy-context-size", ("loader-other-context-size",)),
        ("loader-other-context-size", ("loader-toy-context-size",)),
    }


async def test_only_the_wanted_group_is_visible_at_first() -> None:
    _, page = drawn()
    visible = {
        component["props"]["elem_id"]: component["props"]["visible"]
        for component in page.config["components"]
        if str(component["props"].get("elem_id", "")).startswith("model-controls-")
    }
    assert visible == {"model-controls-toy": True, "model-controls-other": False}
