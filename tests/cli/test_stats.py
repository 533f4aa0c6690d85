"""`stats`: what the record on disk says, as a table, as JSON, and as advice."""

from __future__ import annotations

import json
import time

import pytest

from tests.benchmarks.month_of_use import LARGE, SMALL, simulate
from webui.cli import main
from webui.paths import Paths


@pytest.fixture
def month() -> None:
    metrics, _here = simulate(Paths.from_environment().ensure().metrics, time.time())
    metrics.close()


def test_without_a_record_nothing_is_told_and_no_file_made(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["stats"]) == 0
    assert capsys.readouterr().out == "Nothing was recorded in the last 30 days.\n"
    assert not Paths.from_environment().metrics.exists()


@pytest.mark.usefixtures("month")
def test_a_table_of_models_and_backends(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["stats"]) == 0
    head, first, *others = capsys.readouterr().out.splitlines()
    assert head.split()[:4] == ["model", "loader", "replies", "failed"]
    assert first.split()[:2] == [LARGE, "xllamacpp"]
    assert {tuple(line.split()[:2]) for line in others} >= {(LARGE, "llama-cpp-python"), (SMALL, "ctransformers")}
    assert main(["stats", "--model", LARGE, "--loader", "llamafile", "--days", "7"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 2
    assert main(["stats", "--model", "nobody"]) == 1
    assert LARGE in capsys.readouterr().err


@pytest.mark.usefixtures("month")
def test_as_json_with_trends_and_advice(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["stats", "--json", "--advice", "--loader", "ctransformers"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert [(one["model"], one["errors"]) for one in report["models"]] == [(SMALL, {"broken_package": 4})]
    assert [one["rule"] for one in report["advice"]] == ["backend-never-works"]
    assert main(["stats", "--json", "--days", "90"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert "advice" not in report
    speeds = [one for one in report["trends"] if (one["model"], one["figure"]) == (LARGE, "speed")]
    assert {line["loader"] for line in speeds[0]["lines"]} == {"xllamacpp", "llama-cpp-python", "llamafile"}


@pytest.mark.usefixtures("month")
def test_advice_in_words(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["stats", "--advice"]) == 0
    told = capsys.readouterr().out
    assert f"{LARGE} fails 3 of 4 loads at 32,768 tokens of context with xllamacpp." in told
    assert "  → Load with 8,192 tokens of context" in told
    assert "device out of memory 3" in told
