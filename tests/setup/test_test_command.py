"""How `python3 app.py test` runs the suite."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from textwrap import dedent

import pytest

from webui.setup.test_command import side_by_side


@pytest.mark.parametrize("arguments", [["-n", "2"], ["-n2", "-x"], ["--numprocesses=2", "tests/pool"]])
def test_several_processes_are_told_how_to_share_the_tests(arguments: list[str]) -> None:
    assert side_by_side(arguments)


def test_several_processes_keep_the_tests_of_a_file_together(tmp_path: Path) -> None:
    """What they share is made once, and they do not meet each other."""
    text = """
        import os, pytest
        @pytest.mark.parametrize("number", range(4))
        def test(number):
            with open("{name}.pids", "a") as file:
                file.write(f"{{os.getpid()}} ")
    """
    for name in ("one", "other"):
        (tmp_path / f"test_{name}.py").write_text(dedent(text).format(name=name), encoding="utf-8")
    asked = ["-n", "2"]
    command = [sys.executable, "-m", "pytest", *side_by_side(asked), *asked]
    ran = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=120)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    one, other = ((tmp_path / f"{name}.pids").read_text().split() for name in ("one", "other"))
    assert (len(one), len(other)) == (4, 4)
    assert len(set(one)) == len(set(other)) == 1 and set(one) != set(other)


@pytest.mark.parametrize("arguments", [[], ["tests/setup", "-x"], ["-k", "plan"]])
def test_one_process_is_left_as_it_is(arguments: list[str]) -> None:
    assert side_by_side(arguments) == []
