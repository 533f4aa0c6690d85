"""How `python3 app.py test` runs the suite."""

from __future__ import annotations

import pytest

from webui.setup.test_command import side_by_side


def test_the_whole_suite_runs_in_two_processes_where_there_are_cores_for_them() -> None:
    for arguments in ([], ["-x"], ["--durations=15", "-q"]):
        assert side_by_side(arguments, cores=2)[:2] == ["-n", "2"]
        assert side_by_side(arguments, cores=1) == []


@pytest.mark.parametrize(
    "arguments", [["tests/setup"], ["-x", "tests/test_door.py::test_a"], ["-k", "plan"], ["--pdb"]]
)
def test_a_part_of_it_or_a_debugger_runs_in_one(arguments: list[str]) -> None:
    assert side_by_side(arguments, cores=64) == []
