"""The search for the best settings as HTML: its states, its plot, and that nothing of a file's name is markup."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

from webui.diagnostics.tuning import TuningRun, Wanted
from webui.errors import Cancelled, EngineRefused
from webui.models.facts import ModelFacts, ModelFormat
from webui.planning.races import Result, Seen, Trial, Verdict
from webui.planning.tunables import Setting
from webui.pool.tuned import TunedSetting
from webui.tabs.tuning_plot import Point, described, note_html, plot_svg, points, run_html

USUAL, FOUND, BROKEN = Setting("toy"), Setting("toy", (("poll", 0),)), Setting("toy", (("poll", 100),))
FACTS = ModelFacts(Path("<b>.gguf"), ModelFormat.GGUF, (Path("<b>.gguf"),), 1000, "<b>")
ANSWER = TunedSetting("toy", {"poll": 0}, 1.5, "toy", {"poll": 50}, 50.0, 80.0, 400.0, 400.0)


def run_with(*results: tuple[Setting, Result]) -> TuningRun:
    run = TuningRun(Wanted(FACTS), default=USUAL)
    run.trials = [Seen(Trial(number, setting, "poll"), result) for number, (setting, result) in enumerate(results)]
    return run


@pytest.fixture
def ended() -> TuningRun:
    run = run_with(
        (USUAL, Result(50.0, 400.0)), (FOUND, Result(80.0, 400.0)), (BROKEN, Result(failure="It <crashed>."))
    )
    run.state, run.found, run.verdict = "done", ANSWER, Verdict(USUAL, FOUND, 1.5)
    return run


def test_a_trial_is_measured_by_the_first_with_the_usual_settings(ended: TuningRun) -> None:
    assert [(point.kind, point.speed and round(point.speed, 2)) for point in points(ended)] == [
        ("usual", 1.0),
        ("chosen", 1.5),
        ("other", None),
    ]


def test_the_plot_is_sound_says_what_it_shows_and_higher_is_faster(ended: TuningRun) -> None:
    drawn = plot_svg(points(ended))
    root = ElementTree.fromstring(drawn)[0]
    assert root.get("role") == "img" and "poll 0 with 1.50 times; 1 failed" in (root.get("aria-label") or "")
    assert [mark.get("class") for mark in root if mark.tag in ("circle", "path")] == ["usual", "chosen", "failed"]
    even = next(line for line in root if line.get("class") == "even")
    usual = next(mark for mark in root if mark.tag == "circle")
    assert usual.get("cy") == even.get("y1")
    chosen = next(mark for mark in root if mark.get("class") == "chosen")
    height = float((chosen.get("d") or "").split("l")[0].split()[1])
    assert height < float(even.get("y1") or 0)


@pytest.mark.parametrize("speeds", [[], [1.0], [1.0, None], [0.001, 1.0, 900.0], [None], [1.0] * 500])
def test_the_plot_holds_for_any_speeds(speeds: list[float | None]) -> None:
    shown = [Point("toy", "other", speed) for speed in speeds]
    drawn = plot_svg(shown)
    assert bool(drawn) is any(speed is not None for speed in speeds)
    assert described(shown).startswith("Speed of")
    if drawn:
        ElementTree.fromstring(drawn)


def test_every_state_has_words(ended: TuningRun) -> None:
    assert "1.50 × the default" in run_html(ended, 0.0)
    ended.dismissed = True
    assert "The usual settings are kept" in run_html(ended, 0.0)
    running = run_with()
    running.step = "poll: toy, poll 0"
    assert 'data-state="running"' in run_html(running, running.started_at + 3) and "poll 0" in run_html(running, 0.0)
    stopped = run_with((USUAL, Result(50.0)))
    stopped.state, stopped.error = "stopped", Cancelled("The search was stopped; nothing is kept of it.")
    assert "nothing is kept" in run_html(stopped, 0.0) and "failure" not in run_html(stopped, 0.0)
    failed = run_with()
    failed.state, failed.error = "failed", EngineRefused("No trial came to an end.")
    assert 'role="alert"' in run_html(failed, 0.0)
    short = run_with()
    short.state, short.found, short.verdict = "done", TunedSetting("toy"), Verdict(USUAL, USUAL, decided=False)
    assert "too short" in run_html(short, 0.0)


def test_names_and_reasons_are_text(ended: TuningRun) -> None:
    ended.state = "running"
    assert "<b>" not in run_html(ended, 0.0) and "<crashed>" not in run_html(ended, 0.0)


def test_the_note_stands_only_where_something_was_found() -> None:
    assert note_html(None) == note_html(TunedSetting("toy")) == ""
    assert "poll 50 → 0" in note_html(ANSWER)
