"""The GPUs that models may use, and what keeps an engine's process to them, on the recorded machines."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.hardware import machines
from webui.hardware.choice import GpuChoice, choose, environment, name_of
from webui.hardware.facts import GpuFacts


def gpus(name: str, folder: Path) -> tuple[GpuFacts, ...]:
    return machines.facts(name, folder).gpus


def made(name: str, folder: Path, names: Sequence[str] = (), **options: Any) -> GpuChoice:
    return choose(gpus(name, folder), names, **options)


@pytest.mark.parametrize(
    ("machine", "names", "chosen", "unknown"),
    [
        ("nvidia-two-unequal", [], ["RTX 3090", "RTX 3060"], []),
        ("nvidia-two-unequal", ["1"], ["RTX 3060"], []),
        ("nvidia-two-unequal", ["nvidia:1", "nvidia:0"], ["RTX 3060", "RTX 3090"], []),
        ("nvidia-two-unequal", ["0", "nvidia:0"], ["RTX 3090"], []),
        ("nvidia-two-unequal", ["2"], [], ["2"]),
        ("nvidia-two-unequal", ["GPU-gone", "1"], ["RTX 3060"], ["GPU-gone"]),
        ("two-vendors", ["1"], ["Navi 22"], []),
        ("two-vendors", ["amd:0"], ["Navi 22"], []),
        ("nvidia-mig", ["mig-0002"], ["MIG 2g.10gb"], []),
        ("none", [], [], []),
        ("none", ["0"], [], ["0"]),
    ],
)
def test_gpus_are_named_in_many_ways(
    machine: str, names: list[str], chosen: list[str], unknown: list[str], tmp_path: Path
) -> None:
    choice = made(machine, tmp_path, names)
    assert len(choice.gpus) == len(chosen)
    assert all(part in gpu.name for part, gpu in zip(chosen, choice.gpus, strict=True))
    assert list(choice.unknown) == unknown
    assert {*choice.gpus, *choice.left_out} == set(gpus(machine, tmp_path / "again"))


def test_every_gpu_answers_to_its_lasting_name_and_its_place_on_the_bus(tmp_path: Path) -> None:
    for machine in machines.NAMES:
        known = gpus(machine, tmp_path / machine)
        for number, gpu in enumerate(known):
            for name in (name_of(gpu), name_of(gpu).upper(), str(number)):
                assert choose(known, [name]).gpus == (gpu,)
            if gpu.bus and gpu.part_of is None:
                assert choose(known, [gpu.bus.removeprefix("0000:")]).gpus == (gpu,)


def test_the_key_is_the_same_for_the_same_choice(tmp_path: Path) -> None:
    cards = gpus("nvidia-two-unequal", tmp_path)
    assert choose(cards).key == choose(cards, ["0", "1"]).key == choose((), processor=True).key == ""
    assert choose(cards, ["1"]).key == choose(cards, [name_of(cards[1])]).key != choose(cards, ["0"]).key
    assert choose(cards, processor=True).key == choose(cards, ["gone"]).key == "cpu"


def test_a_split_counts_for_as_many_gpus_as_it_names(tmp_path: Path) -> None:
    cards = gpus("nvidia-two-unequal", tmp_path)
    assert choose(cards, split=(3, 1)).split == choose(cards, ["1", "0"], split=(3, 1)).split == (3, 1)
    assert choose(cards, ["1"], split=(3, 1)).split == choose(cards, processor=True, split=(3, 1)).split == ()


ORDER = {"CUDA_DEVICE_ORDER": "PCI_BUS_ID"}
NOTHING = {"VK_LOADER_DRIVERS_DISABLE": "*", "GGML_VK_VISIBLE_DEVICES": ""}


@pytest.mark.parametrize(
    ("machine", "names", "options", "variables"),
    [
        ("none", [], {"processor": True}, {}),
        ("nvidia-single", [], {}, {}),
        ("nvidia-single", [], {"processor": True}, {**ORDER, "CUDA_VISIBLE_DEVICES": "-1", **NOTHING}),
        ("nvidia-two-unequal", [], {}, ORDER),
        (
            "nvidia-two-unequal",
            ["1"],
            {},
            {**ORDER, "CUDA_VISIBLE_DEVICES": "{1}", "GGML_VK_VISIBLE_DEVICES": "1"},
        ),
        (
            "nvidia-mig",
            ["2", "0"],
            {},
            {**ORDER, "CUDA_VISIBLE_DEVICES": "MIG-0003,MIG-0001"},
        ),
        (
            "two-vendors",
            ["nvidia:0"],
            {},
            {"HIP_VISIBLE_DEVICES": "-1", "GGML_VK_VISIBLE_DEVICES": "0"},
        ),
        (
            "two-vendors",
            ["amd:0"],
            {},
            {**ORDER, "CUDA_VISIBLE_DEVICES": "-1", "GGML_VK_VISIBLE_DEVICES": "1"},
        ),
        ("amd-discrete", [], {"processor": True}, {"HIP_VISIBLE_DEVICES": "-1", **NOTHING}),
        ("intel-arc", ["1"], {}, {"ONEAPI_DEVICE_SELECTOR": "level_zero:1", "GGML_VK_VISIBLE_DEVICES": "0"}),
        ("intel-arc", [], {"processor": True}, {"ONEAPI_DEVICE_SELECTOR": "*:cpu", **NOTHING}),
        ("apple-m2-max", [], {"processor": True}, {}),
    ],
)
def test_what_keeps_a_process_to_them(
    machine: str, names: list[str], options: dict[str, Any], variables: dict[str, str], tmp_path: Path
) -> None:
    choice = made(machine, tmp_path, names, **options)
    uuids = [gpu.uuid or str(gpu.index) for gpu in gpus(machine, tmp_path / "again")]
    assert environment(choice, "Linux") == {name: text.format(*uuids) for name, text in variables.items()}


def test_two_amd_cards_are_counted_among_those_that_rocm_knows(tmp_path: Path) -> None:
    (card,) = gpus("amd-discrete", tmp_path)
    old = replace(card, name="old", compute_capability=None, bus="0000:02:00.0", index=1)
    third = replace(card, bus="0000:41:00.0", index=2)
    choice = choose((card, old, third), ["2"])
    assert environment(choice, "Linux") == {"HIP_VISIBLE_DEVICES": "1", "GGML_VK_VISIBLE_DEVICES": "2"}


def test_where_vulkan_s_order_is_not_known_only_none_is_said(tmp_path: Path) -> None:
    windows = gpus("windows-radeon", tmp_path)
    assert "GGML_VK_VISIBLE_DEVICES" not in environment(choose(windows, ["0"]), "Windows")
    assert environment(choose(windows, processor=True), "Windows") == {
        "HIP_VISIBLE_DEVICES": "-1",
        "VK_LOADER_DRIVERS_DISABLE": "*",
    }
    (card,) = gpus("amd-discrete", tmp_path / "other")
    nowhere = choose((card, replace(card, index=1, bus=None)), ["0"])
    assert "GGML_VK_VISIBLE_DEVICES" not in environment(nowhere, "Linux")
