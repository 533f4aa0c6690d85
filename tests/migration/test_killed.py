"""A migration killed at any point: the next start is whole, everything as it was or everything carried over.

`python -m tests.benchmarks.killed_migrations` does it at every point, and to the command as people run it.
"""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest

from tests.migration.conftest import Laid_, picture
from tests.migration.killing import EVERYTHING, in_a_process, next_start, state
from webui.migration.backup import State, all_backups
from webui.migration.plan import Effects
from webui.migration.undoing import recover, undo

POINTS = 7


class Killed:
    """One home that can be laid out again and again, and what it looks like before and after."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._number = 0
        whole = self.fresh()
        self.before = state(whole)
        _, self.touches = in_a_process(whole.root, whole.carry)
        self.after = state(whole)
        self.undo_touches = in_a_process(whole.root, lambda: undo(whole.paths))[1]
        assert state(whole) == self.before != self.after

    def fresh(self) -> Laid_:
        """The same home again, at the same place, since paths stand in what is carried over."""
        self._number += 1
        root = self._folder / "user"
        if root.exists():
            root.rename(self._folder / f"earlier-{self._number}")
        return Laid_(root, EVERYTHING)


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> Killed:
    return Killed(tmp_path_factory.mktemp("killed"))


def points(most: int) -> list[int]:
    """The first and the last touch, and some by chance in between."""
    return sorted({1, most, *random.Random(5).sample(range(2, most), POINTS)})


def is_whole(laid: Laid_, killed: Killed) -> Any:
    found = state(laid)
    assert found in (killed.before, killed.after)
    carried = found == killed.after
    assert (laid.survey().plan.effects == Effects()) is carried
    assert all(one.state in (State.DONE, State.UNDONE) for one in all_backups(laid.paths))
    return carried


def test_killed_while_it_carries_over(killed: Killed) -> None:
    outcomes = set()
    for touches in points(killed.touches):
        laid = killed.fresh()
        before = picture(laid.root)
        died, _ = in_a_process(laid.root, laid.carry, touches=touches)
        assert died
        next_start(laid)
        carried = is_whole(laid, killed)
        outcomes.add(carried)
        assert next_start(laid) == []
        if carried:
            undo(laid.paths)
        assert picture(laid.root) == before
    assert outcomes == {True, False}


def test_killed_while_it_is_undone(killed: Killed) -> None:
    for touches in points(killed.undo_touches)[:: POINTS // 3]:
        laid = killed.fresh()
        before = picture(laid.root)
        laid.carry()
        died, _ = in_a_process(laid.root, lambda laid=laid: undo(laid.paths), touches=touches)
        assert died
        next_start(laid)
        if is_whole(laid, killed):
            undo(laid.paths)
        assert picture(laid.root) == before


def test_killed_again_while_the_next_start_brings_it_to_an_end(killed: Killed) -> None:
    laid = killed.fresh()
    before = picture(laid.root)
    in_a_process(laid.root, laid.carry, touches=killed.touches - 12)
    for touches in (2, 9, 14):
        in_a_process(laid.root, lambda: recover(laid.paths), touches=touches)
    next_start(laid)
    if is_whole(laid, killed):
        undo(laid.paths)
    assert picture(laid.root) == before
