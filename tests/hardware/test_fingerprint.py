"""The machine's fingerprint: the same while the machine works, another when it is changed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from webui.hardware import detect
from webui.hardware.facts import (
    GIB,
    CpuFacts,
    DiskFacts,
    GpuFacts,
    HardwareFacts,
    MemoryFacts,
    SystemFacts,
    fingerprint,
)

GPU = GpuFacts("nvidia", 0, "NVIDIA H100", 80 * GIB, 70 * GIB, "550.54.15", utilisation=3.0)
FACTS = HardwareFacts(
    CpuFacts("Xeon", "x86_64", 2, 4, 4, ("avx2", "fma")),
    MemoryFacts(64 * GIB, 32 * GIB),
    DiskFacts(Path("/"), 1, 1),
    SystemFacts("Linux", "6", "3.11"),
    (GPU,),
)


def test_it_reads_like_a_line() -> None:
    assert fingerprint(FACTS) == "Xeon | avx2 fma | 64 GiB | NVIDIA H100, 80 GiB, driver 550.54.15"


@pytest.mark.parametrize(
    "working",
    [
        replace(FACTS, memory=MemoryFacts(64 * GIB - 5_000_000, GIB)),
        replace(FACTS, gpus=(replace(GPU, memory_free=0, utilisation=99.0, temperature=80.0),)),
        replace(FACTS, disk=DiskFacts(Path("/"), 1, 0)),
    ],
)
def test_what_changes_while_it_works_is_no_part_of_it(working: HardwareFacts) -> None:
    assert fingerprint(working) == fingerprint(FACTS)


@pytest.mark.parametrize(
    "changed",
    [
        replace(FACTS, cpu=replace(FACTS.cpu, model="EPYC")),
        replace(FACTS, cpu=replace(FACTS.cpu, instruction_sets=("avx2",))),
        replace(FACTS, memory=MemoryFacts(128 * GIB, 32 * GIB)),
        replace(FACTS, gpus=()),
        replace(FACTS, gpus=(GPU, GPU)),
        replace(FACTS, gpus=(replace(GPU, driver="560.0"),)),
    ],
)
def test_a_changed_machine_is_another(changed: HardwareFacts) -> None:
    assert fingerprint(changed) != fingerprint(FACTS)


def test_this_machine_is_itself(tmp_path: Path) -> None:
    assert fingerprint(detect(tmp_path)) == fingerprint(detect(tmp_path)) != ""
