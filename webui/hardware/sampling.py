"""One look at what the machine is doing: processor, memory, every GPU, and the share of the app's own workers.

Read where the kernel and the drivers tell it for next to nothing: /proc, /sys, and NVML, which stays open between
looks. Whatever is not told is `None`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any

import psutil

from webui.hardware import amd, cgroup, cpu, intel, memory, nvidia, pci
from webui.hardware.facts import GpuFacts, HardwareFacts
from webui.hardware.family import Family
from webui.hardware.host import Host


@dataclass(frozen=True, slots=True)
class GpuSample:
    """Percent, bytes, degrees Celsius, watts. `worker_memory` is what the app's workers hold of it."""

    use: float | None = None
    memory_used: int | None = None
    temperature: float | None = None
    power: float | None = None
    worker_memory: int | None = None


@dataclass(frozen=True, slots=True)
class Sample:
    """`at` is seconds on the wall clock. `cpu` and `worker_cpu` are percent of what this process may use; `cpu` is
    unknown in the first sample of a row. `speed` is tokens per second of what is being written.
    """

    at: float
    cpu: float | None
    memory_used: int
    worker_cpu: float | None
    worker_memory: int
    gpus: tuple[GpuSample, ...] = ()
    speed: float | None = None


ReadGpu = Callable[[Collection[int]], GpuSample]


class Sampler:
    """Takes samples of one machine between `open` and `close`. One thread uses it at a time."""

    def __init__(self, host: Host, facts: HardwareFacts) -> None:
        self._host, self._facts = host, facts
        self._family = Family(host.root)
        self._nvml: Any = None
        self._readers: list[ReadGpu] = []
        self._busy = _busy_seconds(host, facts)
        self._before: tuple[float, float | None, float] | None = None

    def open(self) -> None:
        """Get hold of what stays open while samples are taken."""
        self._readers = [*self._nvidia(), *self._amd(), *self._intel()]
        self._readers += [lambda members: GpuSample()] * (len(self._facts.gpus) - len(self._readers))
        self._before = None

    def close(self) -> None:
        if self._nvml is not None:
            self._nvml.nvmlShutdown()
        self._nvml, self._readers = None, []

    def sample(self, workers: Collection[int]) -> Sample:
        """One look. `workers` are the processes whose share, with that of their descendants, is told apart."""
        members = self._family.follow(workers)
        now, busy, own = time.monotonic(), self._busy(), self._family.seconds()
        cpu_share = worker_share = None
        if self._before is not None:
            then, busy_then, own_then = self._before
            room = max(1e-6, (now - then) * self._facts.cpu.usable_cores)
            if busy is not None and busy_then is not None:
                cpu_share = _percent((busy - busy_then) / room)
            worker_share = _percent((own - own_then) / room)
        self._before = now, busy, own
        told = memory.detect(self._host)
        return Sample(
            at=time.time(),
            cpu=cpu_share,
            memory_used=max(0, told.total - told.available),
            worker_cpu=worker_share if members else 0.0,
            worker_memory=self._family.resident(),
            gpus=tuple(read(members) for read in self._readers),
        )

    def _nvidia(self) -> list[ReadGpu]:
        nvml = self._host.nvml() if any(gpu.vendor == "nvidia" for gpu in self._facts.gpus) else None
        if nvml is None:
            return []
        try:
            nvml.nvmlInit()
        except nvml.NVMLError:
            return [lambda members: GpuSample()] * len(self._of("nvidia"))
        self._nvml = nvml
        return [_reader_of_nvml(nvml, device, card) for device, card in nvidia.handles(nvml)]

    def _amd(self) -> list[ReadGpu]:
        if self._host.system != "Linux":
            return []
        pairs = zip(pci.cards(self._host.root, pci.AMD), self._of("amd"), strict=False)
        return [self._reader_of_card(card, gpu) for card, gpu in pairs]

    def _intel(self) -> list[ReadGpu]:
        if self._host.system != "Linux":
            return []
        pairs = zip(intel.cards(self._host.root), self._of("intel"), strict=False)
        return [self._reader_of_card(card, gpu) for card, gpu in pairs]

    def _of(self, vendor: str) -> Sequence[GpuFacts]:
        return [gpu for gpu in self._facts.gpus if gpu.vendor == vendor]

    def _reader_of_card(self, card: pci.Card, gpu: GpuFacts) -> ReadGpu:
        sensors = intel.TEMPERATURES if gpu.vendor == "intel" else ()

        def read(members: Collection[int]) -> GpuSample:
            return GpuSample(
                use=amd.busy(card),
                memory_used=amd.used_bytes(card, integrated=bool(gpu.integrated)),
                temperature=pci.celsius(card, *sensors),
                power=pci.watts(card),
                worker_memory=self._family.graphics_memory(card.slot) if members else 0,
            )

        return read


def _reader_of_nvml(nvml: Any, device: Any, card: Any) -> ReadGpu:
    def read(members: Collection[int]) -> GpuSample:
        use = nvidia.ask(nvml, nvml.nvmlDeviceGetUtilizationRates, device)
        held = nvidia.ask(nvml, nvml.nvmlDeviceGetMemoryInfo, device)
        degrees = nvidia.ask(nvml, nvml.nvmlDeviceGetTemperature, card, nvml.NVML_TEMPERATURE_GPU)
        milliwatts = nvidia.ask(nvml, nvml.nvmlDeviceGetPowerUsage, device)
        own = [one.memory for one in nvidia.processes(nvml, device) if one.pid in members] if members else []
        return GpuSample(
            use=float(use.gpu) if use else None,
            memory_used=held.total - held.free if held else None,
            temperature=float(degrees) if degrees is not None else None,
            power=milliwatts / 1000 if milliwatts is not None else None,
            worker_memory=None if None in own else sum(count for count in own if count is not None),
        )

    return read


def _busy_seconds(host: Host, facts: HardwareFacts) -> Callable[[], float | None]:
    """How to ask for the processor time used so far, by all programs on the cores this process may use, or, where a
    container grants less than those, by the container.
    """
    allowed = facts.cpu.allowed_cores
    if facts.cpu.quota is not None and (allowed is None or facts.cpu.quota < allowed):
        return lambda: cgroup.cpu_seconds(host.root)
    if host.system == "Linux":
        names = {f"cpu{number}" for number in cpu.allowed(host.root)}
        return lambda: _busy_of(host, names)
    return _busy_elsewhere


def _busy_of(host: Host, names: Collection[str]) -> float | None:
    """user, nice, system, irq, softirq and steal of the named cores; waiting for a disk is no work."""
    try:
        lines = (host.root / "proc/stat").read_text().splitlines()
    except OSError:
        return None
    total = 0
    for line in lines[1:]:
        fields = line.split()
        if not fields[0].startswith("cpu"):
            break
        if fields[0] in names:
            total += sum(int(fields[place]) for place in (1, 2, 3, 6, 7, 8))
    return total / cpu.CLOCK_TICKS


def _busy_elsewhere() -> float | None:
    times = psutil.cpu_times()
    return float(sum(times) - times.idle)


def _percent(share: float) -> float:
    return round(100 * min(1.0, max(0.0, share)), 1)
