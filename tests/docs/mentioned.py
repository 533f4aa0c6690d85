"""Judges commands that a sentence names, without running them: would the real command line take them?"""

from __future__ import annotations

import importlib.util
import re
import shlex
from collections.abc import Sequence
from typing import Any

import typer
from typer.core import TyperGroup
from typer.exceptions import TyperException

from webui.cli.application import application
from webui.paths import PROJECT_ROOT

PLACEHOLDERS = {"N": "1", "FILE": "model.gguf"}
"""What a reader puts in; other words in capitals are names already."""
VARIABLE = re.compile(r"\w+=\S*")


def problem(command: str) -> str | None:
    """Why the command cannot be meant, or None."""
    words = [word for word in shlex.split(command) if word != "…"]
    while words and VARIABLE.fullmatch(words[0]):
        words = words[1:]
    rest = words[1:]
    if not re.fullmatch(r"(?:\.venv/bin/)?python[\d.]*", words[0]):
        return "a sentence names commands of this app only; show others in a console block, where they are run"
    if rest[:1] == ["app.py"]:
        return _app(rest[1:])
    if rest[:3] == ["-m", "pip", "install"]:
        return _requirements(rest[3:])
    if rest[:1] == ["-m"] and len(rest) > 1:
        return None if importlib.util.find_spec(rest[1]) else f"there is no module {rest[1]}"
    return "neither app.py nor a module"


def _app(words: Sequence[str]) -> str | None:
    """What the command line itself says to these words. A command may be named without what it needs."""
    given = [PLACEHOLDERS.get(word, word) for word in words if word != "--no-setup"]
    group = typer.main.get_command(application)
    assert isinstance(group, TyperGroup)
    command: Any = group
    while given and isinstance(command, TyperGroup) and given[0] in command.commands:
        command, given = command.commands[given[0]], given[1:]
    if command is not group and not given:
        return None
    try:
        command.make_context("app.py", given)
    except typer.Exit:  # --help and --version
        return None
    except TyperException as error:
        return str(error)
    return None


def _requirements(words: Sequence[str]) -> str | None:
    files = [word for word in words if word.endswith(".txt")]
    missing = [file for file in files if not (PROJECT_ROOT / file).is_file()]
    return f"there is no {missing[0]}" if missing else None
