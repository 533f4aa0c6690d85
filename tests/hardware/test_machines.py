"""What is detected on each recorded machine, as facts that matter and as the table that people review."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.hardware import machines
from tests.hardware.machines.table import DETECTED, detected_table
from webui.hardware import nvidia
from webui.hardware.facts import GIB, GpuProcess, HardwareFacts
from webui.loaders.threads import threads_for


@pytest.fixture
def facts(request: pytest.FixtureRequest, tmp_path: Path) -> HardwareFacts:
    return machines.facts(request.param, tmp_path)


def on(name: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("facts", [name], indirect=True)


def test_the_table_is_as_reviewed(tmp_path: Path) -> None:
    """Written anew by `python -m tests.hardware.machines.table`; then it has to be read again."""
    assert detected_table(tmp_path) == DETECTED.read_text("utf-8")


@on("nvidia-single")
def test_who_holds_a_card_s_memory(facts: HardwareFacts) -> None:
    (gpu,) = facts.gpus
    assert gpu.processes == (GpuProcess(1804, 520 << 20), GpuProcess(2210, 180 << 20))
    assert gpu.held_by_others(()) == 900 << 20
    assert gpu.held_by_others({1804}) == 380 << 20


@on("nvidia-mig")
def test_instances_stand_for_the_card(facts: HardwareFacts) -> None:
    assert [(gpu.index, gpu.uuid, gpu.part_of, gpu.utilisation) for gpu in facts.gpus] == [
        (0, "MIG-0001", "GPU-c0de", None),
        (1, "MIG-0002", "GPU-c0de", None),
        (2, "MIG-0003", "GPU-c0de", None),
    ]
    assert {gpu.compute_capability for gpu in facts.gpus} == {"8.0"}
    assert facts.gpus[1].memory_free == (9856 - 4100) << 20


@on("laptop-nvidia-intel")
def test_two_vendors_in_a_laptop(facts: HardwareFacts) -> None:
    assert [(gpu.vendor, gpu.integrated, gpu.vulkan) for gpu in facts.gpus] == [
        ("nvidia", False, True),
        ("intel", True, True),
    ]
    assert (facts.cpu.performance_cores, facts.cpu.efficiency_cores, facts.cpu.physical_cores) == (6, 8, 14)
    assert threads_for(facts.cpu) == 6


@on("amd-apu")
def test_a_gpu_in_the_processor_may_use_the_machine_s_memory(facts: HardwareFacts) -> None:
    (gpu,) = facts.gpus
    assert (gpu.integrated, gpu.compute_capability, gpu.runtime) == (True, "gfx1103", None)
    assert gpu.memory_total == 536870912 + 16481669120
    assert gpu.reserved == 512 << 20
    assert gpu.memory_free is not None and gpu.memory_free <= facts.memory.available + gpu.reserved


@on("container-2-of-64")
def test_a_container_has_what_it_is_granted(facts: HardwareFacts) -> None:
    assert (facts.cpu.usable_cores, facts.cpu.logical_cores, facts.cpu.quota) == (2, 64, 2.0)
    assert (facts.memory.total, facts.memory.limited, facts.system.container) == (4 * GIB, True, True)
    assert facts.memory.available == 4 * GIB - (943718400 - 314572800)
    assert threads_for(facts.cpu) == 1


@on("nvidia-without-driver")
def test_a_card_on_the_kernel_s_own_driver(facts: HardwareFacts) -> None:
    assert facts.gpus == ()
    (problem,) = facts.problems
    assert "GeForce RTX 4090" in problem and "nouveau has it" in problem


@on("wsl-nvidia")
def test_wsl_tells_no_sizes_of_processes(facts: HardwareFacts) -> None:
    (gpu,) = facts.gpus
    assert (facts.system.wsl, gpu.processes, gpu.held_by_others({71})) == (True, (GpuProcess(71, None),), None)


def test_wsl_without_a_card_that_can_be_seen(tmp_path: Path) -> None:
    root = tmp_path / "root"
    host = machines.host("none", root)
    (root / "dev").mkdir(exist_ok=True)
    (root / "dev/dxg").touch()
    _, (problem,) = nvidia.detect(host)
    assert "passes a GPU into WSL" in problem
