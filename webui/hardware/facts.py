"""What is known of this machine. `None` means unknown and is shown as unknown; sizes are bytes."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path

GIB = 1 << 30


@dataclass(frozen=True, slots=True)
class CpuFacts:
    """`usable_cores` is what this process may use (affinity and cgroup limits), not the host's number.

    `allowed_cores` are the logical cores the scheduler gives it, `allowed_physical` the physical ones behind them, and
    `quota` how many cores' worth of time a control group grants. `performance_cores` and `efficiency_cores` are
    physical ones among the allowed, and `None` where all are alike or nothing is known of it.
    """

    model: str | None
    architecture: str
    physical_cores: int | None
    logical_cores: int | None
    usable_cores: int
    instruction_sets: tuple[str, ...] = ()
    allowed_cores: int | None = None
    allowed_physical: int | None = None
    quota: float | None = None
    performance_cores: int | None = None
    efficiency_cores: int | None = None


@dataclass(frozen=True, slots=True)
class MemoryFacts:
    """`total` and `available` respect a cgroup limit where there is one; `limited` says so."""

    total: int
    available: int
    limited: bool = False
    swap_total: int | None = None
    swap_free: int | None = None


@dataclass(frozen=True, slots=True)
class DiskFacts:
    path: Path
    total: int
    free: int


@dataclass(frozen=True, slots=True)
class SystemFacts:
    name: str
    version: str
    python: str
    container: bool | None = None
    wsl: bool | None = None


@dataclass(frozen=True, slots=True)
class GpuProcess:
    """A process that holds memory of a GPU. The driver does not always tell how much."""

    pid: int
    memory: int | None = None


@dataclass(frozen=True, slots=True)
class GpuFacts:
    """One device that programs can use: a card, a part of one (MIG), or a GPU inside the processor.

    `memory_total` and `memory_free` are what models may be put into. Of an integrated GPU that is memory of the
    machine: what the one takes, the other lacks, except for the `reserved` bytes that the firmware keeps from the
    system. `runtime` is what the driver offers programs ("CUDA 12.4", "ROCm 6.2.1", "Metal"); `vulkan` whether there
    is a Vulkan driver for it. `part_of` is the uuid of the card a MIG instance is a part of.
    """

    vendor: str  # "nvidia", "amd", "intel", "apple"
    index: int
    name: str
    memory_total: int | None = None
    memory_free: int | None = None
    driver: str | None = None
    compute_capability: str | None = None
    utilisation: float | None = None  # 0 … 100 %
    temperature: float | None = None  # degrees Celsius
    power: float | None = None  # watts
    integrated: bool | None = None
    runtime: str | None = None
    vulkan: bool | None = None
    uuid: str | None = None
    bus: str | None = None  # 0000:01:00.0
    reserved: int | None = None
    part_of: str | None = None
    processes: tuple[GpuProcess, ...] = ()

    def held_by(self, pids: Collection[int]) -> int | None:
        """Bytes that these processes hold; `None` where the driver does not tell."""
        held = [process.memory for process in self.processes if process.pid in pids]
        return None if None in held else sum(count for count in held if count is not None)

    def held_by_others(self, pids: Collection[int]) -> int | None:
        """Bytes in use that these processes do not hold: other programs, the display, the driver itself."""
        own = self.held_by(pids)
        if own is None or self.memory_total is None or self.memory_free is None:
            return None
        return max(0, self.memory_total - self.memory_free - own)


@dataclass(frozen=True, slots=True)
class VulkanFacts:
    """The Vulkan drivers that are registered on this machine, by vendor, and whether programs find the loader library.

    "software" is one that computes on the processor. Nothing here says that a driver works: an engine does.
    """

    loader: bool | None
    drivers: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class HardwareFacts:
    """`problems` holds one sentence for each probe that failed, so that "no GPU" and "could not look" differ."""

    cpu: CpuFacts
    memory: MemoryFacts
    disk: DiskFacts
    system: SystemFacts
    gpus: tuple[GpuFacts, ...] = ()
    problems: tuple[str, ...] = field(default=())
    vulkan: VulkanFacts | None = None


Found = tuple[tuple[GpuFacts, ...], tuple[str, ...]]
"""GPUs, and one sentence for each thing that stands between them and their use."""


def free_device_memory(facts: HardwareFacts) -> int | None:
    """Free bytes of the GPUs that models go to, together: 0 where there is none, `None` where one of them, or whether
    there is one, is not known. Beside cards with memory of their own, GPUs that use the machine's do not count.
    """
    cards = [gpu for gpu in facts.gpus if not gpu.integrated] or facts.gpus
    free = [gpu.memory_free for gpu in cards]
    if not free:
        return None if any("GPU" in problem for problem in facts.problems) else 0
    return None if None in free else sum(count for count in free if count is not None)


def total_device_memory(facts: HardwareFacts) -> int | None:
    """All the memory of the GPUs that models go to, as `free_device_memory` counts them."""
    cards = [gpu for gpu in facts.gpus if not gpu.integrated] or facts.gpus
    total = [gpu.memory_total for gpu in cards]
    return None if None in total else sum(count for count in total if count is not None)


def fingerprint(facts: HardwareFacts) -> str:
    """One line that stays the same as long as the machine does, as far as engines care: what runs on one runs on it.

    Processor and its instruction sets, memory (whole GiB), and each GPU with its memory and driver; nothing that
    changes while the machine works.
    """
    parts = [
        facts.cpu.model or facts.cpu.architecture,
        " ".join(facts.cpu.instruction_sets),
        f"{round(facts.memory.total / GIB)} GiB",
        *(_fingerprint_of(gpu) for gpu in facts.gpus),
    ]
    return " | ".join(parts)


def _fingerprint_of(gpu: GpuFacts) -> str:
    memory = f", {round(gpu.memory_total / GIB)} GiB" if gpu.memory_total else ""
    return f"{gpu.name}{memory}, driver {gpu.driver or 'unknown'}"


def drivers(facts: HardwareFacts) -> str:
    """The drivers of the GPUs in words, "nvidia 550.54"; empty where there is none, or none is known."""
    return ", ".join(sorted({f"{gpu.vendor} {gpu.driver}" for gpu in facts.gpus if gpu.driver}))
