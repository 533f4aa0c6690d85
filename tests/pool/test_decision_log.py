"""The log of decisions: bounded, kept over a restart, and nothing that a load could fail of."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.planning.situations import situation
from tests.pool.conftest import facts
from webui.planning.decisions import LadderQuestion, decide
from webui.pool.decision_log import LATEST, TROUBLED, DecisionLog
from webui.pool.status import LoadStory, Outcome


async def noted(log: DecisionLog, *outcomes: Outcome) -> None:
    for number, outcome in enumerate(outcomes):
        story = LoadStory(f"model {number}", "", "auto", "load", float(number), 1.0, (), outcome)
        log.note(story, {"context_size": 512}, [[decide(LadderQuestion(situation(facts=facts("any"))))]])
        await log.close()


async def test_the_latest_and_those_that_failed_are_kept_over_a_restart(tmp_path: Path) -> None:
    log = DecisionLog(tmp_path / "decisions.json")
    await noted(log, *["failed"] * 9, *["loaded"] * 5)
    names = [entry["model"] for entry in log.latest()]
    assert names == [f"model {number}" for number in [*range(13, 13 - LATEST, -1), *range(8, 8 - TROUBLED, -1)]]
    again = DecisionLog(tmp_path / "decisions.json").latest()
    assert again == log.latest()
    assert again[0]["parameters"] == {"context_size": 512} and len(again[0]["climbs"][0]["decisions"]) == 1
    assert (tmp_path / "decisions.json").stat().st_mode & 0o077 == 0


async def test_without_a_climb_there_is_nothing_to_keep(tmp_path: Path) -> None:
    log = DecisionLog(tmp_path / "decisions.json")
    log.note(LoadStory("m", "", "auto", "load", 0.0, 1.0, (), "failed"), {}, [])
    await log.close()
    assert log.latest() == [] and not (tmp_path / "decisions.json").exists()


@pytest.mark.parametrize("content", ["", "[", "[]", '{"version": 1}', '{"version": 9, "loads": []}', "[" * 100_000])
async def test_a_damaged_file_is_begun_anew(content: str, tmp_path: Path) -> None:
    file = tmp_path / "decisions.json"
    file.write_text(content)
    log = DecisionLog(file)
    assert log.latest() == []
    await noted(log, "failed")
    assert len(DecisionLog(file).latest()) == 1


async def test_a_disk_that_takes_nothing_costs_the_copy_alone(tmp_path: Path) -> None:
    (tmp_path / "full").write_text("")
    log = DecisionLog(tmp_path / "full" / "decisions.json")
    await noted(log, "failed")
    assert len(log.latest()) == 1
