"""The thread count the app chooses."""

from __future__ import annotations

import pytest

from webui.loaders.threads import choose_threads, plan_threads


@pytest.mark.parametrize(
    ("logical", "physical", "quota", "threads"),
    [
        (1, 1, None, 1),
        (2, 2, None, 1),  # one core stays free for the server and the page
        (2, 1, None, 1),  # hyper-threads of one core
        (8, 8, None, 7),
        (16, 8, None, 8),  # the siblings are the spare
        (16, 8, 4.0, 3),
        (16, 8, 0.5, 1),
        (16, 8, 16.0, 8),
    ],
)
def test_plan(logical: int, physical: int, quota: float | None, threads: int) -> None:
    assert plan_threads(logical=logical, physical=physical, quota=quota) == threads


def test_a_wish_is_kept() -> None:
    assert choose_threads(5) == 5


def test_this_machine_gets_at_least_one() -> None:
    assert choose_threads(0) >= 1
