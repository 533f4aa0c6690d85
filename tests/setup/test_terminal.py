"""Progress on a terminal and into a file."""

from __future__ import annotations

import io

from webui.errors import SetupFailed
from webui.setup.terminal import TerminalProgress, write_error


class Screen(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_terminal_keeps_one_line() -> None:
    screen = Screen()
    progress = TerminalProgress("Setting up", screen)
    progress("finding gradio", 0.5)
    progress.finish("done.")
    shown = screen.getvalue()
    assert "[############            ]  50% finding gradio" in shown
    assert shown.count("\n") == 1
    assert shown.endswith("\rSetting up: done.\n")


def test_a_file_gets_a_line_when_the_work_moves_on() -> None:
    file = io.StringIO()
    progress = TerminalProgress("Setting up", file)
    for step in range(101):
        progress(f"fetching {step}", step / 100)
        progress(f"finding {step}", step / 100)
    progress("installing 3 packages", 1.0)
    lines = file.getvalue().splitlines()
    assert lines[0] == "Setting up: 0% fetching 0"
    assert lines[-1] == "Setting up: 100% installing 3 packages"
    assert len(lines) == 13


def test_an_error_is_a_line_of_cause_and_one_of_hint() -> None:
    file = io.StringIO()
    write_error(SetupFailed("It did not work.", cause="no reason", hint="Try again."), file)
    assert file.getvalue() == "Error: It did not work. (no reason)\nHint: Try again.\n"
