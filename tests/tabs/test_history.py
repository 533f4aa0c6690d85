"""The history on the Diagnostics tab: loads, failures, rates, and their filters."""

from __future__ import annotations

from tests.tabs.stories import EVIL, KNOWN, hopeless, story
from webui.errors import EngineCrashed, MissingPackage
from webui.pool import Failure
from webui.pool.history import Rate
from webui.tabs.history import ANY, FAILURES_SHOWN, LOADS_SHOWN, failures_html, loads_html, rates_html

LOST = story(model="lost", rungs=hopeless(), outcome="failed", loader="", degraded=None)


def test_loads_keep_their_order_and_are_filtered_by_what_was_tried_and_what_went_wrong() -> None:
    loads = [LOST, story(at=50.0)]
    html = loads_html(loads, loader=ANY, category=ANY, loaders=KNOWN)
    assert html.index(">lost<") < html.index(">big<")
    only = loads_html(loads, loader="llama-cpp-python", category=ANY, loaders=KNOWN)
    assert ">lost<" in only and ">big<" not in only
    assert ">big<" not in loads_html(loads, loader=ANY, category="model", loaders=KNOWN)
    assert "No load matches" in loads_html(loads, loader=ANY, category="installation", loaders=KNOWN)
    assert "Nothing has been loaded" in loads_html([], loader=ANY, category=ANY, loaders=KNOWN)


def test_long_histories_are_bounded_and_say_so() -> None:
    loads = loads_html([story(at=float(at)) for at in range(100)], loader=ANY, category=ANY, loaders=KNOWN)
    assert loads.count('<details class="story') == LOADS_SHOWN
    assert f"{100 - LOADS_SHOWN} older loads not shown" in loads
    many = [Failure("load", "toy", "m", EngineCrashed("x"), at=float(at)) for at in range(FAILURES_SHOWN + 1)]
    failures = failures_html(many, loaders=KNOWN)
    assert failures.count('role="alert"') == FAILURES_SHOWN
    assert "1 older failure not shown" in failures


def test_failures_are_shown_with_phase_and_evidence_and_filtered() -> None:
    failures = [
        Failure("canary", "toy", "Second", EngineCrashed("It died", evidence=[EVIL]), at=2.0),
        Failure("load", "xllamacpp", "First", MissingPackage("Not there."), at=1.0),
    ]
    html = failures_html(failures, loaders=KNOWN)
    assert html.index("Second") < html.index("First")
    assert "first token · Toy" in html and "<img" not in html
    assert "First" not in failures_html(failures, loader="toy", loaders=KNOWN)
    assert "Second" not in failures_html(failures, category="installation", loaders=KNOWN)
    assert "No failure matches" in failures_html(failures, category="model", loaders=KNOWN)
    assert "No engine has failed" in failures_html([], loaders=KNOWN)


def test_rates_are_counted_by_backend_and_category() -> None:
    rates = [
        Rate("toy", 8, 2, {"hardware": 2}, {"engine_crashed": 2}),
        Rate("xllamacpp", 0, 1, {"installation": 1}, {"missing_package": 1}),
    ]
    html = rates_html(rates, loaders=KNOWN)
    head, toy, other = html.split("<tr")[1:]
    assert "Installation" in head and "Hardware" in head and "Configuration" not in head
    assert "Toy" in toy and "25 %" in toy and "engine crashed: 2" in toy
    assert "unknown" in other  # nothing was attempted with it
    assert "No backend has been tried" in rates_html([], loaders=KNOWN)
    assert "<img" not in rates_html([Rate(EVIL, 1, 1, {"model": 1}, {EVIL: 1})], loaders=KNOWN)
