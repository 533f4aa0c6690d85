"""The corpus of older configurations: every value is accounted for, carried once, and undone to the byte."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.migration.conftest import Laid_, picture
from tests.migration.corpus import CASES, OUTCOMES, table
from webui.migration.plan import Effects, Outcome
from webui.migration.planner import unaccounted
from webui.migration.undoing import undo


def test_there_are_enough_of_them() -> None:
    assert len(CASES) >= 60


def test_what_becomes_of_every_value_is_what_people_have_read(tmp_path: Path) -> None:
    """After a change of a rule: `python -m tests.migration.corpus --write`, and read the difference."""
    assert table(tmp_path) == OUTCOMES.read_text(encoding="utf-8")


@pytest.mark.parametrize("name", CASES)
def test_a_case_loses_nothing_is_done_once_and_undone_to_the_byte(name: str, tmp_path: Path) -> None:
    laid = Laid_(tmp_path / "user", CASES[name])
    before = picture(laid.root)
    found = laid.survey()
    assert unaccounted(found.documents, found.plan) == []
    for line in found.plan.lines:
        assert line.outcome is Outcome.CARRIED or line.why(), f"{line.name} is left without a word"
        assert line.targets or line.outcome is not Outcome.CARRIED
    assert picture(laid.root) == before, "looking has changed something"
    if not found.plan.effects:
        return
    problems = [problem.message for problem in laid.settings().problems]
    laid.carry()
    after = laid.settings()
    for key, value in found.plan.effects.settings.items():
        assert after.shown()[key] == value
    if not found.plan.effects.new_form:
        assert [problem.message for problem in after.problems] == problems
    assert laid.survey().plan.effects == Effects(), "a second time would change something"
    own = {str(laid.paths.home / name) for name in ("settings.yaml", "backend_config.json")}
    now = picture(laid.root)
    assert {place: facts for place, facts in now.items() if place in before and str(laid.root / place) not in own} == {
        place: facts for place, facts in before.items() if str(laid.root / place) not in own
    }
    undo(laid.paths)
    assert picture(laid.root) == before
