"""The calls for programs and notebooks, from outside and inside a running event loop, with real engines."""

from __future__ import annotations

import asyncio
import inspect
import re
import threading
from pathlib import Path

import psutil
import pytest

from tests.builders.gguf import tiny_llama_bpe
from tests.faults.file_cells import spoil
from webui import toolkit
from webui.cli.application import application
from webui.diagnostics.bundle_reader import read_bundle
from webui.errors import AppError, ModelNotFound, NotLoaded
from webui.paths import PROJECT_ROOT, Paths

ENGINE = "xllamacpp"


@pytest.fixture
def model(isolation: Path) -> Path:
    return tiny_llama_bpe(Paths.from_environment().ensure().models / "tiny.gguf")


@pytest.mark.engine
def test_a_model_is_looked_at_without_loading_it(model: Path) -> None:
    assert {one.name for one in toolkit.detect_backends()} >= {ENGINE, "transformers"}
    judged = {one.loader: one for one in toolkit.check_compatibility("tiny")}
    assert judged[ENGINE].suitable and not judged["ctransformers"].opens
    best = toolkit.recommend_backend("tiny")
    assert best.backend == best.order[0] and judged[best.backend].suitable
    assert toolkit.inspect(model).architecture == "llama"
    small, large = (toolkit.plan(model, ENGINE, context_size=size) for size in (512, 2048))
    assert small.loader == ENGINE and 0 < small.total < large.total
    with pytest.raises(ModelNotFound):
        toolkit.inspect("nothing of that name")


@pytest.mark.engine
def test_a_loaded_model_answers_streams_and_is_profiled_and_leaves_nothing_behind(model: Path) -> None:
    threads = set(threading.enumerate())
    with toolkit.load(model, ENGINE, context_size=512) as loaded:
        assert (loaded.success, loaded.backend, loaded.error) == (True, ENGINE, None)
        assert (loaded.model, loaded.path, loaded.to_dict()["backend"]) == ("tiny", model, ENGINE)
        assert loaded.load_time and loaded.load_time > 0
        assert loaded.memory_usage and loaded.memory_usage > 1 << 20
        pieces = list(loaded.stream("Hello", max_tokens=12, temperature=0.0))
        assert len(pieces) > 1 and "".join(pieces)
        assert loaded.generate("Hello", max_tokens=12, temperature=0.0) == "".join(pieces)
        for _ in loaded.stream("Hello", max_tokens=400):
            break  # the rest is not written
        profile = loaded.profile("Hello", max_tokens=8)
        assert {"template", "queue", "prompt", "tokens"} <= {span.name for span in profile.spans}
        with pytest.raises(AppError, match="temperature"):
            loaded.generate("Hello", temperature=-3)
        with pytest.raises(AppError, match="tempersture"):
            loaded.generate("Hello", tempersture=1)
    with pytest.raises(NotLoaded):
        loaded.generate("Hello")
    loaded.close()
    assert psutil.Process().children() == [] or all(
        "worker" not in " ".join(one.cmdline()) for one in psutil.Process().children()
    )
    assert set(threading.enumerate()) <= threads


@pytest.mark.engine
def test_a_load_that_fails_says_so_in_its_result(model: Path) -> None:
    with toolkit.load(model, "ctransformers") as loaded:
        assert not loaded.success and loaded.error is not None and "ctransformers" in loaded.error.message
        assert "not loaded" in repr(loaded)
        with pytest.raises(type(loaded.error)):
            loaded.generate("Hello")
    assert toolkit.load(model, ENGINE, context_size=1).error is not None


@pytest.mark.engine
async def test_in_a_notebook_an_event_loop_is_running_already(model: Path) -> None:
    assert asyncio.get_running_loop().is_running()
    assert toolkit.inspect("tiny").block_count == 2


@pytest.mark.engine
def test_all_models_are_tested_measured_and_compared(model: Path, tmp_path: Path) -> None:
    broken = tiny_llama_bpe(model.with_name("broken.gguf"))
    seen: list[str] = []
    toolkit.inspect("broken")  # the catalogue knows it as it was
    spoil(broken, "bit-flipped")
    results = toolkit.test_models(backends=[ENGINE], on_result=lambda one: seen.append(one.model))
    assert [(one.model, one.success) for one in results] == [("tiny", True)] and seen == ["tiny"]
    runs = [toolkit.benchmark(model, [ENGINE], depths=[0], runs=1, tokens=4) for _ in range(2)]
    toolkit.save_baseline("before", runs[0])
    found = toolkit.compare("before")
    assert (found.now, found.before) == (runs[1].id, runs[0].id)
    assert {"generation speed", "load time"} <= {one.what for one in found.differences}


@pytest.mark.engine
def test_settings_are_fitted_to_the_hardware_and_used_from_then_on(model: Path) -> None:
    found = toolkit.optimize(model, [ENGINE], minutes=0.1)
    assert found is None or found.loader == ENGINE
    if found is not None and found.parameters:
        with toolkit.load(model, ENGINE) as loaded:
            assert loaded.success


def test_what_is_wrong_and_a_bundle_of_it(tmp_path: Path) -> None:
    checks = toolkit.diagnose()
    assert {"Python", "Memory"} <= {one.name for one in checks}
    assert "loads" in read_bundle(toolkit.support_bundle(tmp_path)).files["replay.json"]


def test_older_settings_are_carried_over(isolation: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(isolation))
    (isolation / "config.json").write_text('{"n_ctx": 1234, "n_threads": 3}')
    assert toolkit.migrate(dry_run=True).effects
    assert not Paths.from_environment().settings_file.exists()
    assert toolkit.migrate().effects
    assert not toolkit.migrate().effects


def test_each_call_is_documented_with_its_command() -> None:
    page = (PROJECT_ROOT / "docs" / "python.md").read_text("utf-8")
    commands = {info.name or info.callback.__name__.replace("_", "-") for info in application.registered_commands}
    for name in set(toolkit.__all__) - {"Model"}:
        assert inspect.getdoc(getattr(toolkit, name)), name
        row = re.search(rf"^\|.*`{name}\(.*?\| (?P<commands>[^|]+) \|", page, re.MULTILINE)
        assert row is not None, f"docs/python.md does not tell of {name}"
        told = re.findall(r"`([a-z][a-z-]*)`", row["commands"])
        assert told and set(told) <= commands, name
