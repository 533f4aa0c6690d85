"""Reading llama.cpp's own log: where it put the model.

The device stands in its log only. The lines are the same whether llama.cpp is called through its Python binding or runs
as a server, so every loader built on it can use this module. Why it failed stands there too, which
`webui.loaders.causes` reads. Pure functions over lines; who collects the lines is up to the loader.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

_DEVICE_KINDS = (
    ("CUDA", "cuda"),
    ("ROCm", "rocm"),
    ("Vulkan", "vulkan"),
    ("Metal", "metal"),
    ("MTL", "metal"),
    ("SYCL", "xpu"),
)
_USING_DEVICE = re.compile(r"using device (?P<id>\S+) \((?P<name>.*?)\)(?: \([^)]*\))? - ")
_OFFLOADED = re.compile(r"offloaded (?P<done>\d+)/(?P<all>\d+) layers to GPU")
_CACHE = re.compile(r"(?:llama_kv_cache|llama_memory_recurrent): size =\s+([\d.]+) MiB")
_COMPUTE = re.compile(r"\s(\S+) compute buffer size =\s+([\d.]+) MiB")
MIB = 1024 * 1024


def device_kind(name: str) -> str:
    """The kind behind one of llama.cpp's names for devices: CUDA0, Vulkan1, ROCm0, Metal, CPU …"""
    if name.startswith("CPU"):
        return "cpu"
    return next((kind for prefix, kind in _DEVICE_KINDS if name.startswith(prefix)), "other")


@dataclass(frozen=True, slots=True)
class DeviceReport:
    """Where the weights are. `layers` counts those on a GPU; `text` is for a person."""

    text: str
    kind: str
    layers: int


def read_device(lines: Iterable[str]) -> DeviceReport:
    """The devices that the log of a load names; the CPU when it names none or nothing was offloaded to them."""
    devices: list[tuple[str, str]] = []
    done = total = 0
    for line in lines:
        if found := _USING_DEVICE.search(line):
            devices.append((found["id"], found["name"]))
        elif found := _OFFLOADED.search(line):
            done, total = int(found["done"]), int(found["all"])
    if not devices or not done:
        return DeviceReport("CPU", "cpu", 0)
    kind = device_kind(devices[0][0])
    names = " + ".join(dict.fromkeys(name for _, name in devices))
    count = f"{len(devices)} × {names}" if len(devices) > 1 and " + " not in names else names
    return DeviceReport(f"{count}, {done}/{total} layers", kind, done)


@dataclass(frozen=True, slots=True)
class EnginePlan:
    """What the engine would allocate beside the weights, in bytes: caches and states of all layers, and what it
    computes in, by the engine's names of devices ("CPU", "CUDA0", "CUDA_Host").
    """

    cache: int
    compute: Mapping[str, int]

    @property
    def host_compute(self) -> int:
        """In the machine's own memory; page-locked buffers that a GPU reads lie there too."""
        return sum(size for name, size in self.compute.items() if _on_host(name))

    @property
    def device_compute(self) -> tuple[int, ...]:
        """On each GPU that is used, in the engine's order."""
        return tuple(size for name, size in self.compute.items() if not _on_host(name))


def read_plan(lines: Iterable[str]) -> EnginePlan | None:
    """The plans in the log of a load, or of a dry run; `None` where it broke off before they were made."""
    cache = 0.0
    compute: dict[str, float] = {}
    for line in lines:
        if found := _CACHE.search(line):
            cache += float(found[1]) * MIB
        elif found := _COMPUTE.search(line):
            compute[found[1]] = float(found[2]) * MIB  # said again where it was planned anew
    return EnginePlan(round(cache), {name: round(size) for name, size in compute.items()}) if compute else None


def _on_host(name: str) -> bool:
    return device_kind(name) == "cpu" or name.endswith("_Host")
