"""How benchmarks look: bars, table, comparison, progress and the list, with hostile names in every place."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest

from tests.diagnostics.benchmark_runs import depth, loader, run
from webui.diagnostics.benchmark_loader import Superseded
from webui.diagnostics.benchmark_request import BenchmarkRequest
from webui.diagnostics.benchmark_results import BenchmarkRun, DepthResult, LoaderResult
from webui.diagnostics.benchmark_store import Saved
from webui.diagnostics.benchmarks import Running
from webui.errors import AppError, EngineCrashed
from webui.models.facts import ModelFacts, ModelFormat
from webui.tabs.bars import NAME_WIDTH, ROOM, WIDTH, Bar, Bars, bars_svg
from webui.tabs.benchmark_panel import RUNS_LISTED, list_of_runs_html, progress_of, result_html, title_of

EVIL = "<img src=x onerror=alert(1)>\"'"
FACTS = ModelFacts(Path("/m.gguf"), ModelFormat.GGUF, (Path("/m.gguf"),), 1, "m")


def plots(html: str) -> list[ElementTree.Element]:
    return [ElementTree.fromstring(svg) for svg in re.findall(r"<svg.*?</svg>", html, re.DOTALL)]


def rectangles(svg: ElementTree.Element) -> list[ElementTree.Element]:
    return svg.findall(".//rect")


def test_bars_are_as_long_as_their_values_and_named_in_words() -> None:
    groups = [
        Bars("short", (Bar("a", 50.0, "50 t/s", 40.0, 60.0), Bar("b", 100.0, "100 t/s", before=80.0))),
        Bars("deep", (Bar("a", 0.0, "0 t/s"),)),
        Bars("nothing", ()),
    ]
    (svg,) = plots(bars_svg("Speed", groups))
    assert svg.get("aria-label") == "Speed. short: a 50 t/s, b 100 t/s. deep: a 0 t/s."
    assert [float(one.get("width", "")) for one in rectangles(svg)] == [ROOM / 2, ROOM, 0]
    assert ["best" in one.get("class", "") for one in svg.findall("g")] == [False, True, True]
    (whisker,) = svg.findall(".//path[@class='bars-range']")
    assert whisker.get("d", "").startswith(f"M{NAME_WIDTH + ROOM * 0.4:.1f} ")
    (mark,) = svg.findall(".//path[@class='bars-before']")
    assert mark.get("d", "").startswith(f"M{NAME_WIDTH + ROOM * 0.8:.1f} ")
    bottom = float(svg.get("viewBox", "").split()[3])
    assert all(float(text.get("y", "")) <= bottom and float(text.get("x", "")) < WIDTH for text in svg.iter("text"))


def test_no_bars_no_plot() -> None:
    assert bars_svg("Speed", []) == bars_svg("Speed", [Bars("x", ())]) == ""


def test_a_result_has_a_row_for_each_depth_and_a_plot_for_each_speed() -> None:
    html = result_html(run(loader("one"), loader("two", depth(0, 70.0), depth(1024, 60.0))))
    assert html.count("<tr>") == 1 + 4
    for words in ("50.0 tokens/s ±1.0 %", "1,024 tokens", "191 MiB", "510 ms", "median of 3 runs"):
        assert words in html
    prompt, generation = plots(html)
    assert len(rectangles(prompt)) == len(rectangles(generation)) == 4
    assert "1,024 tokens deep: one 40.0 tokens/s, two 60.0 tokens/s" in generation.get("aria-label", "")


def test_what_is_missing_is_said() -> None:
    deep = DepthResult(1024, problem="It takes a context of 2,000 tokens.")
    broken = LoaderResult("broken", error=EngineCrashed("It crashed.", cause="by itself").to_dict())
    noted = replace(loader("noted", depth(0), deep), notes=("The context is smaller.",))
    html = result_html(run(noted, broken, disturbed=True, state="stopped"))
    for words in (
        "It takes a context of 2,000 tokens.",
        "broken: It crashed: by itself",
        "noted: The context is smaller.",
        "too low",
        "stopped early",
    ):
        assert words in html
    assert "Nothing has been measured yet" in result_html(None)
    assert "<table" not in result_html(run(broken))


def test_a_comparison_says_what_is_beyond_the_noise() -> None:
    before = Saved(run(loader("one", depth(0, 50.0)), machine="another"), "the first")
    html = result_html(run(loader("one", depth(0, 60.0))), before)
    assert "Compared with the first" in html
    assert "different machines" in html
    assert "one: generation speed better by more than the noise, +20.0 % at depth 0." in html
    assert html.count('class="change better"') == 1
    assert html.count('class="change noise"') == 4
    assert len(plots(html)[1].findall(".//path[@class='bars-before']")) == 1
    same = result_html(run(loader("one")), Saved(run(loader("one"))))
    assert "Nothing differs by more than the noise." in same


def test_nothing_in_a_file_is_markup() -> None:
    evil = replace(
        loader(EVIL, replace(depth(0), problem=EVIL), DepthResult(1024, problem=EVIL)),
        notes=(EVIL,),
        error=AppError(EVIL, cause=EVIL).to_dict(),
        engine=EVIL,
    )
    one = run(evil, model=EVIL, machine=EVIL, parameters={EVIL: EVIL}, name=EVIL)
    html = result_html(one, Saved(run(loader(EVIL)), EVIL)) + list_of_runs_html([Saved(one), Saved(one, EVIL)], EVIL)
    assert "<img" not in html
    assert len(plots(html)) == 2  # still well-formed


def active(**changes: object) -> Running:
    found = Running(BenchmarkRequest(FACTS, ("one",), (0,)))
    for name, value in changes.items():
        setattr(found, name, value)
    return found


STOPPED: BenchmarkRun = run(state="stopped")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"step": "one: run 2", "share": 0.4}, ["one: run 2", "40 %", "width:40%"]),
        ({"step": "one: run 2", "stopping": True}, ["stopping"]),
        ({"step": "loading m again", "stopping": True, "restoring": True}, ["loading m again"]),
        ({"running": False, "run": STOPPED}, ["was stopped"]),
        ({"running": False, "run": run()}, []),
        ({"running": False, "run": run(), "notes": ["Not kept."]}, ["Not kept."]),
        ({"running": False, "error": EngineCrashed("It broke.")}, ["The benchmark failed", "It broke."]),
        ({"running": False, "run": STOPPED, "error": Superseded("Ended.", cause="by a load")}, ["Ended: by a load"]),
    ],
)
def test_how_far_it_is_and_how_it_ended(changes: dict[str, object], said: list[str]) -> None:
    html = progress_of(active(**changes))
    assert all(words in html for words in said)
    if not said:
        assert html == ""


def test_the_time_that_is_left_is_told_when_it_can_be_known() -> None:
    running = active(share=0.25)
    assert "left" not in progress_of(running)
    running.began -= 10.0
    assert "about 30.0 s left" in progress_of(running)


def test_the_list_is_bounded_and_marks_what_is_shown() -> None:
    saved = [Saved(run(), "first"), *(Saved(run(name=f"20260101-0000{at:02d}-abcd")) for at in range(40))]
    html = list_of_runs_html(saved, "first")
    assert html.count("<li") == 1 + RUNS_LISTED
    assert "10 older runs not shown" in html
    assert html.count('aria-current="true"') == 1
    assert title_of(saved[0]) == "baseline first · tiny"
    assert "kept here" in list_of_runs_html([], "")
