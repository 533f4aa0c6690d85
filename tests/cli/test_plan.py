"""`plan`: what a load would take, as a table and as JSON, from the file and from the engine."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.builders.gguf import tiny_llama_bpe
from webui.cli import main
from webui.cli.ending import FAILED, WRONG_USAGE


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return tiny_llama_bpe(tmp_path / "tiny.gguf")


def told(capfd: pytest.CaptureFixture[str]) -> Any:
    return json.loads(capfd.readouterr().out)


@pytest.mark.engine
def test_json_tells_each_device_and_more_context_takes_more(model: Path, capfd: pytest.CaptureFixture[str]) -> None:
    totals = []
    for context in ("512", "2048"):
        asked = ["--loader", "llama-cpp-python", "--set", f"context_size={context}", "--json"]
        assert main(["plan", str(model), *asked]) == 0
        report = told(capfd)
        assert (report["loader"], report["exact"], report["fits"]) == ("llama-cpp-python", False, True)
        (memory,) = report["devices"]
        parts = sum(memory[name] for name in ("weights", "kv_cache", "compute", "other"))
        assert parts == memory["total"] == report["total"] < memory["available"]
        totals.append(report["total"])
    assert totals[1] > totals[0]


@pytest.mark.engine
def test_the_engines_own_figures(model: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", str(model), "--loader", "xllamacpp", "--exact", "--json"]) == 0
    assert told(capfd)["exact"] is True
    assert main(["plan", str(model), "--loader", "xllamacpp", "--exact"]) == 0
    text = capfd.readouterr().out
    assert text.startswith("tiny with xllamacpp fits (the engine's own figures).")
    assert "KV cache" in text


def test_what_cannot_be_planned_is_said_with_a_hint(model: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", str(model), "--loader", "ctransformers", "--exact"]) == FAILED
    assert "cannot plan a load without doing it" in capfd.readouterr().err
    assert main(["plan", str(model), "--loader", "llama"]) == WRONG_USAGE
    assert "There is no loader called 'llama'" in capfd.readouterr().err
    assert main(["plan", str(model), "--set", "context_sise=3"]) == WRONG_USAGE
    assert "context_size" in capfd.readouterr().err
    assert main(["plan", "nowhere.gguf"]) == FAILED
    assert "nowhere.gguf" in capfd.readouterr().err
