"""The Chat tab's side panel: what is saved as a preset."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import gradio as gr
import pytest

from tests.test_context import opened
from webui.context import AppContext
from webui.loaders.sampling import SamplingParameters
from webui.tabs.chat_panel import Panel, fresh_seat
from webui.tabs.controls import show_values


@pytest.fixture
async def context(tmp_path: Path) -> AsyncIterator[AppContext]:
    context = opened(tmp_path / "home")
    yield context
    await context.close()


@pytest.fixture
async def panel(context: AppContext) -> Panel:
    """A coroutine: outside a running event loop Gradio makes a loop for each component and never closes it."""
    with gr.Blocks():
        return Panel(context, gr.State(None), gr.Textbox())


async def test_a_preset_is_saved_as_the_page_shows_it(context: AppContext, panel: Panel) -> None:
    """Also where the server has not heard of the last change yet."""
    seat = fresh_seat(context)
    assert seat.sampling.top_k != 7
    values = show_values(SamplingParameters(top_k=7))
    await panel._save(seat, "", "seven", *(values[name] for name in panel.samplers))
    assert context.presets.get("seven").top_k == seat.sampling.top_k == 7
