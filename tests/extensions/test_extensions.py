"""Extensions: every hook works, and one that fails is reported and stops nothing."""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from webui.extensions import ExtensionHost, ExtensionState
from webui.loaders.contract import GenerationRequest
from webui.loaders.sampling import SamplingParameters
from webui.loaders.supervisor import WorkerProcess
from webui.models.facts import ModelFacts, ModelFormat
from webui.paths import Paths
from webui.settings import Settings

TOY = '''
"""A backend that says the prompt backwards."""

from webui.hooks import hook
from webui.loaders.contract import Chunk, Finished, LoadedModel, Loader, LoaderSpec, Verdict
from webui.loaders.parameters import Parameters
from webui.models.facts import ModelFormat


class BackwardsParameters(Parameters):
    pass


class Backwards(Loader[BackwardsParameters]):
    def load(self, progress):
        return LoadedModel(context_size=64, device="CPU", device_kind="cpu", engine="backwards", engine_version="1")

    def tokenize(self, text, *, add_bos):
        return list(text.encode())

    def generate(self, request, cancelled):
        for letter in reversed(request.prompt):
            yield Chunk(letter)
        yield Finished("stop", len(request.prompt), len(request.prompt), 0.0, 0.0)


@hook
def add_loaders():
    return [
        LoaderSpec(
            name="backwards", title="Backwards", summary="", parameters=BackwardsParameters, loader=Backwards,
            formats=frozenset({ModelFormat.GGUF}), devices=("cpu",), samplers=frozenset(),
            can_open=lambda facts: Verdict(True, "it opens anything"),
        )
    ]
'''


@dataclass
class House:
    """A checkout and a home of the test's own, with extensions in them."""

    paths: Paths

    def add(self, name: str, code: str, *, shipped: bool = False) -> None:
        folder = (self.paths.project_extensions if shipped else self.paths.extensions) / name
        folder.mkdir(parents=True)
        (folder / "__init__.py").write_text(textwrap.dedent(code))

    def host(self, **values: Any) -> ExtensionHost:
        settings = Settings.load(self.paths, environment={}, command_line=values)
        host = ExtensionHost(self.paths, settings)
        host.load()
        return host


@pytest.fixture
def house(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[House]:
    monkeypatch.setattr(sys, "path", list(sys.path))
    paths = Paths(home=tmp_path / "home", project_root=tmp_path / "project").ensure()
    yield House(paths)
    for name in [name for name in sys.modules if name.startswith("extensions.")]:
        del sys.modules[name]


def test_values_pass_through_all_extensions_by_name(house: House) -> None:
    for name in ("beta", "alpha"):
        house.add(
            name,
            f'''
            """Marks what it sees.

            More is told here."""
            from webui.hooks import hook

            @hook
            def change_prompt(prompt):
                return prompt + "-{name}"

            @hook
            def change_reply(text):
                return None

            @hook
            def change_sampling(sampling):
                return sampling.model_copy(update={{"max_tokens": sampling.max_tokens + 1}})
            ''',
            shipped=name == "beta",
        )
    host = house.host()
    assert host.problems == []
    assert [(item.name, item.own, item.state, item.summary) for item in host.extensions] == [
        ("alpha", True, ExtensionState.LOADED, "Marks what it sees."),
        ("beta", False, ExtensionState.LOADED, "Marks what it sees."),
    ]
    assert host.change_prompt("x") == "x-alpha-beta"
    assert host.change_reply("x") == "x"
    assert host.change_sampling(SamplingParameters(max_tokens=5)).max_tokens == 7


@pytest.mark.parametrize(
    ("code", "hook", "message"),
    [
        ("import nothing_of_that_name", "import", "ModuleNotFoundError"),
        ("def broken(:", "import", "SyntaxError"),
        ("raise SystemExit(3)", "import", "SystemExit"),
        ("from webui.hooks import hook\n@hook\ndef change_promt(prompt): ...", "import", "change_promt"),
        ("from webui.hooks import hook\n@hook\ndef change_prompt(text): ...", "import", "text"),
        ("from webui.hooks import hook\n@hook(wrapper=True)\ndef change_prompt(): yield", "import", "wrapper"),
    ],
)
def test_one_that_cannot_be_loaded_is_reported_and_the_next_one_works(
    house: House, code: str, hook: str, message: str
) -> None:
    house.add("bad_one", code)
    house.add("good", "from webui.hooks import hook\n@hook\ndef change_prompt(prompt): return prompt + '!'")
    host = house.host()
    (problem,) = host.problems
    assert (problem.extension, problem.hook) == ("bad_one", hook)
    assert message in problem.message
    assert problem.evidence
    assert [item.state for item in host.extensions] == [ExtensionState.FAILED, ExtensionState.LOADED]
    assert host.change_prompt("x") == "x!"


def test_a_hook_that_raises_or_returns_nonsense_leaves_the_value(house: House) -> None:
    house.add("raises", "from webui.hooks import hook\n@hook\ndef change_prompt(prompt): raise ValueError('no')")
    house.add("wrong", "from webui.hooks import hook\n@hook\ndef change_prompt(prompt): return 7")
    host = house.host()
    assert [host.change_prompt("x") for _ in range(3)] == ["x", "x", "x"]
    raised, wrong = host.problems
    assert (raised.message, raised.times) == ("ValueError: no", 3)
    assert any("raise ValueError" in line for line in raised.evidence)
    assert (wrong.extension, wrong.hook, wrong.times) == ("wrong", "change_prompt", 3)
    assert "returned int, not str" in wrong.message


def test_switched_off_ones_are_not_imported(house: House) -> None:
    house.add("loud", "raise RuntimeError('imported')")
    for values in ({"extensions.disabled": ("loud",)}, {"extensions.enabled": False}):
        host = house.host(**values)
        assert host.problems == []
        assert [item.state for item in host.extensions] == [ExtensionState.OFF]


def test_odd_folders_are_reported_or_passed_over(house: House) -> None:
    house.add("twice", "", shipped=True)
    house.add("twice", "")
    house.add("not-a-name", "")
    (house.paths.extensions / "empty").mkdir()
    (house.paths.extensions / "no_init").mkdir()
    (house.paths.extensions / "no_init" / "code.py").write_text("")
    (house.paths.extensions / ".git").mkdir()
    host = house.host()
    assert {problem.extension for problem in host.problems} == {"twice", "not-a-name", "no_init"}
    assert [(item.name, item.own) for item in host.extensions] == [("twice", False)]


def test_tabs_and_panels_are_built_under_guard(house: House) -> None:
    house.add(
        "pages",
        """
        from webui.hooks import Panel, Tab, hook

        def build(context):
            context.append("built")

        def fail(context):
            context.append("begun")
            raise KeyError("gone")

        @hook
        def add_tabs():
            return [Tab("Mine", build), Tab("Broken", fail), "not a tab"]

        @hook
        def add_panels():
            return [Panel("Side", build), Panel("Cards", build, place="hardware")]
        """,
    )
    host = house.host()
    context: list[str] = []
    for title, build in host.tabs():
        context.append(title)
        build(context)
    assert context == ["Mine", "built", "Broken", "begun"]
    assert [title for title, _ in host.panels("chat")] == ["Side"]
    assert [title for title, _ in host.panels("hardware")] == ["Cards"]
    assert [problem.message for problem in host.problems] == [
        "it returned str where a Tab belongs",
        "KeyError: 'gone'",
    ]


def test_routes_lie_under_the_extension(house: House) -> None:
    house.add(
        "web",
        """
        from webui.hooks import hook

        @hook
        def add_routes(router, context):
            @router.get("/hello")
            def hello():
                return {"hello": context}
        """,
    )
    house.add("bad", "from webui.hooks import hook\n@hook\ndef add_routes(router): raise OSError('no')")
    host = house.host()
    app = FastAPI()
    host.routes(app, "world")
    with TestClient(app) as client:
        assert client.get("/extensions/web/hello").json() == {"hello": "world"}
    assert [problem.extension for problem in host.problems] == ["bad"]


async def test_a_loader_of_an_extension_runs_in_a_worker(house: House) -> None:
    house.add("backwards_backend", TOY)
    host = house.host()
    specs = host.loaders()
    assert (list(specs), host.problems) == (["backwards"], [])
    facts = ModelFacts(Path("model.gguf"), ModelFormat.GGUF, (), 0, "model")
    worker = WorkerProcess(specs["backwards"])
    await worker.start()
    try:
        await worker.load(facts, specs["backwards"].parameters(), lambda step, share: None)
        events = [event async for event in worker.generate(GenerationRequest("olleh")).events()]
    finally:
        await worker.stop()
    assert "".join(event.text for event in events[:-1]) == "hello"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ('name="backwards"', 'name="auto"'),
        ("parameters=BackwardsParameters", "parameters=dict"),
        ("loader=Backwards", "loader=int"),
    ],
)
def test_a_loader_the_app_could_not_use_is_refused(house: House, change: str, message: str) -> None:
    house.add("backwards_backend", TOY.replace(change, message))
    host = house.host()
    assert host.loaders() == {}
    assert [problem.hook for problem in host.problems] == ["add_loaders"]
