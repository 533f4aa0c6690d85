"""A loader is one file and one line in the map: nothing else knows of it, and everything works with it.

The file is `tests/loaders/toy.py`; the line is the entry in `LOADERS` below. The page draws its controls from the
declaration, the pool runs it in a worker of its own, and no other file names it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.builders.gguf import tiny_llama_bpe
from tests.loaders import toy
from webui import loaders
from webui.context import AppContext
from webui.errors import InvalidSetting
from webui.loaders.contract import GenerationRequest
from webui.paths import Paths
from webui.pool import JobState
from webui.settings import Settings
from webui.tabs.page import build_page

LOADERS = {**loaders.LOADERS, "toy": toy.SPEC}


@pytest.fixture
async def context(isolation: Path) -> AsyncIterator[AppContext]:
    paths = Paths.from_environment()
    app = AppContext.create(paths, Settings.load(paths), LOADERS)
    yield app
    await app.close()


async def test_its_controls_are_on_the_page_as_declared(context: AppContext) -> None:
    page = build_page(context)
    props = {component["props"].get("elem_id"): component["props"] for component in page.config["components"]}
    delay = props["loader-toy-delay"]
    assert delay["label"].startswith("Delay")
    assert delay["info"] == "Seconds between words."
    assert delay["value"] == 0.0
    assert props["loader-toy-context-size"]["value"] == 64
    assert "model-controls-toy" in props
    assert ("Toy", "toy") in [tuple(choice) for choice in props["model-loader"]["choices"]]


async def test_its_values_are_validated_by_their_declaration(context: AppContext, tmp_path: Path) -> None:
    facts = context.catalogue.find(tiny_llama_bpe(tmp_path / "tiny.gguf"))
    with pytest.raises(InvalidSetting, match="delay is 99"):
        await context.load_model(facts, "toy", {"delay": 99})
    with pytest.raises(InvalidSetting, match="dela is not a known parameter; did you mean delay"):
        await context.load_model(facts, "toy", {"dela": 1})


async def test_its_settings_and_its_place_in_the_order_come_from_the_map(context: AppContext) -> None:
    assert context.settings.backends.order[-1] == "toy"
    assert context.save_settings({"loaders.toy.delay": 0.25}).backends.parameters("toy") == {"delay": 0.25}


async def test_it_is_judged_loads_streams_and_unloads(context: AppContext, tmp_path: Path) -> None:
    facts = context.catalogue.find(tiny_llama_bpe(tmp_path / "tiny.gguf"))
    judged = {candidate.loader: candidate for candidate in context.pool.rank(facts)}
    assert judged["toy"].suitable
    assert judged["toy"].reason == "opens anything"
    status = await context.load_model(facts, "toy", {"slots": 2})
    assert status.loader == "toy"
    assert status.model is not None
    assert status.model.slots == 2
    job = context.pool.submit(GenerationRequest("one two three"), owner="test")
    assert [piece async for piece in job.pieces()] == ["one ", "two ", "three "]
    assert (await job.wait()).state is JobState.DONE
    await context.pool.unload()
    assert context.pool.workers() == []
