"""Asking a small program of the operating system for a fact, within a bound."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Mapping, Sequence

TIMEOUT_SECONDS = 5.0

RunProgram = Callable[[Sequence[str]], str]
"""Runs a command and returns its standard output; raises `OSError` or `subprocess.SubprocessError`."""


def run_program(command: Sequence[str]) -> str:
    """Standard output of `command`; its errors and exit status are left aside, since partial answers are useful."""
    done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_SECONDS, check=False)
    return done.stdout


def sysctl(run: RunProgram, *trees: str) -> Mapping[str, str]:
    """macOS's own facts under the given names, as `name: value` lines tell them."""
    found = {}
    for line in run(["/usr/sbin/sysctl", *trees]).splitlines():
        name, colon, value = line.partition(": ")
        if colon:
            found[name] = value.strip()
    return found
