"""Installations outlive the page, run one at a time, and keep their log; the backends' cards and their order."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from tests.loaders import toy
from webui.errors import Busy, Cancelled, SetupFailed
from webui.setup.backends import BackendState, LogLine
from webui.tabs.backend_card import card_html, installation_html, moved
from webui.tabs.backend_install import LOG_LINES, Installations

EVIL = "<img src=x onerror=alert(1)>"


async def test_lines_steps_and_the_end_are_kept() -> None:
    async def install(name: str) -> AsyncIterator[LogLine]:
        yield LogLine(f"fetching {name}", 0.5, step=True)
        yield LogLine("a line of pip's")

    installations = Installations(install)
    run = installations.start("toy")
    await installations.wait()
    assert (list(run.lines), run.step, run.share) == (["fetching toy", "a line of pip's"], "fetching toy", 0.5)
    assert not run.running
    assert run.error is None
    assert "toy is installed" in installation_html(run)


async def test_a_second_one_is_refused_while_one_runs_and_cancel_ends_it() -> None:
    async def install(name: str) -> AsyncIterator[LogLine]:
        yield LogLine("working")
        await asyncio.Event().wait()

    installations = Installations(install)
    run = installations.start("toy")
    with pytest.raises(Busy, match="toy is being installed"):
        installations.start("other")
    await asyncio.sleep(0)
    await installations.cancel()
    assert not run.running
    assert isinstance(run.error, Cancelled)
    assert installations.start("other").running
    await installations.cancel()


async def test_a_failure_is_kept_with_its_evidence() -> None:
    async def install(name: str) -> AsyncIterator[LogLine]:
        yield LogLine("working")
        raise SetupFailed("No network.", evidence=[EVIL])

    installations = Installations(install)
    run = installations.start("toy")
    await installations.wait()
    html = installation_html(run)
    assert "toy was not installed" in html
    assert "No network." in html
    assert "<img" not in html


async def test_a_long_log_keeps_its_end() -> None:
    async def install(name: str) -> AsyncIterator[LogLine]:
        for number in range(LOG_LINES + 5):
            yield LogLine(str(number))

    installations = Installations(install)
    run = installations.start("toy")
    await installations.wait()
    assert (len(run.lines), run.lines[-1], run.written) == (LOG_LINES, str(LOG_LINES + 4), LOG_LINES + 5)


@pytest.mark.parametrize(
    ("name", "places", "expected"),
    [("b", -1, "bac"), ("b", 1, "acb"), ("a", -1, "abc"), ("c", 1, "abc"), ("a", 2, "bca")],
)
def test_moving_within_the_order(name: str, places: int, expected: str) -> None:
    assert "".join(moved("abc", name, places)) == expected


def test_a_card_says_why_a_backend_cannot_be_used() -> None:
    state = BackendState("toy", "Toy", False, None, (), f"not installed {EVIL}", "toy.txt")
    html = card_html(1, toy.SPEC, state, enabled=True, last=True)
    for part in ("not installed", "Install Toy", 'id="backend-install-toy"', "none until it is installed"):
        assert part in html
    assert "<img" not in html
    assert html.count(" disabled>") == 2  # first and last: it moves neither way


def test_a_backend_that_is_switched_off_or_needs_no_packages() -> None:
    state = BackendState("toy", "Toy", True, "1.0", ("cpu",), "installed", "", pinned="2.0")
    html = card_html(2, toy.SPEC, state, enabled=False, last=False)
    assert "switched off; installed" in html
    assert "1.0 (made for 2.0)" in html
    assert "backend-install-toy" not in html
    assert " checked" not in html
