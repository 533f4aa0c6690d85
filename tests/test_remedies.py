"""The table of remedies: an entry for every error, and nothing named in it that does not exist."""

from __future__ import annotations

import asyncio
import inspect
import re
import shlex
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import typer.main

from webui import errors
from webui.cli.application import application
from webui.errors import AppError, EngineRefused, tree
from webui.loaders import LOADERS
from webui.paths import PROJECT_ROOT
from webui.reference import elements
from webui.reference.elements import Element
from webui.remedies import PLACES, REMEDIES, Action, Remedy, plain
from webui.settings.declared import declare
from webui.setup.backends import check
from webui.tabs.backend_card import card_html

OUTSIDE = {
    *("nvidia-smi", "Authorization: Bearer KEY", "HTTPS_PROXY", "CMAKE_ARGS", "CMAKE_BUILD_PARALLEL_LEVEL", ".venv"),
    *("python3 -m pip download", "python3 -m pip cache purge", "python3 -m ensurepip", "--no-setup"),
}
"""What is typed and is not ours."""


@pytest.fixture(scope="module")
def shown() -> list[Element]:
    return asyncio.run(elements.build())


@pytest.fixture(scope="module")
def labels(shown: list[Element]) -> set[str]:
    """Everything a person can read on a tab, a control or a button."""
    cards = [
        card_html(1, spec, replace(check(spec.name), installed=installed), enabled=True, last=True)
        for spec in LOADERS.values()
        for installed in (True, False)
    ]
    without_units = {re.sub(r" \([^)]*\)$", "", element.label) for element in shown}
    return without_units | set(re.findall(r"<button[^>]*>([^<]+)</button>", "".join(cards)))


def texts(remedy: Remedy) -> Iterator[str]:
    yield from (remedy.title, remedy.meaning, remedy.hint, *remedy.steps)


EVERY = pytest.mark.parametrize("code", list(REMEDIES))


def test_every_error_has_an_entry_and_every_entry_an_error() -> None:
    assert list(REMEDIES) == [kind.code for kind in tree()], "one each, in the order of the tree"


def test_hints_have_one_home() -> None:
    assert "default_hint =" not in inspect.getsource(errors).partition("class InstallationError")[2]
    for kind in tree():
        assert kind("What happened.").hint == plain(REMEDIES[kind.code].hint)


def test_an_error_of_another_room_has_its_own_hint_or_that_of_its_parent() -> None:
    class Odd(EngineRefused):
        code = "odd"

    class Odder(EngineRefused):
        code = "odder"
        default_hint = "Do that."

    class Same(EngineRefused):
        pass

    assert Odd("x").hint == EngineRefused("x").hint
    assert Odder("x").hint == "Do that."
    assert type(AppError.from_dict(Same("x").to_dict())) is EngineRefused


@EVERY
def test_an_entry_says_what_to_do(code: str) -> None:
    remedy = REMEDIES[code]
    assert remedy.steps
    assert remedy.meaning.endswith(".")
    assert len(set(remedy.steps)) == len(remedy.steps)
    for text in (*remedy.steps, remedy.meaning):
        assert text.endswith((".", ")")), text
    assert not remedy.title.endswith(".")
    assert len(plain(remedy.hint)) <= 120, "a hint is read at a glance"


@EVERY
def test_what_is_on_the_page_is_called_by_its_name(code: str, labels: set[str], shown: list[Element]) -> None:
    tabs = {element.label for element in shown if element.kind == "Tab"}
    for text in texts(REMEDIES[code]):
        for name in re.findall(r"\*\*(.+?)\*\*", text):
            assert name in labels, f"{name!r} is nowhere on the page: {text}"
        for name in re.findall(r"\*\*([^*]+)\*\* tab", text):
            assert name in tabs, f"there is no tab {name!r}: {text}"
        assert not re.search(r"\b(tab|Tab)\b", re.sub(r"\*\*[^*]+\*\* tab", "", text)), f"which tab? {text}"


@EVERY
def test_what_is_typed_exists(code: str) -> None:
    for text in texts(REMEDIES[code]):
        for typed in re.findall(r"`(.+?)`", text):
            assert _exists(typed), f"{typed!r} is no command, option, setting or file: {text}"
        for name in re.findall(r"docs/\w+\.md", text):
            assert (PROJECT_ROOT / name).is_file()


def _exists(typed: str) -> bool:
    commands: Any = typer.main.get_command(application)
    if typed in OUTSIDE or typed in declare(LOADERS):
        return True
    if typed.startswith("python3 app.py "):
        name, *arguments = shlex.split(typed.removeprefix("python3 app.py "))
        return name in commands.commands and all(
            _is_option(argument, commands.commands[name]) for argument in arguments if argument.startswith("-")
        )
    if typed.startswith("--"):
        return _is_option(typed, commands)
    if typed.startswith("GGUF_"):
        return any(typed.split("=")[0] in text for text in _documented())
    return (PROJECT_ROOT / typed).exists()


def _is_option(name: str, command: Any) -> bool:
    return any(name in (*parameter.opts, *parameter.secondary_opts) for parameter in command.params)


def _documented() -> list[str]:
    return [(PROJECT_ROOT / "docs" / "settings.md").read_text(encoding="utf-8")]


@pytest.mark.parametrize("action", list(Action))
def test_every_action_has_its_place_on_the_page(action: Action, shown: list[Element]) -> None:
    place = PLACES[action]
    assert (place.elem_id, place.tab) in {(element.elem_id, element.tab) for element in shown}
    assert any(action in remedy.actions for remedy in REMEDIES.values()), "an action that nothing offers"
