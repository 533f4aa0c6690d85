"""What is known of this machine. `None` means unknown and is shown as unknown; sizes are bytes."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

GIB = 1 << 30


@dataclass(frozen=True, slots=True)
class CpuFacts:
    """`usable_cores` is what this process may use (affinity and cgroup limits), not the host's number."""

    model: str | None
    architecture: str
    physical_cores: int | None
    logical_cores: int | None
    usable_cores: int
    instruction_sets: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class MemoryFacts:
    """`total` and `available` respect a cgroup limit where there is one; `limited` says so."""

    total: int
    available: int
    limited: bool = False


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
class GpuFacts:
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


@dataclass(frozen=True, slots=True)
class HardwareFacts:
    """`problems` holds one sentence for each probe that failed, so that "no GPU" and "could not look" differ."""

    cpu: CpuFacts
    memory: MemoryFacts
    disk: DiskFacts
    system: SystemFacts
    gpus: tuple[GpuFacts, ...] = ()
    problems: tuple[str, ...] = field(default=())


def free_device_memory(facts: HardwareFacts) -> int | None:
    """Free bytes of all GPUs together: 0 where there is none, `None` where one of them, or whether there is one, is
    not known.
    """
    free = [gpu.memory_free for gpu in facts.gpus]
    if not free:
        return None if any("GPU" in problem for problem in facts.problems) else 0
    return None if None in free else sum(count for count in free if count is not None)


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
