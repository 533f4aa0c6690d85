"""A memory plan as the page draws it: figures, bars to scale, verdicts, buttons."""

from __future__ import annotations

import html
import json
import re
from dataclasses import replace

import pytest

from tests.tabs.plans import FITS, FOUR_CARDS, LAPTOP, PAGED, PLANS, UNKNOWN_ROOM, device
from webui.errors import InvalidSetting
from webui.planning.memory import MIB
from webui.planning.plan import Alternative, MemoryPlan
from webui.tabs.memory_bars import as_noticed, plan_html, refused_html

EVIL = "<img src=x onerror=alert(1)>"


def bars(text: str) -> dict[str, dict[str, float]]:
    """Of each device the parts of its bar, and where the device ends if they go beyond, in percent of the bar."""
    found = {}
    for key, inner in re.findall(r'data-device="([^"]+)">.*?<div class="plan-bar.*?>(.*?)</div>', text):
        parts = re.findall(r'<span class="([^"]+)" style="(?:width|left):([\d.]+)%">', inner)
        found[key] = {kind: float(share) for kind, share in parts}
    return found


def sets(text: str) -> list[tuple[str, dict[str, object]]]:
    """What the buttons say, and what they set."""
    found = re.findall(r'data-set="([^"]+)">([^<]+)<', text)
    return [(label, json.loads(html.unescape(asked))["values"]) for asked, label in found]


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("fits", ["✓", "Fits.", "410 MiB of 5.80 GiB free", "computed from the file", "8,192 tokens"]),
        ("laptop", ["Does not fit.", "33 layers need 5.9 GiB", "5.90 GiB needed, 4.90 GiB free", "6.42 GiB in all"]),
        ("four cards", ["the engine's own figures", "40 layers", "not used, 410 MiB free", "46.7 GiB in all"]),
        ("four cards", ["planned 46.7 GiB, measured 44.9 GiB (−3.9 %)"]),
        ("unknown", ["Whether it fits is unknown.", "2.95 GiB; what is free is unknown"]),
        (
            "paged",
            [
                "Loads, but slowly: Memory has 15.0 GiB free",
                "27.4 GiB needed, 15.0 GiB free",
                "parts of it are read again",
            ],
        ),
        ("enormous", ["620 GiB needed, 5.80 GiB free", "a Q2_K file", "Corrected by"]),
    ],
)
def test_a_plan_says_what_it_takes_of_what_is_free(name: str, said: list[str]) -> None:
    text = html.unescape(plan_html(PLANS[name], 8192))
    assert [part for part in said if part not in text] == []


@pytest.mark.parametrize("plan", PLANS.values(), ids=PLANS)
def test_every_device_has_a_bar_no_longer_than_its_track_with_parts_to_scale(plan: MemoryPlan) -> None:
    drawn = bars(plan_html(plan))
    assert list(drawn) == [one.device for one in plan.devices]
    for one in plan.devices:
        parts = drawn[one.device]
        end = parts.pop("plan-end", 100.0)
        assert 50 <= end <= 100
        room = one.capacity or one.total
        assert parts.get("kv-cache", 0) == pytest.approx(one.kv_cache / room * end, abs=0.02)
        assert parts.get("mapped", 0) == pytest.approx(one.mapped / room * end, abs=0.02)
        held = one.capacity - one.available if one.capacity and one.available is not None else 0
        assert parts.get("held", 0) == pytest.approx(held / room * end, abs=0.02)
        assert (sum(parts.values()) > 100.5) == (one.total + held > 2 * room)


def test_what_can_be_dropped_is_set_apart_and_drawn_last() -> None:
    kinds = list(bars(plan_html(PAGED))["cpu"])
    assert kinds == ["held", "kv-cache", "compute", "other", "mapped", "plan-end"]
    both = replace(FITS, devices=(device("cpu", "Memory", 5, 8, weights=3, mapped=1),))
    parts = bars(plan_html(both))["cpu"]
    assert (parts["weights"], parts["mapped"]) == (25.0, 12.5)


def test_only_what_cannot_be_dropped_is_too_much() -> None:
    copied = replace(LAPTOP, devices=(device("cpu", "Memory", 22, 24, weights=72, mapped=36),))
    assert "36.0 GiB needed, 22.0 GiB free" in plan_html(copied)
    assert plan_html(LAPTOP).count("plan-device over") == 1
    assert "plan-device over" not in plan_html(PAGED)


def test_the_engines_own_share_is_named_on_the_bar_for_those_who_do_not_see_it() -> None:
    label = re.search(r'aria-label="(Memory: [^"]+)"', plan_html(FITS))
    assert label
    assert "Not free 2.00 GiB" in label[1] and "KV cache 184 MiB" in label[1]
    assert "Weights in the file 92.2 MiB" in label[1] and "410 MiB of 5.80 GiB free" in label[1]


def test_alternatives_that_can_be_set_are_buttons_and_the_others_sentences() -> None:
    text = plan_html(LAPTOP, 8192)
    assert sets(text) == [
        ("24 of 33 layers on the GPU · 6.10 GiB", {"gpu_layers": 24}),
        ("context 4,096 · 5.40 GiB", {"context_size": 4096}),
        ("8-bit KV cache · 5.60 GiB, still too much", {"cache_type_k": "q8_0", "cache_type_v": "q8_0"}),
        ("use it", {"context_size": 4096}),
    ]
    assert "Or a Q3_K_M file of the same model, about 3.7 GiB." in text
    assert '"loader": "llama-cpp-python"' in html.unescape(text)


@pytest.mark.parametrize(("context_size", "offered"), [(4096, True), (65_536, False), (None, False)])
def test_the_largest_context_is_offered_where_it_is_another(context_size: int | None, offered: bool) -> None:
    text = plan_html(FOUR_CARDS, context_size)
    assert (("use it", {"context_size": 65_536}) in sets(text)) is offered
    assert ("65,536 tokens" in text) is (context_size is not None)


def test_only_what_was_measured_is_compared() -> None:
    assert FOUR_CARDS.measured
    less = {key: count for key, count in FOUR_CARDS.measured.devices.items() if key != "gpu0"}
    text = plan_html(replace(FOUR_CARDS, measured=replace(FOUR_CARDS.measured, devices=less)))
    assert "planned 24.1 GiB, measured 22.9 GiB (−5.1 %)" in text


def test_what_comes_from_files_and_drivers_is_text() -> None:
    evil = replace(
        FITS,
        loader=EVIL,
        constraint=EVIL,
        warnings=(EVIL,),
        devices=(replace(FITS.devices[0], name=EVIL, device=EVIL),),
        alternatives=(Alternative(EVIL, 1, True), Alternative(EVIL, 1, True, {EVIL: EVIL})),
    )
    assert "<img" not in plan_html(evil, 1)
    assert "<img" not in refused_html(InvalidSetting(EVIL))


def test_a_few_more_free_bytes_are_not_worth_drawing() -> None:
    one = FITS.devices[0]
    assert one.available and one.capacity
    for more, same in ((MIB, True), (one.capacity // 40, False)):
        later = replace(FITS, devices=(replace(one, available=one.available + more),))
        assert (plan_html(as_noticed(later)) == plan_html(as_noticed(FITS))) is same
    assert as_noticed(UNKNOWN_ROOM) == UNKNOWN_ROOM
    assert as_noticed(FITS).devices[0].total == one.total


def test_a_plan_of_nothing_is_drawn() -> None:
    nothing = replace(FITS, devices=(device("cpu", "Memory", 0, 0),))
    assert bars(plan_html(nothing)) == {"cpu": {}}
    assert "not used, 0 B free" in plan_html(nothing)


def test_a_load_that_is_small_beside_its_device_is_drawn_once_more_by_itself() -> None:
    assert plan_html(FITS).count("plan-lens") == 1
    assert "plan-lens" not in plan_html(replace(FITS, devices=(device("cpu", "Memory", 5, 8, weights=2),)))
    lens = re.search(r'<div class="plan-lens".*?>(.*?)</div>', plan_html(FITS))
    assert lens and "held" not in lens[1]
    assert sum(map(float, re.findall(r"width:([\d.]+)%", lens[1]))) == pytest.approx(100, abs=0.1)
