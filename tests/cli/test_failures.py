"""`failures`: what the history on disk holds, as lines and as JSON."""

from __future__ import annotations

import json

import pytest

from webui.cli import main
from webui.errors import EngineCrashed
from webui.paths import Paths
from webui.planning.recovery import Attempt, StepKind
from webui.pool.history import History
from webui.pool.status import Failure, LoadStory, Rung


def remember() -> None:
    history = History(Paths.from_environment().ensure().history)
    crash = EngineCrashed("toy crashed.", cause="SIGSEGV")
    failed = Rung(Attempt(StepKind.ASKED, "toy", {}), "failed", 1.0, 2.0, crash)
    worked = Rung(Attempt(StepKind.NEXT_LOADER, "other", {}), "worked", 3.0, 1.0)
    now = 1.8e9
    history.add_load(LoadStory("tiny", "/tiny.gguf", "auto", "load", now, 3.0, (failed, worked), "loaded", "other"))
    history.add_failure(Failure("load", "toy", "tiny", crash, at=now))
    history.add_failure(Failure("reply", "other", "tiny", crash, at=now + 1))
    history.close()


def test_without_a_history_nothing_has_failed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["failures"]) == 0
    assert capsys.readouterr().out == "Nothing has failed.\n"
    assert not Paths.from_environment().history.exists()


def test_newest_first_with_what_to_do_and_rates(capsys: pytest.CaptureFixture[str]) -> None:
    remember()
    assert main(["failures"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].endswith("other · tiny · at reply")
    assert lines[1] == "  engine_crashed: toy crashed. (SIGSEGV)"
    assert lines[2].startswith("  → Load the model again")
    assert lines[3].endswith("toy · tiny · at load")
    assert [line.split() for line in lines[-2:]] == [
        ["other", "1", "1", "100%", "engine_crashed", "1"],
        ["toy", "1", "1", "100%", "engine_crashed", "1"],
    ]


def test_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    remember()
    assert main(["failures", "--json", "--limit", "1"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert [rung["state"] for rung in report["loads"][0]["rungs"]] == ["failed", "worked"]
    assert [failure["phase"] for failure in report["failures"]] == ["reply"]
    assert {rate["loader"]: rate["by_category"] for rate in report["rates"]} == {
        "other": {"hardware": 1},
        "toy": {"hardware": 1},
    }
