"""Installations outlive the page, run one at a time, and keep their log; the backends' cards and their order."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from tests.loaders import toy
from webui.errors import Busy, Cancelled, NoSpace, SetupFailed
from webui.setup.backends import BackendState
from webui.setup.installations import LOG_LINES, Installations
from webui.setup.installing import LogLine, Work
from webui.setup.plan import Action, Change, InstallPlan
from webui.tabs.backend_card import card_html, moved
from webui.tabs.backend_install import installation_html, plan_html

EVIL = "<img src=x onerror=alert(1)>"


async def test_lines_steps_and_the_end_are_kept() -> None:
    async def install(name: str, work: Work) -> AsyncIterator[LogLine]:
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
    async def install(name: str, work: Work) -> AsyncIterator[LogLine]:
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
    async def install(name: str, work: Work) -> AsyncIterator[LogLine]:
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
    async def install(name: str, work: Work) -> AsyncIterator[LogLine]:
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
    for part in ("not installed", "Install Toy", 'id="backend-plan-toy"', "none until it is installed"):
        assert part in html
    assert "<img" not in html
    assert html.count(" disabled>") == 2  # first and last: it moves neither way


def test_a_backend_that_is_switched_off_or_needs_no_packages() -> None:
    state = BackendState("toy", "Toy", True, "1.0", ("cpu",), "installed", "", pinned="2.0")
    html = card_html(2, toy.SPEC, state, enabled=False, last=False)
    assert "switched off; installed" in html
    assert "1.0 (made for 2.0)" in html
    assert "backend-plan-toy" not in html
    assert " checked" not in html


def test_a_card_offers_what_can_be_done() -> None:
    there = BackendState("toy", "Toy", True, "2.0", ("cpu",), "installed", "toy.txt", before="1.0")
    html = card_html(1, toy.SPEC, there, enabled=True, last=True)
    for part in ('data-action="plan"', 'data-action="test"', 'data-action="roll back"', "Put 1.0 back", ">Repair<"):
        assert part in html
    cut = BackendState("toy", "Toy", True, "2.0", ("cpu",), "installed", "toy.txt", interrupted=True)
    html = card_html(1, toy.SPEC, cut, enabled=True, last=True)
    assert "its last installation was cut off" in html
    assert "Undo the installation that was cut off" in html


async def test_each_kind_of_work_has_its_end_in_words() -> None:
    async def do(name: str, work: Work) -> AsyncIterator[LogLine]:
        yield LogLine(f"{work} {name}")

    installations = Installations(do)
    for work, words in (
        (Work.REPAIR, "toy is repaired"),
        (Work.ROLL_BACK, "toy is what it was"),
        (Work.TEST, "toy works"),
    ):
        run = installations.start("toy", work)
        await installations.wait()
        assert list(run.lines) == [f"{work} toy"]
        assert words in installation_html(run)


def test_a_plan_is_shown_with_everything_and_a_button() -> None:
    changes = (Change(f"engine{EVIL}", "2.0", "1.0", 34 << 20, "package index"),)
    plan = InstallPlan(
        "toy",
        "Toy",
        Action.UPDATE,
        "CUDA 12.8",
        "cuda",
        f"somewhere {EVIL}",
        f"because {EVIL}",
        changes,
        disk_bytes=3 << 30,
        free_bytes=9 << 30,
        python="Python 3.11",
        notes=("A better one stands elsewhere.",),
    )
    html = plan_html(plan)
    for part in ("will be updated", "for CUDA 12.8", "3.0 GiB of 9.0 GiB", "instead of 1.0", "34 MiB", "Python 3.11"):
        assert part in html
    assert "A better one stands elsewhere." in html
    assert 'id="backend-plan-do" data-action="install"' in html
    assert "<img" not in html


def test_a_plan_that_cannot_be_done_has_no_button_for_it() -> None:
    plan = InstallPlan("toy", "Toy", Action.INSTALL, "CPU", "cpu", "x", "y", problem=NoSpace("It takes 9 GiB."))
    html = plan_html(plan)
    assert "It takes 9 GiB." in html
    assert "backend-plan-do" not in html
    assert "Close" in html


def test_what_the_app_cannot_install_says_how_to_get_it() -> None:
    state = BackendState("toy", "Toy", False, None, (), "There is none.", "", hint=f"Put one into {EVIL}.")
    html = card_html(1, toy.SPEC, state, enabled=True, last=True)
    assert "Put one into &lt;img" in html
    assert "Install" not in html.replace("Installed", "")
