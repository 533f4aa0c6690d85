"""The tree of errors: its drawing is true, and every error survives the way between two processes."""

from __future__ import annotations

import inspect
import re

import pytest

import webui.errors
from webui.errors import AppError, BrokenPackage, CorruptFile

CLASSES = [
    kind
    for kind in vars(webui.errors).values()
    if inspect.isclass(kind) and issubclass(kind, AppError) and kind is not AppError
]
BRANCHES = {kind for kind in CLASSES if kind.__bases__ == (AppError,)}


def drawn() -> dict[str, str]:
    """Each name of the drawing → the name it hangs under."""
    found: dict[str, str] = {}
    above = ["AppError"]
    for line in (webui.errors.__doc__ or "").splitlines():
        if match := re.match(r"    ([│├└─ ]+)(\w+)", line):
            depth = len(match[1]) // 4
            found[match[2]] = above[depth - 1]
            above[depth:] = [match[2]]
    return found


def test_the_drawing_shows_every_error_where_it_is() -> None:
    assert drawn() == {kind.__name__: kind.__bases__[0].__name__ for kind in CLASSES}


@pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: kind.__name__)
def test_an_error_crosses_to_another_process_whole(kind: type[AppError]) -> None:
    error = kind("What happened.", cause="why", hint="do this", evidence=["a line"], signal="SIGSEGV", port=1)
    back = AppError.from_dict(error.to_dict())
    assert type(back) is kind
    assert back.to_dict() == error.to_dict()
    assert back.category in {branch.category for branch in BRANCHES}


def test_a_hint_names_the_backend_once_it_is_known() -> None:
    error = BrokenPackage("The engine does not start.")
    assert "setup NAME" in error.hint
    assert "setup xllamacpp" in error.concerning("xllamacpp").hint and "NAME" not in error.hint
    own = BrokenPackage("The engine does not start.", hint="Turn it off and on.")
    assert own.concerning("xllamacpp").hint == "Turn it off and on."


def test_a_code_is_used_once() -> None:
    assert len({kind.code for kind in CLASSES}) == len(CLASSES)


def test_what_a_stranger_wrote_is_shown_as_one_harmless_line() -> None:
    """File names, headers and engines' lines are quoted in errors, and reach terminals and pages through them."""
    error = CorruptFile("\x1b[2J\u202eevil\r\n" + "x" * 5000, cause="a\x07b", evidence=["tab\tkept", "\x1b]0;title"])
    assert error.message.startswith(" [2J evil  xxx")
    assert error.message.endswith("…")
    assert len(str(error)) == 600
    assert (error.cause, error.evidence) == ("a b", ("tab\tkept", " ]0;title"))
    assert AppError.from_dict(error.to_dict()).to_dict() == error.to_dict()
