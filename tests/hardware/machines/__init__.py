"""Machines as their systems show them: what the kernel's files, NVML, sysctl or the registry of each would say.

One YAML file each, with `about` in one line. `processor` is spelled out into /proc/cpuinfo and the topology in /sys,
`cards` into the bus; `files` and `links` are taken as they are. A machine is laid out as a tree in a test's own folder,
and everything that is not a file is answered from the YAML. They were put together from what such machines print, not
taken from one machine each.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pynvml
import yaml

from tests.hardware import trees
from webui.hardware import detect
from webui.hardware.facts import CpuFacts, DiskFacts, HardwareFacts
from webui.hardware.host import Host

HERE = Path(__file__).parent
NAMES = sorted(path.stem for path in HERE.glob("*.yaml"))
GIB = 1 << 30
MIB = 1 << 20


def about(name: str) -> str:
    return str(_read(name)["about"])


def host(name: str, folder: Path) -> Host:
    """The machine called `name`, laid out under `folder`."""
    machine = _read(name)
    root = trees.write(folder, machine.get("files", {}))
    for link, target in machine.get("links", {}).items():
        (root / target).mkdir(parents=True, exist_ok=True)
        (root / link).parent.mkdir(parents=True, exist_ok=True)
        (root / link).symlink_to(root / target)
    if "processor" in machine:
        _processor(root, machine["processor"])
    if "memory" in machine and "system" not in machine:
        total, available = (int(float(gib) * GIB / 1024) for gib in machine["memory"])
        trees.write(root, {"proc/meminfo": f"MemTotal: {total} kB\nMemAvailable: {available} kB\nSwapTotal: 0 kB\n"})
    for slot, card in machine.get("cards", {}).items():
        _card(root, slot, card)
    return Host(
        system=machine.get("system", "Linux"),
        architecture=machine.get("architecture", "x86_64"),
        version=str(machine.get("version", "")),
        root=root,
        nvml=lambda: RecordedNvml(machine.get("nvml")),
        run=lambda command: _sysctl(machine.get("sysctl", {}), command),
        registry=RecordedRegistry(machine.get("registry", {})),
        memory=lambda: (int(machine["memory"][0] * GIB), int(machine["memory"][1] * GIB)),
    )


def facts(name: str, folder: Path) -> HardwareFacts:
    """What is detected on it. What other systems than Linux tell by calls alone is taken from the YAML."""
    machine, found = _read(name), detect(folder / "models", host(name, folder / "root"))
    found = replace(found, disk=DiskFacts(Path("/models"), 500 * GIB, 200 * GIB))
    found = replace(found, system=replace(found.system, python="CPython 3.11.9"))
    if "cores" in machine:
        physical, logical = machine["cores"]
        cpu = CpuFacts(
            found.cpu.model, found.cpu.architecture, physical, logical, logical, ("avx2",), logical, physical
        )
        found = replace(found, cpu=cpu, system=replace(found.system, version="10.0.22631"))
    return found


def _read(name: str) -> dict[str, Any]:
    machine: dict[str, Any] = yaml.safe_load((HERE / f"{name}.yaml").read_text("utf-8"))
    return machine


def _processor(root: Path, processor: Mapping[str, Any]) -> None:
    """`cores` of two threads each if `threads` says so, then `efficiency_cores` of one, numbered as Linux does."""
    threads, blocks, number = processor.get("threads", 1), [], 0
    kinds = [(core, threads) for core in range(processor["cores"])]
    kinds += [(processor["cores"] + core, 1) for core in range(processor.get("efficiency_cores", 0))]
    fast = processor["cores"] * threads
    for core, width in kinds:
        for _ in range(width):
            word = "Features" if processor.get("arm") else "flags"
            physical = "" if processor.get("arm") else f"physical id\t: 0\ncore id\t\t: {core}\n"
            name = "" if processor.get("arm") else f"model name\t: {processor['model']}\n"
            blocks.append(f"processor\t: {number}\n{name}{physical}{word}\t: {processor['flags']}")
            siblings = f"sys/devices/system/cpu/cpu{number}/topology/core_cpus_list"
            first = core * threads if core < processor["cores"] else number
            trees.write(root, {siblings: f"{first}-{first + width - 1}\n" if width > 1 else f"{number}\n"})
            number += 1
    if processor.get("arm"):
        blocks.append(f"Model\t\t: {processor['model']}")
    trees.write(root, {"proc/cpuinfo": "\n\n".join(blocks)})
    allowed = processor.get("allowed", f"0-{number - 1}")
    trees.write(root, {"proc/self/status": f"Name:\tpython\nCpus_allowed_list:\t{allowed}\n"})
    if processor.get("efficiency_cores"):
        lists = {"cpu_core": f"0-{fast - 1}\n", "cpu_atom": f"{fast}-{number - 1}\n"}
        trees.write(root, {f"sys/devices/{unit}/cpus": text for unit, text in lists.items()})


def _card(root: Path, slot: str, card: Mapping[str, Any]) -> None:
    files = {name.replace("/", "__"): f"{text}\n" for name, text in card.get("files", {}).items()}
    trees.write(root, trees.card(slot, card["vendor"], card["device"], card.get("class", "0x030000"), **files))
    if card.get("driver"):
        trees.bind(root, slot, card["driver"])
    if node := card.get("render"):
        trees.write(root, {f"sys/bus/pci/devices/{slot}/drm/{node}/dev": "226:128\n", f"dev/dri/{node}": ""})


def _sysctl(values: Mapping[str, Any], command: Sequence[str]) -> str:
    trees_asked = command[1:]
    told = {name: value for name, value in values.items() if any(name.startswith(tree) for tree in trees_asked)}
    return "".join(f"{name}: {value}\n" for name, value in told.items())


class RecordedRegistry:
    """What a Windows machine's registry said."""

    def __init__(self, keys: Mapping[str, Mapping[str, Any]]) -> None:
        self.keys = keys

    def values(self, key: str) -> Mapping[str, Any]:
        return self.keys.get(key, {})

    def children(self, key: str) -> list[str]:
        return [name.removeprefix(key + "\\") for name in self.keys if name.startswith(key + "\\")]


class RecordedNvml:
    """pynvml with the answers of a machine; errors and constants are pynvml's own.

    `recorded` has `driver`, `cuda` and `gpus`; a GPU may have `mig`, a list of its instances, and `error`, the name of
    the error its handle gives. A value that is absent is "not supported". Without `recorded` there is no driver;
    `open` counts `nvmlInit` without its end.
    """

    def __init__(self, recorded: Mapping[str, Any] | None) -> None:
        self.recorded = recorded or {}
        self.open = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(pynvml, name)

    def nvmlInit(self) -> None:
        if not self.recorded or "init_error" in self.recorded:
            error = self.recorded.get("init_error", "NVML_ERROR_LIBRARY_NOT_FOUND")
            raise pynvml.NVMLError(getattr(pynvml, error))
        self.open += 1

    def nvmlShutdown(self) -> None:
        self.open -= 1

    def nvmlSystemGetDriverVersion(self) -> str:
        return str(self.recorded["driver"])

    def nvmlSystemGetCudaDriverVersion(self) -> int:
        return int(_told(self.recorded, "cuda"))

    def nvmlDeviceGetCount(self) -> int:
        return len(self.recorded["gpus"])

    def nvmlDeviceGetHandleByIndex(self, index: int) -> Any:
        gpu = self.recorded["gpus"][index]
        if "error" in gpu:
            raise pynvml.NVMLError(getattr(pynvml, gpu["error"]))
        return gpu

    def nvmlDeviceGetMigMode(self, gpu: Any) -> list[int]:
        _told(gpu, "mig")
        return [1, 1]

    def nvmlDeviceGetMaxMigDeviceCount(self, gpu: Any) -> int:
        return 7

    def nvmlDeviceGetMigDeviceHandleByIndex(self, gpu: Any, index: int) -> Any:
        if index >= len(gpu["mig"]):
            raise pynvml.NVMLError(pynvml.NVML_ERROR_NOT_FOUND)
        return gpu["mig"][index]

    def nvmlDeviceGetName(self, gpu: Any) -> str:
        return str(_told(gpu, "name"))

    def nvmlDeviceGetUUID(self, gpu: Any) -> str:
        return str(_told(gpu, "uuid"))

    def nvmlDeviceGetPciInfo(self, gpu: Any) -> Any:
        return SimpleNamespace(busId=_told(gpu, "bus").encode())

    def nvmlDeviceGetMemoryInfo(self, gpu: Any) -> Any:
        total, used = (int(mib * MIB) for mib in _told(gpu, "memory"))
        return SimpleNamespace(total=total, used=used, free=total - used)

    def nvmlDeviceGetCudaComputeCapability(self, gpu: Any) -> tuple[int, int]:
        major, minor = str(_told(gpu, "capability")).split(".")
        return int(major), int(minor)

    def nvmlDeviceGetUtilizationRates(self, gpu: Any) -> Any:
        return SimpleNamespace(gpu=_told(gpu, "use"), memory=0)

    def nvmlDeviceGetTemperature(self, gpu: Any, sensor: int) -> int:
        assert sensor == pynvml.NVML_TEMPERATURE_GPU
        return int(_told(gpu, "temperature"))

    def nvmlDeviceGetPowerUsage(self, gpu: Any) -> int:
        return int(_told(gpu, "watts") * 1000)

    def nvmlDeviceGetComputeRunningProcesses(self, gpu: Any) -> list[Any]:
        held = _told(gpu, "processes").items()
        return [SimpleNamespace(pid=pid, usedGpuMemory=None if mib is None else mib * MIB) for pid, mib in held]

    def nvmlDeviceGetGraphicsRunningProcesses(self, gpu: Any) -> list[Any]:
        held = _told(gpu, "graphics").items()
        return [SimpleNamespace(pid=pid, usedGpuMemory=None if mib is None else mib * MIB) for pid, mib in held]


def _told(gpu: Mapping[str, Any], name: str) -> Any:
    if name not in gpu:
        raise pynvml.NVMLError(pynvml.NVML_ERROR_NOT_SUPPORTED)
    return gpu[name]
