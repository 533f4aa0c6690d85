"""`backends`, `recommend`, `compat`, `load`, `test-models`, `compare` and `profile`, as they are typed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.builders.gguf import tiny_llama_bpe
from tests.faults.file_cells import spoil
from webui.cli import main
from webui.cli.ending import FAILED, WRONG_USAGE
from webui.cli.profile import WIDTH, bar

ENGINE = "xllamacpp"


@pytest.fixture
def model(tmp_path: Path) -> Path:
    (tmp_path / "models").mkdir()
    return tiny_llama_bpe(tmp_path / "models" / "tiny.gguf")


def told(capfd: pytest.CaptureFixture[str]) -> Any:
    return json.loads(capfd.readouterr().out)


@pytest.mark.engine
def test_which_backends_open_a_model_and_which_is_advised(model: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["compat", str(model), "--json"]) == 0
    ((found,),) = (told(capfd),)
    judged = {one["backend"]: one for one in found["backends"]}
    assert judged[ENGINE]["ready"] and not judged["ctransformers"]["compatible"]
    assert main(["compat", str(model)]) == 0
    assert "opens it" in capfd.readouterr().out
    assert main(["recommend", str(model), "--json"]) == 0
    assert told(capfd)["backend"] == found["backends"][0]["backend"]
    assert main(["backends", "--json"]) == 0
    assert {ENGINE, "transformers"} <= {one["name"] for one in told(capfd)}
    assert main(["compat"]) == WRONG_USAGE
    assert main(["compat", str(model), "--all"]) == WRONG_USAGE
    assert main(["compat", "--all"]) == 0
    assert "no model in the models folder" in capfd.readouterr().out


@pytest.mark.engine
def test_models_are_really_loaded(model: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["load", str(model), "--loader", ENGINE, "--set", "context_size=512", "--json"]) == 0
    result = told(capfd)
    assert (result["success"], result["backend"], result["error"]) == (True, ENGINE, None)
    assert result["load_time"] > 0 and result["memory_usage"] > 1 << 20
    other = tiny_llama_bpe(model.with_name("lost.gguf"))
    spoil(other, "missing-tensor")
    assert main(["test-models", str(model.parent), "--loaders", ENGINE, "--json"]) == FAILED
    found = {one["model"]: one for one in told(capfd)}
    assert found["tiny"]["success"] and not found["lost"]["success"]
    assert found["lost"]["error"]["code"] == "corrupt_file" and found["lost"]["steps"] == 1
    assert main(["load", str(other), "--loader", ENGINE]) == FAILED
    assert "no" in capfd.readouterr().out
    other.unlink()
    assert main(["test-models", str(model.parent), "--loaders", ENGINE]) == 0


@pytest.mark.engine
def test_two_benchmarks_are_compared_without_measuring(model: Path, capfd: pytest.CaptureFixture[str]) -> None:
    quick = ["--loaders", ENGINE, "--depths", "0", "--runs", "1", "--tokens", "4", "--json"]
    assert main(["bench", str(model), *quick, "--save-baseline", "monday"]) == 0
    first = told(capfd)["id"]
    assert main(["compare", "monday"]) == WRONG_USAGE
    assert "no other run" in capfd.readouterr().err
    assert main(["bench", str(model), *quick]) == 0
    second = told(capfd)["id"]
    assert main(["compare", "monday", "--json"]) == 0
    found = told(capfd)
    assert (found["now"], found["before"]) == (second, first)
    assert main(["compare", second, first]) == 0
    assert "%" in capfd.readouterr().out
    assert main(["compare", "tuesday"]) == FAILED


@pytest.mark.engine
def test_where_the_time_of_a_reply_goes(model: Path, capfd: pytest.CaptureFixture[str]) -> None:
    asked = ["profile", str(model), "Hello", "--loader", ENGINE, "--set", "max_tokens=12", "--set", "context_size=512"]
    assert main([*asked, "--json"]) == 0
    found = told(capfd)
    spans = {span["name"]: span for span in found["spans"]}
    assert list(spans) == ["template", "queue", "prompt", "first token", "tokens", "rendering"]
    assert all(0 <= span["start"] <= span["end"] <= found["total_seconds"] for span in spans.values())
    assert spans["prompt"]["start"] == spans["queue"]["end"] and spans["tokens"]["start"] == spans["first token"]["end"]
    assert found["first_token_seconds"] == spans["first token"]["end"]
    assert main(asked) == 0
    captured = capfd.readouterr()
    assert [line.split()[0] for line in captured.out.splitlines()[1:7]] == [
        "template",
        "queue",
        "prompt",
        "first",
        "tokens",
        "rendering",
    ]
    assert captured.err.strip()


def test_bars_are_to_scale() -> None:
    assert bar(0.0, 1.0, 1.0) == "█" * WIDTH
    assert bar(0.5, 1.0, 1.0) == " " * (WIDTH // 2) + "█" * (WIDTH // 2)
    assert bar(1.0, 1.0, 1.0) == " " * (WIDTH - 1) + "▏"
    assert bar(0.0, 0.0, 0.0) == ""
