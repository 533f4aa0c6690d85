"""What the page's script is answered: the plan of the model and the values it names, as a load would read them."""

from __future__ import annotations

import asyncio
import html
import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import gradio as gr
import pytest
from starlette.testclient import TestClient

from tests.builders.gguf import tiny_llama_bpe, tiny_llama_spm
from webui.context import AppContext
from webui.diagnostics.log import stop_logging
from webui.errors import EngineRefused
from webui.models.facts import ModelFacts
from webui.models.inspect import inspect_model
from webui.paths import Paths
from webui.planning.plan import MemoryPlan
from webui.server import create_api
from webui.settings import Settings
from webui.tabs.model import ModelTab
from webui.tabs.model_choice import Choice
from webui.tabs.model_plan import KEPT

LOADER = "llama-cpp-python"
REMOTE = {"server.host": "0.0.0.0", "server.auth": "me:secret", "server.api_key": "key"}


async def drawn_tab(home: Path, **settings: Any) -> ModelTab:
    paths = Paths(home).ensure()
    context = AppContext.create(paths, Settings.load(paths, environment={}, command_line=settings))
    tab = ModelTab(context)
    with gr.Blocks():
        tab.build()
    return tab


@pytest.fixture(scope="module")
def tab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ModelTab]:
    # Outside of a loop, Gradio makes one for each component and never closes it.
    tab = asyncio.run(drawn_tab(tmp_path_factory.mktemp("home")))
    yield tab
    tab.context.store.close()
    stop_logging(tab.context.log)


@pytest.fixture
def chosen(tmp_path: Path) -> Choice:
    model = tiny_llama_spm(tmp_path / "tiny.gguf")
    return Choice(str(model), inspect_model(model))


def question(tab: ModelTab, model: str, loader: str = LOADER, **values: Any) -> str:
    """What the page's script sends: every value of the loader as its component holds it, `values` changed."""
    held = {name: component.value for name, component in tab.controls._drawn[loader].items()}
    return json.dumps({"model": model, "loader": loader, "values": held | values})


def planned(tab: ModelTab, monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """The parameters of each plan that is made from now on."""
    asked: list[dict[str, Any]] = []
    plan = tab.context.plan

    def note(facts: ModelFacts, loader: str, parameters: Mapping[str, Any]) -> MemoryPlan:
        asked.append(dict(parameters))
        return plan(facts, loader, parameters)

    monkeypatch.setattr(tab.context, "plan", note)
    return asked


async def test_the_answer_is_the_plan_of_the_values_on_the_page(
    tab: ModelTab, chosen: Choice, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = planned(tab, monkeypatch)
    name = tab.plan.name(chosen)
    usual = await tab.plan.answer(question(tab, name))
    longer = await tab.plan.answer(question(tab, name, context_size=16_384, gpu_layers=3.0))
    assert asked == [{}, {"context_size": 16_384, "gpu_layers": 3}]
    assert "KV cache" in usual["html"] and usual["html"] != longer["html"]
    assert usual["mark"] != longer["mark"]


async def test_values_are_read_as_a_load_reads_them(tab: ModelTab, chosen: Choice, tmp_path: Path) -> None:
    values = {"context_size": 512.4, "threads": None, "use_mmap": False, "cache_type_k": "q8_0"}
    page: dict[Any, Any] = {component: component.value for component in tab.controls.components}
    drawn = tab.controls._drawn[LOADER]
    for field, component in drawn.items():
        page[component] = component.preprocess(values.get(field, component.value))
    raw = json.loads(question(tab, "", **values))["values"]
    assert tab.controls.changed(LOADER, tab.controls.held(LOADER, raw)) == tab.controls.changed(LOADER, page)


@pytest.mark.parametrize(
    ("loader", "values", "said"),
    [
        (LOADER, {"context_size": -5}, "context_size is -5"),
        (LOADER, {"context_size": "many"}, "context_size is &#x27;many&#x27;"),
        (LOADER, {"context_size": 1e300}, "context_size is 1"),
        (LOADER, {"cache_type_k": "q9"}, "cache_type_k is &#x27;q9&#x27;"),
        (LOADER, {"gpu_layers": [1]}, "gpu_layers is [1]"),
        ("xllamacpp", {"parallel_jobs": 99_999, "context_size": -1}, "context_size is -1"),
    ],
)
async def test_rubbish_in_a_field_is_named_instead_of_bars(
    tab: ModelTab, chosen: Choice, loader: str, values: dict[str, Any], said: str
) -> None:
    answer = await tab.plan.answer(question(tab, tab.plan.name(chosen), loader, **values))
    assert said in answer["html"] and "plan-bar" not in answer["html"]


async def test_a_loader_that_cannot_open_the_file_has_no_plan_for_it(tab: ModelTab, tmp_path: Path) -> None:
    model = tiny_llama_bpe(tmp_path / "bpe.gguf")
    name = tab.plan.name(Choice(str(model), inspect_model(model)))
    told = (await tab.plan.answer(question(tab, name, "ctransformers")))["html"]
    assert "SentencePiece" in told and "plan-bar" not in told


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[" * 100_000,
        "[]",
        "1",
        '{"model": 1}',
        '{"model": "x", "loader": "toy", "values": []}',
        '{"loader": ["a"]}',
        "\0",
    ],
)
async def test_what_is_no_question_has_no_plan(tab: ModelTab, chosen: Choice, text: str) -> None:
    tab.plan.name(chosen)
    assert (await tab.plan.answer(text))["html"] == ""


async def test_a_page_names_the_model_it_chose_and_no_file(tab: ModelTab, chosen: Choice) -> None:
    assert tab.plan.name(Choice()) == ""
    assert (await tab.plan.answer(question(tab, chosen.path)))["html"] == ""
    name = tab.plan.name(chosen)
    assert chosen.path not in name
    assert (await tab.plan.answer(question(tab, name)))["html"]
    for number in range(KEPT):
        tab.plan.name(Choice("", _named(chosen, f"{number}.gguf")))
    assert (await tab.plan.answer(question(tab, name)))["html"] == ""


def _named(chosen: Choice, name: str) -> ModelFacts:
    assert chosen.facts is not None
    return replace(chosen.facts, path=Path("/", name))


async def test_visitors_from_elsewhere_plan_what_they_may_load(tmp_path: Path, chosen: Choice) -> None:
    tab = await drawn_tab(tmp_path / "remote", **REMOTE)
    name = tab.plan.name(chosen)
    assert "plan-bar" in (await tab.plan.answer(question(tab, name)))["html"]
    refused = (await tab.plan.answer(question(tab, name, lora="/etc/passwd")))["html"]
    assert "at the machine itself only" in refused
    tab.context.store.close()
    stop_logging(tab.context.log)


async def test_an_alternative_reaches_every_loader_that_shares_the_field_and_nothing_else(tab: ModelTab) -> None:
    outputs = tab.controls.put(LOADER, {"context_size": 1234, "cache_type_k": "q8_0", "no_such_field": 1})
    told = {component.elem_id: update["value"] for component, update in outputs.items()}
    assert told[f"loader-{LOADER}-context-size"] == 1234
    assert told["loader-xllamacpp-context-size"] == 1234
    assert told[f"loader-{LOADER}-cache-type-k"] == "q8_0"
    assert {name.rpartition("-")[2] for name in told} == {"size", "k"}
    assert tab.controls.put(LOADER, {"context_size": -1}) == {}


async def test_an_engine_that_gives_no_figures_is_said_to_once_it_was_asked(
    tab: ModelTab, chosen: Choice, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def exact_plan(facts: ModelFacts, loader: str, parameters: Mapping[str, Any]) -> MemoryPlan:
        raise EngineRefused("It would not load this.", cause="the tensors are wrong")

    monkeypatch.setattr(tab.context, "exact_plan", exact_plan)
    text = question(tab, tab.plan.name(chosen), context_size=512)
    before = await tab.plan.answer(text)
    assert "ask the engine" in before["html"]
    assert await tab.plan.answer(json.dumps({**json.loads(text), "exact": True})) == {}
    after = await tab.plan.answer(text)
    assert "It would not load this: the tensors are wrong" in after["html"] and after["mark"] != before["mark"]
    other = await tab.plan.answer(question(tab, tab.plan.name(chosen), context_size=1024))
    assert "would not load" not in other["html"]


async def test_only_loaders_with_a_dry_run_are_asked(tab: ModelTab, chosen: Choice) -> None:
    name = tab.plan.name(chosen)
    for loader, spec in tab.context.loaders.items():
        answer = await tab.plan.answer(question(tab, name, loader))
        assert ("data-exact" in answer["html"]) is spec.has_dry_run


async def test_an_engine_that_was_asked_answers_the_same_load_from_then_on(tab: ModelTab, chosen: Choice) -> None:
    name = tab.plan.name(chosen)
    text = question(tab, name, context_size=256)
    await tab.plan.answer(json.dumps({**json.loads(text), "exact": True}))
    told = (await tab.plan.answer(text))["html"]
    assert "the engine's own figures" in html.unescape(told) and "data-exact" not in told
    assert "computed from the file" in (await tab.plan.answer(question(tab, name, context_size=512)))["html"]


async def test_the_route_answers_pages_that_have_the_key(tab: ModelTab, chosen: Choice) -> None:
    text = question(tab, tab.plan.name(chosen))
    with TestClient(create_api(tab.context), base_url="http://127.0.0.1:7860") as client:
        key = tab.context.page_key
        assert client.post("/page/answer/plan/wrong", content=text).status_code == 404
        assert client.post(f"/page/answer/nothing/{key}", content=text).status_code == 404
        answer = client.post(f"/page/answer/plan/{key}", content=text)
        assert "plan-bar" in answer.json()["html"]
        assert answer.headers["cache-control"] == "no-store"
        assert client.post(f"/page/answer/plan/{key}", content=b"\xff\x00").json()["html"] == ""
