"""The choice of GPUs on the Hardware tab: what it saves, and what it says."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import gradio as gr
import pytest

from tests.hardware import machines
from tests.test_context import opened
from webui.context import AppContext
from webui.hardware.choice import choose
from webui.tabs.hardware_gpus import GpuPart, status_html


@pytest.fixture
async def app(tmp_path: Path) -> AsyncIterator[AppContext]:
    context = opened(tmp_path / "home")
    context._hardware = machines.facts("nvidia-two-unequal", tmp_path / "machine")
    yield context
    await context.close()


@pytest.fixture
async def part(app: AppContext) -> GpuPart:
    """A coroutine: outside a running event loop Gradio makes a loop for each component and never closes it."""
    drawn = GpuPart(app)
    with gr.Blocks():
        drawn.build()
    return drawn


def values(updates: list[Any]) -> dict[str, Any]:
    names = ("part", "profile", "gpus", "name", "split", "delete", "status")
    shown = dict(zip(names, updates, strict=True))
    return {
        "visible": shown["part"]["visible"],
        "profile": shown["profile"]["value"],
        "profiles": [value for _, value in shown["profile"]["choices"]],
        "gpus": shown["gpus"]["value"],
        "labels": [label for label, _ in shown["gpus"]["choices"]],
        "name": shown["name"]["value"],
        "split": shown["split"]["value"],
        "delete": shown["delete"]["visible"],
        "status": shown["status"],
    }


def uuids(app: AppContext) -> list[str]:
    return [gpu.uuid or "" for gpu in app.detected().gpus]


async def test_at_first_all_gpus_are_chosen(app: AppContext, part: GpuPart) -> None:
    shown = values(await part._shown())
    assert (shown["visible"], shown["profile"], shown["gpus"]) == (True, "all", uuids(app))
    assert shown["profiles"] == ["all", "quiet", ""]
    assert shown["labels"] == ["NVIDIA GeForce RTX 3090, 24.0 GiB", "NVIDIA GeForce RTX 3060, 12.0 GiB"]
    assert "RTX 3090 and NVIDIA GeForce RTX 3060" in shown["status"]
    assert "from the next load" in shown["status"]


async def test_where_there_is_no_gpu_nothing_is_drawn(app: AppContext, part: GpuPart, tmp_path: Path) -> None:
    app._hardware = machines.facts("none", tmp_path / "other")
    first, *rest = await part._shown()
    assert first["visible"] is False
    assert len(rest) == 6


async def test_ticks_are_saved_by_the_name_that_lasts(app: AppContext, part: GpuPart) -> None:
    first, second = uuids(app)
    shown = values(await part._take_gpus([second]))
    assert (shown["profile"], shown["gpus"]) == ("", [second])
    assert app.settings.hardware.gpus == (second,)
    assert app.devices().environment["CUDA_VISIBLE_DEVICES"] == second
    assert app.usable().gpus[0].name == "NVIDIA GeForce RTX 3060"
    shown = values(await part._take_gpus([first, second]))
    assert (shown["profile"], app.settings.hardware.gpus) == ("all", ())


async def test_no_tick_is_the_processor_alone(app: AppContext, part: GpuPart) -> None:
    shown = values(await part._take_gpus([]))
    assert (shown["profile"], shown["gpus"]) == ("quiet", [])
    assert "stay on the processor" in shown["status"]
    assert app.devices().processor
    assert app.free_on_devices() == 0
    shown = values(await part._take_profile("all"))
    assert shown["gpus"] == uuids(app)
    assert not app.devices().processor


async def test_a_choice_is_kept_under_a_name_used_and_deleted(app: AppContext, part: GpuPart) -> None:
    first, second = uuids(app)
    shown = values(await part._save(" both ", [first, second], "3:1"))
    assert (shown["profile"], shown["name"], shown["split"], shown["delete"]) == ("both", "both", "3:1", True)
    assert app.settings.hardware.profiles == ("both = all split 3:1",)
    assert app.devices().parameters == {"tensor_split": "3,1"}
    shown = values(await part._save("one", [second], ""))
    assert shown["profiles"] == ["all", "quiet", "both", "one", ""]
    shown = values(await part._save("one", [first], ""))  # in place of the one before
    assert app.settings.hardware.profiles == ("both = all split 3:1", f"one = {first}")
    shown = values(await part._delete("one"))
    assert (shown["profile"], shown["profiles"], shown["gpus"]) == ("", ["all", "quiet", "both", ""], [first])
    assert values(await part._delete("one"))["profiles"] == shown["profiles"]


@pytest.mark.parametrize(
    ("name", "split", "said"),
    [
        ("", "", "needs a name"),
        ("a = b", "", "needs a name"),
        ("a, b", "", "needs a name"),
        ("quiet", "", "always there"),
        ("one", "3:1", "one number"),
        ("one", "<img>", "one number"),
    ],
)
async def test_what_cannot_be_saved_says_why(app: AppContext, part: GpuPart, name: str, split: str, said: str) -> None:
    shown = values(await part._save(name, uuids(app)[:1], split))
    assert "Not saved" in shown["status"]
    assert said in shown["status"]
    assert "<img>" not in shown["status"]
    assert app.settings.hardware.profiles == ()


async def test_what_goes_before_the_saved_value_is_named(tmp_path: Path) -> None:
    from webui.paths import Paths
    from webui.settings import Settings

    paths = Paths(tmp_path / "home").ensure()
    settings = Settings.load(paths, environment={"GGUF_HARDWARE_PROFILE": "quiet"}, loaders={})
    app = AppContext.create(paths, settings, loaders={})
    try:
        app._hardware = machines.facts("nvidia-two-unequal", tmp_path / "machine")
        part = GpuPart(app)
        with gr.Blocks():
            part.build()
        shown = values(await part._take_profile("all"))
        assert shown["profile"] == "quiet"
        assert "GGUF_HARDWARE_PROFILE says otherwise" in shown["status"]
    finally:
        await app.close()


def test_what_stands_in_the_way_is_said(tmp_path: Path) -> None:
    gpus = machines.facts("windows-radeon", tmp_path).gpus
    assert "GPU-gone is named in the settings" in status_html(choose(gpus, ["GPU-gone"]), switched_off=False)
    assert "switched off on the Backend tab" in status_html(choose(gpus, processor=True), switched_off=True)
    assert "free" not in status_html(choose(gpus), switched_off=False)  # the driver does not tell
