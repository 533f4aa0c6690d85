"""GPUs from recorded trees, registries and driver answers; unknown stays unknown, and a fault is told."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.hardware import trees
from tests.hardware.machines import RecordedNvml, RecordedRegistry
from webui import hardware
from webui.hardware import amd, apple, intel, nvidia, pci, this_host, windows
from webui.hardware.facts import Found, GpuFacts, GpuProcess
from webui.hardware.host import Host

GIB = trees.GIB


H100 = {
    "driver": "550.54.15",
    "cuda": 12040,
    "gpus": [
        {
            "name": "NVIDIA H100 80GB HBM3",
            "uuid": "GPU-1",
            "bus": "00000000:65:00.0",
            "memory": [80 * 1024, 10 * 1024],
            "capability": "9.0",
            "use": 37,
            "temperature": 54,
            "processes": {12: 9 * 1024, 13: None},
            "graphics": {12: 100},
        },
        {"error": "NVML_ERROR_GPU_IS_LOST"},
    ],
}


def nvidia_host(root: Path, recorded: dict[str, Any] | None) -> tuple[Host, RecordedNvml]:
    nvml = RecordedNvml(recorded)
    return replace(this_host(), system="Linux", root=root, nvml=lambda: nvml), nvml


def test_nvidia_facts_and_a_lost_card(tmp_path: Path) -> None:
    host, nvml = nvidia_host(tmp_path, H100)
    (gpu,), (problem,) = nvidia.detect(host)
    assert (gpu.name, gpu.driver, gpu.compute_capability) == ("NVIDIA H100 80GB HBM3", "550.54.15", "9.0")
    assert (gpu.memory_total, gpu.memory_free) == (80 * GIB, 70 * GIB)
    assert (gpu.utilisation, gpu.temperature, gpu.power) == (37.0, 54.0, None)
    assert (gpu.runtime, gpu.uuid, gpu.bus, gpu.integrated) == ("CUDA 12.4", "GPU-1", "0000:65:00.0", False)
    assert gpu.processes == (GpuProcess(12, 9 * GIB), GpuProcess(13, None))
    assert (gpu.held_by({12}), gpu.held_by({13}), gpu.held_by(())) == (9 * GIB, None, 0)
    assert (gpu.held_by_others({12}), gpu.held_by_others({13})) == (GIB, None)
    assert problem.startswith("NVIDIA GPU 1 cannot be used")
    assert nvml.open == 0


def test_no_driver_is_no_gpu_and_no_problem(tmp_path: Path) -> None:
    host, _ = nvidia_host(tmp_path, None)
    assert nvidia.detect(host) == ((), ())
    trees.write(tmp_path, trees.card("0000:01:00.0", pci.NVIDIA, 0x2684))
    assert nvidia.detect(host)[1] == (
        "An NVIDIA card is in slot 0000:01:00.0, and NVIDIA's driver is not installed or not loaded. "
        "Install it to use the card.",
    )
    mismatch, _ = nvidia_host(tmp_path, {"init_error": "NVML_ERROR_LIB_RM_VERSION_MISMATCH"})
    _, (problem,) = nvidia.detect(mismatch)
    assert "version mismatch" in problem.lower()
    without = replace(host, nvml=lambda: None)
    assert "nvidia-ml-py is not installed" in nvidia.detect(without)[1][0]


def test_a_divided_card_without_instances_is_told(tmp_path: Path) -> None:
    host, _ = nvidia_host(tmp_path, {"driver": "535", "gpus": [{"name": "NVIDIA A100", "mig": []}]})
    gpus, (problem,) = nvidia.detect(host)
    assert gpus == ()
    assert "A100" in problem and "no instance" in problem


def test_amd_facts_from_sysfs(tmp_path: Path) -> None:
    files = trees.card(
        "0000:03:00.0",
        pci.AMD,
        0x744C,
        mem_info_vram_total=f"{24 * GIB}\n",
        mem_info_vram_used=f"{4 * GIB}\n",
        gpu_busy_percent="12\n",
        hwmon__hwmon3__temp1_input="45000\n",
        hwmon__hwmon3__power1_average="31000000\n",
    )
    files |= {"usr/share/misc/pci.ids": trees.PCI_IDS, "sys/class/kfd/kfd/topology/nodes/0/properties": "vendor_id 0\n"}
    files |= {"sys/class/kfd/kfd/topology/nodes/1/properties": trees.KFD_NODE, "dev/kfd": ""}
    root = trees.write(tmp_path, files)
    trees.bind(root, "0000:03:00.0", "amdgpu")
    (gpu,), problems = amd.linux(root)
    assert problems == ()
    assert gpu.name == "Navi 31 [Radeon RX 7900 XT/7900 XTX]"
    assert (gpu.memory_total, gpu.memory_free) == (24 * GIB, 20 * GIB)
    assert (gpu.driver, gpu.compute_capability) == ("amdgpu", "gfx1100")
    assert (gpu.utilisation, gpu.temperature, gpu.power) == (12.0, 45.0, 31.0)
    (root / "dev/kfd").unlink()
    assert "ROCm cannot use" in amd.linux(root)[1][0]


@pytest.mark.parametrize(("version", "name"), [("90010", "gfx90a"), ("100300", "gfx1030"), ("90402", "gfx942")])
def test_amd_architectures_are_written_as_rocm_writes_them(tmp_path: Path, version: str, name: str) -> None:
    node = trees.KFD_NODE.replace("110000", version)
    files = trees.card("0000:03:00.0", pci.AMD, 0x7408) | {"sys/class/kfd/kfd/topology/nodes/4/properties": node}
    assert amd.linux(trees.write(tmp_path, files))[0][0].compute_capability == name


def test_an_amd_card_without_driver_or_details_is_still_named(tmp_path: Path) -> None:
    root = trees.write(tmp_path, trees.card("0000:03:00.0", pci.AMD, 0x744C))
    (gpu,), (problem,) = amd.linux(root)
    assert gpu.name == "AMD GPU 744c"
    assert (gpu.memory_total, gpu.driver, gpu.compute_capability, gpu.utilisation) == (None, None, None, None)
    assert "0000:03:00.0 has no driver" in problem


def test_intel_cards_and_no_npus(tmp_path: Path) -> None:
    files = trees.card("0000:00:02.0", pci.INTEL, 0xA780)
    files |= trees.card("0000:04:00.0", pci.INTEL, 0x56A0, tile0__physical_vram_size_bytes="0x400000000\n")
    files |= trees.card("0000:00:0b.0", pci.INTEL, 0x7D1D, "0x120000")
    files |= trees.card("0000:00:1f.0", pci.INTEL, 0x7A04, "0x060100")
    root = trees.write(tmp_path, files | {"usr/share/hwdata/pci.ids": trees.PCI_IDS})
    trees.bind(root, "0000:00:02.0", "i915")
    trees.bind(root, "0000:04:00.0", "xe")
    gpus, problems = intel.linux(root)
    assert [(gpu.index, gpu.name, gpu.driver, gpu.memory_total) for gpu in gpus] == [
        (0, "Intel GPU a780", "i915", None),
        (1, "DG2 [Arc A770]", "xe", 16 * GIB),
    ]
    assert problems == ()


def test_windows_adapters_by_vendor() -> None:
    folder = windows.DISPLAY_CLASS
    registry = RecordedRegistry(
        {
            f"{folder}\\0000": {
                "DriverDesc": "AMD Radeon RX 7900 XTX",
                "MatchingDeviceId": "PCI\\VEN_1002&DEV_744C&REV_C8",
                "DriverVersion": "31.0.24019.1006",
                "HardwareInformation.qwMemorySize": 24 * GIB,
            },
            f"{folder}\\0001": {
                "DriverDesc": "Intel(R) UHD Graphics 770",
                "MatchingDeviceId": "pci\\ven_8086&dev_a780",
                "HardwareInformation.MemorySize": (1 * GIB).to_bytes(4, "little"),
            },
            f"{folder}\\0002": {"DriverDesc": "Remote Display Adapter", "MatchingDeviceId": "rdpidd"},
            f"{folder}\\Configuration": {"MatchingDeviceId": "pci\\ven_1002&dev_744c"},
            windows.PROCESSOR_KEY: {"ProcessorNameString": "AMD Ryzen 9 7950X 16-Core Processor            "},
        }
    )
    (radeon,) = amd.from_registry(registry)
    assert (radeon.name, radeon.memory_total, radeon.driver) == ("AMD Radeon RX 7900 XTX", 24 * GIB, "31.0.24019.1006")
    (graphics,) = intel.from_registry(registry)
    assert (graphics.name, graphics.reserved, graphics.driver) == ("Intel(R) UHD Graphics 770", GIB, None)
    assert (graphics.memory_total, graphics.integrated, radeon.integrated) == (None, True, False)
    assert windows.processor_name(registry) == "AMD Ryzen 9 7950X 16-Core Processor"


def test_apple_memory_is_what_metal_lets_it_hold(tmp_path: Path) -> None:
    def gpu(**told: int) -> GpuFacts:
        lines = "".join(f"{name.replace('_', '.', 1)}: {value}\n" for name, value in told.items())
        host = replace(this_host(), system="Darwin", architecture="arm64", version="14.5", run=lambda command: lines)
        return apple.detect(host)[0][0]

    assert (gpu(hw_memsize=64 * GIB).memory_total, gpu(hw_memsize=64 * GIB).driver) == (48 * GIB, "Metal, macOS 14.5")
    assert gpu(hw_memsize=24 * GIB).memory_total == 16 * GIB
    assert gpu(hw_memsize=64 * GIB, iogpu_wired_limit_mb=57344).memory_total == 56 * GIB
    assert gpu().memory_total is None


def test_one_failing_probe_does_not_hide_the_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(host: Host) -> Found:
        raise RuntimeError("the driver lost its mind")

    monkeypatch.setattr(nvidia, "detect", broken)
    files = trees.card("0000:03:00.0", pci.AMD, 0x744C) | {"proc/cpuinfo": trees.X86_CPUINFO}
    facts = hardware.detect(
        tmp_path / "not" / "there", replace(this_host(), system="Linux", root=trees.write(tmp_path / "root", files))
    )
    assert "Could not read NVIDIA GPUs: the driver lost its mind." in facts.problems
    assert [gpu.vendor for gpu in facts.gpus] == ["amd"]
    assert facts.disk.total == shutil.disk_usage(tmp_path).total
    assert facts.cpu.model is not None


def test_this_machine_is_read_whole(tmp_path: Path) -> None:
    facts = hardware.detect(tmp_path)
    assert facts.cpu.usable_cores >= 1
    assert facts.memory.total > 0
    assert facts.disk.free > 0
    assert all("Could not read" not in problem for problem in facts.problems)
