"""The commands of the documentation that the suite runs in another form, each with the reason.

This table is the only way around running a command as it stands. Keep it short: a test fails for an entry that no page
needs, and for one without a reason.
"""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Substitute:
    """`command` is replaced by `instead`, in a console block or a sentence; both as a reader would type them."""

    command: str
    instead: str
    reason: str


INSTALLS = "asks a package index; installing has tests of its own, against an index on this machine"

SUBSTITUTES = (
    Substitute(
        "python3 app.py",
        "python3 app.py --help",
        "serves until it is ended; the server that the samples of the API ask is started with it",
    ),
    Substitute(
        "python3 app.py test", "python3 -m pytest --version", "is how this suite is run; it would run within itself"
    ),
    Substitute(
        ".venv/bin/python -m mypy", ".venv/bin/python -m mypy --version", "takes a minute, and needs the checkout"
    ),
    Substitute("python3 app.py setup transformers", "python3 app.py setup transformers --plan", INSTALLS),
    Substitute("python3 app.py setup llama-cpp-python", "python3 app.py setup llama-cpp-python --plan", INSTALLS),
    Substitute(
        "CMAKE_ARGS=-DGGML_VULKAN=on python3 app.py setup llama-cpp-python",
        "CMAKE_ARGS=-DGGML_VULKAN=on python3 app.py setup llama-cpp-python --plan",
        INSTALLS,
    ),
    Substitute(
        "CMAKE_ARGS=-DGGML_VULKAN=on python3 -m pip install --force-reinstall --no-deps --no-cache-dir "
        "-r requirements/llama-cpp-python.txt",
        "python3 -m pip --version && test -f requirements/llama-cpp-python.txt",
        INSTALLS,
    ),
    Substitute(
        "python3 -m pip download -r requirements/transformers.txt -d FOLDER",
        "python3 -m pip download --help && test -f requirements/transformers.txt && mkdir FOLDER",
        INSTALLS,
    ),
    Substitute(
        "python3 app.py setup transformers --wheels FOLDER",
        "python3 app.py setup transformers --wheels FOLDER --plan",
        INSTALLS,
    ),
    Substitute("python3 app.py setup xllamacpp --rollback", "python3 app.py setup --help", INSTALLS),
    Substitute("python3 app.py setup xllamacpp --repair", "python3 app.py setup xllamacpp --check", INSTALLS),
    Substitute(
        "python3 app.py setup ctransformers",
        "python3 app.py setup ctransformers --plan",
        INSTALLS,
    ),
)

LESS = {
    "bench": "--loaders xllamacpp --runs 1 --tokens 4 --depths 0",
    "tune": "--loader xllamacpp --minutes 0.1",
    "run": "--set max_tokens=24",
    "profile": "--set max_tokens=24",
}
"""What is added to commands that measure for minutes, so that they measure for seconds."""


def as_run(command: str) -> str:
    """The command that the suite runs for `command`; mostly the same."""
    plain = without_remark(command)
    for entry in SUBSTITUTES:
        if plain == entry.command:
            return entry.instead
    found = re.match(r"(?:\w+=\S+ )*python3 app\.py (\w+) [^-\s]", plain)
    if found and found[1] in LESS:
        return f"{plain} {LESS[found[1]]}"
    return command


def without_remark(command: str) -> str:
    """Without the remark behind it, and the blanks before that."""
    return re.sub(r"\s+# .*$", "", command).strip()
