"""How `python3 app.py test` runs the suite."""

from __future__ import annotations

import pytest

from webui.setup.test_command import side_by_side


@pytest.mark.parametrize("arguments", [["-n", "2"], ["-n2", "-x"], ["--numprocesses=2", "tests/pool"]])
def test_several_processes_keep_the_tests_of_a_file_together(arguments: list[str]) -> None:
    assert side_by_side(arguments)[:2] == ["--dist", "loadgroup"]


@pytest.mark.parametrize("arguments", [[], ["tests/setup", "-x"], ["-k", "plan"]])
def test_one_process_is_left_as_it_is(arguments: list[str]) -> None:
    assert side_by_side(arguments) == []
