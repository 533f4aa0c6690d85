"""`tune` on the command line: what it prints, what it keeps, and how it ends."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.builders.gguf import tiny_llama_bpe
from webui.cli import main
from webui.cli.ending import FAILED, WRONG_USAGE
from webui.paths import Paths

EXTENSION = """
from tests.fakes.tunable import SPEC
from webui.hooks import hook


@hook
def add_loaders():
    return [SPEC]
"""


@pytest.fixture
def model(tmp_path: Path) -> str:
    """A model, and a home where the fake engine comes first, which is faster with poll at 0."""
    paths = Paths.from_environment().ensure()
    extension = paths.extensions / f"tunable_{tmp_path.name}"  # modules are this process's, homes a test's
    extension.mkdir()
    (extension / "__init__.py").write_text(EXTENSION)
    engine = {"speed": "poll=0:80", "faults": "poll=100:refuse", "threads": 1}
    settings = {"backends": {"fallback_order": ["tunable"]}, "loaders": {"tunable": engine}}
    paths.settings_file.write_text(json.dumps(settings))
    return str(tiny_llama_bpe(tmp_path / "tiny.gguf"))


def test_it_says_what_was_gained_and_forgets_it_again(model: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tune", model, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["found"]["parameters"] == {"poll": 0} and told["improved"] and told["decided"]
    assert told["summary"].startswith("1.50 × the default: replies 80.0 against 50.0 tokens/s")
    assert {trial["failure"] for trial in told["trials"]} == {None, "The engine refuses."}
    assert main(["run", model, "hello there", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["loader"] == "tunable"
    assert main(["tune", model, "--forget"]) == 0
    assert "Forgotten: tiny" in capsys.readouterr().out
    assert main(["tune", model, "--forget", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"model": "tiny", "forgotten": []}


def test_the_table_has_every_trial(model: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tune", model, "--loader", "tunable"]) == 0
    out = capsys.readouterr().out
    assert "tunable, poll 0" in out and "1.50 ×" in out and "The engine refuses." in out
    assert out.rstrip().endswith("poll 50 → 0")


def test_what_cannot_be_tuned_is_told(model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tune", model, "--loader", "nonsense"]) == WRONG_USAGE
    assert main(["tune", model, "--loader", "ctransformers"]) == FAILED
    assert main(["tune", str(tmp_path / "none.gguf")]) == FAILED
    assert "Traceback" not in capsys.readouterr().err
