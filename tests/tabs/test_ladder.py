"""The ladder of a load: one line for each step, live and afterwards."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from tests.tabs.stories import EVIL, KNOWN, attempt, failed, hopeless, ladder, story
from webui.errors import Cancelled, EngineCrashed
from webui.planning.recovery import StepKind
from webui.pool import Rung
from webui.tabs.ladder import Outcome, changes_words, ladder_html, last_load_html, outcome_of, story_html

RESTORED = Rung(attempt(StepKind.PREVIOUS_MODEL), "worked", 110.0, 1.0)
RUNNING = Rung(attempt(StepKind.CPU), "running", 104.0)


def test_each_step_says_what_it_is_what_changed_and_why_it_failed() -> None:
    html = ladder_html(ladder(), 200.0, loaders=KNOWN)
    first, second, third = re.findall(r"<li .*?</li>", html, re.DOTALL)
    assert "As asked · " in first and "The GPU has no room." in first and "1.5 s" in first and "✗" in first
    assert "<details" in first and "cudaMalloc failed" in first
    assert "Fewer GPU layers" in second and "Changed: GPU layers 12" in second and "28 layers did not fit." in second
    assert "The engine died: SIGSEGV" in second and "<details" not in second
    assert "CPU only" in third and "Given up: the GPU, so it is slower" in third and "✓" in third and "3.2 s" in third
    assert "data-running" not in html


def test_a_reason_that_only_repeats_the_step_is_left_out() -> None:
    asked = Rung(attempt(StepKind.ASKED, reason="As asked."), "worked", 100.0, 1.0)
    assert "rung-reason" not in ladder_html((asked,), None, loaders=KNOWN)
    assert "rung-reason" in ladder_html(ladder(), None, loaders=KNOWN)


def test_the_running_step_counts_its_seconds_and_shows_how_far_it_is() -> None:
    html = ladder_html((*ladder()[:2], RUNNING), 166.4, loaders=KNOWN, progress="<b>half</b>")
    assert '<span data-running="62.4">1 min 2 s</span>' in html
    assert html.count("<b>half</b>") == 1
    assert html.index("<b>half</b>") > html.index("CPU only")


def test_without_a_clock_the_ladder_is_the_same_at_any_time() -> None:
    rungs = (*ladder()[:2], RUNNING)
    assert "data-running" not in ladder_html(rungs, None, loaders=KNOWN)


@pytest.mark.parametrize(
    ("rungs", "outcome"),
    [
        (ladder(), "loaded"),
        (hopeless(), "failed"),
        ((*hopeless(), RESTORED), "failed"),
        ((RESTORED, ladder()[-1]), "loaded"),
        ((*ladder()[:2], RUNNING), "running"),
        ((failed(attempt(StepKind.ASKED), Cancelled("Stopped.")),), "cancelled"),
        ((failed(attempt(StepKind.ASKED), Cancelled("Stopped.")), RESTORED), "cancelled"),
    ],
)
def test_the_outcome_follows_from_the_steps(rungs: tuple[Rung, ...], outcome: Outcome) -> None:
    assert outcome_of(rungs) == outcome


def test_afterwards_the_ladder_is_folded_behind_its_outcome() -> None:
    html = last_load_html(ladder(), loaders=KNOWN)
    head, steps = html.split("</summary>", 1)
    assert "✓" in head and "loaded with" in head and "after 3 steps, 6.8 s" in head
    assert steps.count("<li") == 3
    assert "<details" in head and " open" not in head
    assert "at the first try" in last_load_html(ladder()[-1:], loaders=KNOWN)
    assert "failed after 2 steps" in last_load_html(hopeless(), loaders=KNOWN)  # a skipped one was not taken
    assert last_load_html((), loaders=KNOWN) == ""
    given = [skipped for skipped in hopeless() if skipped.state == "skipped"]
    assert "failed before anything was tried" in last_load_html(tuple(given), loaders=KNOWN)


def test_a_story_of_the_history_says_when_what_and_how_it_ended() -> None:
    html = story_html(story(), loaders=KNOWN)
    head = html.split("</summary>")[0]
    assert re.search(r"\d\d:\d\d:\d\d", head) and "big" in head
    assert "!" in head  # it runs, with less than was asked for
    assert "at 28 layers" in html
    lost = story_html(story(cause="restart", outcome="failed", error=EngineCrashed("It died.")), loaders=KNOWN)
    assert "Restarted: failed after 3 steps" in lost and "It died." in lost and "✗" in lost.split("</summary>")[0]


def test_two_loads_of_one_model_are_unfolded_apart() -> None:
    keys = [re.findall(r'data-fold="([^"]+)"', story_html(story(at=at), loaders=KNOWN))[0] for at in (100.0, 200.0)]
    assert keys[0] != keys[1]


def test_changes_are_named_as_on_the_page() -> None:
    words = changes_words("toy", {"context_size": 1024, "fault": "", "unknown": True}, KNOWN)
    assert words == "Context size 1,024, Fault automatic, unknown on"
    assert changes_words("gone", {"a": "x" * 100}, KNOWN) == f"a {'x' * 60}…"


def test_nothing_of_a_model_or_an_engine_is_markup() -> None:
    evil = attempt(StepKind.NEXT_LOADER, EVIL, changes={EVIL: EVIL}, reason=EVIL, given_up=EVIL)
    rungs = (failed(evil, EngineCrashed(EVIL, cause=EVIL, evidence=[EVIL])),)
    told = story(model=EVIL, path=EVIL, loader=EVIL, rungs=rungs, error=EngineCrashed(EVIL))
    told = replace(told, degraded=None)
    assert "<img" not in ladder_html(rungs, 1.0, loaders=KNOWN) + story_html(told, loaders=KNOWN)
