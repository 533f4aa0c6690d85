"""A visitor from elsewhere may load models, and may not name files or programs of the server's machine."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import gradio as gr
import pytest

from tests.builders.gguf import tiny_llama_spm
from webui.context import AppContext
from webui.diagnostics.log import stop_logging
from webui.errors import AccessDenied
from webui.loaders import LOADERS
from webui.loaders.parameters import controls, refuse_local
from webui.models.inspect import inspect_model
from webui.paths import Paths
from webui.settings import Settings
from webui.tabs.model import ModelTab
from webui.tabs.model_choice import Choice

REMOTE = {"server.host": "0.0.0.0", "server.auth": "me:secret", "server.api_key": "key"}


@pytest.fixture(params=[{}, REMOTE], ids=["here", "from elsewhere"])
async def tab(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[ModelTab]:
    paths = Paths(tmp_path)
    context = AppContext.create(paths, Settings.load(paths, environment={}, command_line=request.param))
    drawn = ModelTab(context)
    with gr.Blocks():
        drawn.build()
    yield drawn
    context.store.close()
    stop_logging(context.log)


def held(tab: ModelTab, model: Path, loader: str, **values: Any) -> dict[Any, Any]:
    """What the page would send: every control as drawn, `values` changed in the loader's own."""
    page: dict[Any, Any] = {tab.choice: Choice(str(model), inspect_model(model)), tab.loader: loader}
    for name, drawn in tab.controls._drawn.items():
        for field, component in drawn.items():
            page[component] = values[field] if name == loader and field in values else component.value
    return page


@pytest.mark.parametrize(
    ("loader", "values"),
    [
        ("llamafile", {"executable": "/bin/sh"}),
        ("llama-cpp-python", {"lora": "/etc/passwd"}),
        ("transformers", {"trust_remote_code": True}),
    ],
)
async def test_files_programs_and_trust_are_for_those_at_the_machine(
    tab: ModelTab, tmp_path: Path, loader: str, values: dict[str, Any], request: pytest.FixtureRequest
) -> None:
    model = tiny_llama_spm(tmp_path / "tiny.gguf")
    page = held(tab, model, loader, **values)
    if "elsewhere" in request.node.name:
        with pytest.raises(AccessDenied, match="at the machine itself only"):
            tab._request(page)
    else:
        assert values.items() <= tab._request(page).parameters.items()
    assert tab._request(held(tab, model, loader)).loader == loader


def test_every_parameter_that_names_a_file_is_marked() -> None:
    for spec in LOADERS.values():
        for control in controls(spec.parameters):
            words = control.control.help.casefold()
            if words.startswith(("path of", "folder of", "folder for")) or "sources you trust" in words:
                assert control.control.local, f"{spec.name}.{control.name}"
                with pytest.raises(AccessDenied):
                    refuse_local(spec.parameters, {control.name: "x"})
