"""Every kind of declared field becomes a component that holds, shows and hands back its value.

The tests that draw are coroutines: outside a running event loop Gradio makes a loop per component and never closes it.
"""

from __future__ import annotations

from typing import Annotated, Literal

import gradio as gr
import pytest
from pydantic import Field

from webui.errors import InvalidSetting
from webui.loaders.parameters import Control, Group, Parameters, controls
from webui.loaders.sampling import SamplingParameters
from webui.tabs.controls import build_control, build_group, read_values, show_values


class Every(Parameters):
    """One field of each kind there is."""

    share: Annotated[float, Field(ge=0, le=1), Control("Share", "A share.", group=Group.BASIC, step=0.05)] = 0.5
    context_size: Annotated[
        int, Field(ge=0, le=10_000_000), Control("Context", "Tokens.", unit="tokens", suggested_max=8192)
    ] = 4096
    limit: Annotated[int | None, Field(ge=0), Control("Limit", "Empty for none.")] = None
    name: Annotated[str, Control("Name", "A name.", section="Words", lines=3)] = ""
    mode: Annotated[Literal["a", "b"], Control("Mode", "A mode.", section="Words")] = "a"
    dtype: Annotated[Literal["f16", "f32"] | None, Control("Type", "Empty: the model's own.", section="Words")] = None
    switch: Annotated[bool, Control("Switch", "On or off.")] = True
    maybe: Annotated[bool | None, Control("Maybe", "On, off, or the engine's choice.")] = None


@pytest.mark.parametrize(
    ("name", "kind", "shown"),
    [
        ("share", gr.Slider, 0.5),
        ("context_size", gr.Number, 4096),
        ("limit", gr.Number, None),
        ("name", gr.Textbox, ""),
        ("mode", gr.Dropdown, "a"),
        ("dtype", gr.Dropdown, ""),
        ("switch", gr.Checkbox, True),
        ("maybe", gr.Dropdown, ""),
    ],
)
async def test_each_kind_has_its_component(name: str, kind: type, shown: object) -> None:
    spec = next(spec for spec in controls(Every) if spec.name == name)
    control = build_control(spec, prefix="toy")
    assert isinstance(control, kind)
    assert control.value == shown
    assert control.elem_id == f"toy-{name.replace('_', '-')}"
    assert control.info == spec.control.help


async def test_the_unit_stands_behind_the_label() -> None:
    spec = next(spec for spec in controls(Every) if spec.name == "context_size")
    assert build_control(spec, prefix="toy").label == "Context (tokens)"


async def test_group_holds_every_field_in_order_and_folds_the_advanced_ones_by_section() -> None:
    with gr.Blocks(analytics_enabled=False) as page:
        drawn = build_group(Every, "toy", {"share": 0.25})
    assert list(drawn) == list(Every.model_fields)
    assert drawn["share"].value == 0.25
    sections = [block.elem_id for block in page.blocks.values() if isinstance(block, gr.Accordion)]
    assert sections == ["toy-section-general", "toy-section-words"]


def test_what_components_hand_back_becomes_valid_parameters() -> None:
    raw = {"context_size": 2048.0, "limit": None, "dtype": "", "maybe": False, "share": None}
    parsed = Every.parse(read_values(Every, raw))
    assert parsed == Every(context_size=2048, limit=None, dtype=None, maybe=False, share=0.5)


def test_show_and_read_are_inverse() -> None:
    for parameters in (Every(), Every(maybe=True, dtype="f16", limit=3), SamplingParameters(temperature=0, seed=7)):
        assert type(parameters).parse(read_values(type(parameters), show_values(parameters))) == parameters


def test_a_wrong_value_is_named_by_the_declaration() -> None:
    with pytest.raises(InvalidSetting, match="share is 3"):
        Every.parse(read_values(Every, {"share": 3}))


async def test_every_sampling_control_can_be_drawn() -> None:
    with gr.Blocks(analytics_enabled=False):
        drawn = build_group(SamplingParameters, "sampling")
    assert isinstance(drawn["temperature"], gr.Slider)
    assert isinstance(drawn["seed"], gr.Number)
    assert len({component.elem_id for component in drawn.values()}) == len(SamplingParameters.model_fields)
