"""GPUs from recorded trees, registries and driver answers; unknown stays unknown, and a fault is told."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pynvml
import pytest

from tests.hardware import trees
from webui import hardware
from webui.hardware import amd, apple, intel, nvidia, pci, windows

GIB = trees.GIB


class RecordedNvml:
    """pynvml with the answers of a machine: an H100 and a card that fell off the bus. Errors are pynvml's own."""

    def __init__(self, *, init_error: int | None = None) -> None:
        self.init_error = init_error
        self.open = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(pynvml, name)  # constants and error classes

    def nvmlInit(self) -> None:
        if self.init_error is not None:
            raise pynvml.NVMLError(self.init_error)
        self.open += 1

    def nvmlShutdown(self) -> None:
        self.open -= 1

    def nvmlSystemGetDriverVersion(self) -> str:
        return "550.54.15"

    def nvmlDeviceGetCount(self) -> int:
        return 2

    def nvmlDeviceGetHandleByIndex(self, index: int) -> int:
        if index == 1:
            raise pynvml.NVMLError(pynvml.NVML_ERROR_GPU_IS_LOST)
        return index

    def nvmlDeviceGetName(self, handle: int) -> bytes:
        return b"NVIDIA H100 80GB HBM3"

    def nvmlDeviceGetMemoryInfo(self, handle: int) -> Any:
        return SimpleNamespace(total=80 * GIB, free=70 * GIB, used=10 * GIB)

    def nvmlDeviceGetCudaComputeCapability(self, handle: int) -> tuple[int, int]:
        return (9, 0)

    def nvmlDeviceGetUtilizationRates(self, handle: int) -> Any:
        return SimpleNamespace(gpu=37, memory=12)

    def nvmlDeviceGetTemperature(self, handle: int, sensor: int) -> int:
        assert sensor == pynvml.NVML_TEMPERATURE_GPU
        return 54

    def nvmlDeviceGetPowerUsage(self, handle: int) -> int:
        raise pynvml.NVMLError(pynvml.NVML_ERROR_NOT_SUPPORTED)


def test_nvidia_facts_and_a_lost_card(tmp_path: Path) -> None:
    nvml = RecordedNvml()
    (gpu,), (problem,) = nvidia.read(nvml, tmp_path)
    assert (gpu.name, gpu.driver, gpu.compute_capability) == ("NVIDIA H100 80GB HBM3", "550.54.15", "9.0")
    assert (gpu.memory_total, gpu.memory_free) == (80 * GIB, 70 * GIB)
    assert (gpu.utilisation, gpu.temperature, gpu.power) == (37.0, 54.0, None)
    assert problem.startswith("NVIDIA GPU 1 cannot be used")
    assert nvml.open == 0


def test_no_driver_is_no_gpu_and_no_problem(tmp_path: Path) -> None:
    nvml = RecordedNvml(init_error=pynvml.NVML_ERROR_LIBRARY_NOT_FOUND)
    assert nvidia.read(nvml, tmp_path) == ((), ())
    trees.write(tmp_path, trees.card("0000:01:00.0", pci.NVIDIA, 0x2684))
    assert nvidia.read(nvml, tmp_path) == (
        (),
        ("There is an NVIDIA card, and its driver is not installed or not loaded.",),
    )
    mismatch = RecordedNvml(init_error=pynvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH)
    _, (problem,) = nvidia.read(mismatch, tmp_path)
    assert "version mismatch" in problem.lower()


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


class RecordedRegistry:
    """What a Windows machine's registry said."""

    def __init__(self, keys: dict[str, dict[str, Any]]) -> None:
        self.keys = keys

    def values(self, key: str) -> dict[str, Any]:
        return self.keys.get(key, {})

    def children(self, key: str) -> list[str]:
        return [name.removeprefix(key + "\\") for name in self.keys if name.startswith(key + "\\")]


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
    assert (graphics.name, graphics.memory_total, graphics.driver) == ("Intel(R) UHD Graphics 770", GIB, None)
    assert windows.processor_name(registry) == "AMD Ryzen 9 7950X 16-Core Processor"


def test_apple_memory_is_shared_or_as_limited() -> None:
    lines = f"machdep.cpu.brand_string: Apple M2 Max\nhw.memsize: {64 * GIB}\n"
    gpu = apple.read(lambda command: lines + "iogpu.wired_limit_mb: 0\n", "14.5")
    assert (gpu.name, gpu.memory_total, gpu.driver) == ("Apple M2 Max GPU", 64 * GIB, "Metal, macOS 14.5")
    assert apple.read(lambda command: lines + "iogpu.wired_limit_mb: 57344\n", "").memory_total == 56 * GIB
    assert apple.read(lambda command: "", "").memory_total is None


def test_one_failing_probe_does_not_hide_the_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(root: Path) -> nvidia.Found:
        raise RuntimeError("the driver lost its mind")

    monkeypatch.setattr(nvidia, "detect", broken)
    files = trees.card("0000:03:00.0", pci.AMD, 0x744C) | {"proc/cpuinfo": trees.X86_CPUINFO}
    facts = hardware.detect(tmp_path / "not" / "there", root=trees.write(tmp_path / "root", files))
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
