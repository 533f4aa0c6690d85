"""Which of several measurements stands for a loader."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from webui.loaders import LOADERS
from webui.planning.evidence import Engines, Evidence, ranked
from webui.planning.speed import Source, Speed

ONE, OTHER = "xllamacpp", "llama-cpp-python"
ASKED = {name: LOADERS[name].parameters.parse({}).model_dump(mode="json") for name in (ONE, OTHER)}


def speed(
    loader: str, rate: float, *, depth: int = 0, source: Source = "bench", at: float = 0.0, **others: Any
) -> Speed:
    return Speed(loader, {**ASKED[loader], **others}, rate, depth=depth, source=source, measured_at=at)


def figures(*speeds: Speed, gpu: bool = True) -> Mapping[str, tuple[float, bool]]:
    evidence = Evidence(ASKED, speeds=speeds, engines=Engines(gpu=gpu))
    found = ranked((ONE, OTHER), frozenset(), LOADERS, evidence).figures
    return {name: (figure.rate, figure.exact) for name, figure in found.items()}


@pytest.mark.parametrize(
    ("speeds", "expected"),
    [
        ((), {}),
        ([speed(ONE, 60, depth=0), speed(ONE, 30, depth=4096)], {ONE: (60, True)}),
        (
            [speed(ONE, 60, depth=0), speed(ONE, 30, depth=4096), speed(OTHER, 40, depth=4096)],
            {ONE: (30, True), OTHER: (40, True)},
        ),
        (
            [speed(ONE, 60), speed(ONE, 50, source="reply"), speed(OTHER, 55, source="reply")],
            {ONE: (50, True), OTHER: (55, True)},
        ),
        ([speed(ONE, 70, threads=2), speed(ONE, 60)], {ONE: (60, True)}),
        ([speed(ONE, 70, threads=2, poll=0), speed(ONE, 60, threads=3)], {ONE: (60, False)}),
        ([speed(ONE, 60, source="tune", at=1), speed(ONE, 65, at=2)], {ONE: (65, True)}),
        ([speed(ONE, 60, context_size=512, slots=1)], {ONE: (60, True)}),
        ([speed(ONE, 9, gpu_layers=0)], {}),
        ([speed(ONE, 9, gpu_layers=12)], {ONE: (9, False)}),
    ],
)
def test_the_measurement_that_is_most_like_what_would_be_done(
    speeds: list[Speed], expected: dict[str, tuple[float, bool]]
) -> None:
    assert figures(*speeds) == expected


def test_where_there_is_no_gpu_its_parameters_mean_nothing() -> None:
    assert figures(speed(ONE, 9, gpu_layers=0, main_gpu=1), gpu=False) == {ONE: (9, True)}


def test_a_parameter_that_is_newer_than_the_measurement_was_as_it_is_now() -> None:
    old = Speed(ONE, {"threads": 0, "gpu_layers": -1, "no_longer_there": 5}, 60)
    assert figures(old) == {ONE: (60, True)}


def test_of_three_that_differ_little_from_one_to_the_next_priority_decides_among_the_fastest() -> None:
    names = (ONE, OTHER, "llamafile")
    asked = {**ASKED, "llamafile": LOADERS["llamafile"].parameters.parse({}).model_dump(mode="json")}
    speeds = [Speed(name, asked[name], rate) for name, rate in zip(names, (100, 104, 108), strict=True)]
    order = ranked(names, frozenset(), LOADERS, Evidence(asked, speeds=speeds)).order
    assert order == (OTHER, "llamafile", ONE)
