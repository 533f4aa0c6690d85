"""The Hardware tab's cards: what is known, what is unknown, and what could not be looked at."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tests.hardware import machines
from tests.planning.engines import as_set_up
from webui.hardware.facts import CpuFacts, DiskFacts, GpuFacts, GpuProcess, HardwareFacts, MemoryFacts, SystemFacts
from webui.loaders.devices import Ability
from webui.planning.recommendation import recommend
from webui.tabs.advice import advice_html
from webui.tabs.hardware import hardware_html
from webui.tabs.present import escape

EVIL = "<img src=x onerror=alert(1)>"
FACTS = HardwareFacts(
    CpuFacts(EVIL, "x86_64", None, 8, 4, ("avx2",)),
    MemoryFacts(16 << 30, 4 << 30, limited=True),
    DiskFacts(Path("/models"), 0, 0),
    SystemFacts("Linux", "6.1", "3.11.7", container=None, wsl=False),
)


def test_facts_have_units_and_the_unknown_is_called_unknown() -> None:
    html = hardware_html(FACTS)
    for part in ("16.0 GiB", "4.00 GiB", "75 %", "avx2", "set for this container", "No GPU was found"):
        assert part in html
    assert html.count('class="unknown"') == 3  # physical cores, disk in use, container


def test_no_gpu_and_could_not_look_differ() -> None:
    html = hardware_html(replace(FACTS, problems=("The NVIDIA GPUs could not be asked: no driver.",)))
    assert "No GPU was found" not in html
    assert "could not be asked" in html


def test_a_gpu_has_a_card_of_its_own() -> None:
    gpu = GpuFacts("nvidia", 0, EVIL, memory_total=24 << 30, utilisation=12.4, temperature=41.2, power=80.9)
    gpu = replace(gpu, processes=(GpuProcess(4711, 1 << 30),))
    html = hardware_html(replace(FACTS, gpus=(gpu,)))
    for part in ("NVIDIA GPU 0", "process 4711: 1.00 GiB", "24.0 GiB", "12 %", "41 °C", "81 W"):
        assert part in html
    assert "<img" not in html


@pytest.mark.parametrize("name", machines.NAMES)
def test_the_advice_for_every_recorded_machine(name: str, tmp_path: Path) -> None:
    facts = machines.facts(name, tmp_path)
    advice = recommend(facts, as_set_up(facts))
    html = advice_html(advice)
    assert html.count("<tr") == 1 + len(advice.sizes)
    for sentence in (advice.device, advice.guidance, *advice.hints, *advice.warnings):
        assert escape(sentence) in html
    for offer in advice.offers:
        assert escape(offer.command) in html
    assert ("To install" in html) == bool(advice.offers)


def test_names_of_devices_are_text(tmp_path: Path) -> None:
    facts = machines.facts("nvidia-single", tmp_path)
    facts = replace(facts, gpus=(replace(facts.gpus[0], name=EVIL),))
    assert "<img" not in advice_html(recommend(facts, [Ability("xllamacpp", reason=EVIL)]))
