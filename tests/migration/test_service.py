"""What the page may ask: once, while there is something to carry over, and not after a no."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from tests.migration.conftest import Laid_
from tests.migration.corpus.layout import Case
from webui.errors import NotFound
from webui.loaders import LOADERS
from webui.migration.plan import Plan
from webui.migration.service import Migrations

Lay = Callable[[Case], Laid_]
FLAT: Case = {"home/config.json": {"use_gpu": False}}


def start(home: Laid_) -> Migrations:
    """The service of an app that starts in this home."""
    return Migrations(home.paths, LOADERS, home.settings, home.settings)


def test_older_files_are_offered_until_somebody_answers(laid: Lay) -> None:
    app = start(laid(FLAT))
    for _ in range(2):
        assert isinstance(app.offer(), Plan)
    app.later()
    assert app.offer() is None


def test_not_now_holds_for_this_start_and_never_for_all(laid: Lay) -> None:
    home = laid(FLAT)
    start(home).later()
    app = start(home)
    assert app.offer() is not None
    app.never()
    assert start(home).offer() is None
    assert start(home).look().effects


@pytest.mark.parametrize("content", [{}, {"use_gpu": True, "theme": "dark"}], ids=["empty", "defaults"])
def test_nothing_is_offered_where_nothing_would_change(laid: Lay, content: Case) -> None:
    assert start(laid({"home/config.json": content})).offer() is None


def test_what_was_dealt_with_is_offered_again_only_when_it_has_changed(laid: Lay) -> None:
    home = laid(FLAT)
    app = start(home)
    app.carry_over()
    assert app.offer() is None
    with pytest.raises(NotFound):
        app.carry_over()
    home.paths.backend_config.write_text("{}")  # somebody has reset what came over
    assert start(home).look().effects
    assert start(home).offer() is None
    (home.paths.home / "config.json").write_text(json.dumps({"use_gpu": False, "n_ctx": 8192}))
    assert start(home).offer() is not None


def test_what_was_undone_is_offered_at_the_next_start(laid: Lay) -> None:
    home = laid(FLAT)
    app = start(home)
    app.carry_over()
    assert app.latest() is not None
    app.undo()
    assert (app.latest(), app.offer()) == (None, None)
    assert start(home).offer() is not None
