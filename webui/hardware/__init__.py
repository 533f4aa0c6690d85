"""What this machine is: processor, memory, disk, system and GPUs, read without any engine library.

One file per kind of part. A probe that fails costs its own answer only and leaves a sentence in `problems`; a fact that
cannot be read is `None`, never a guess. How the facts change while the machine works is told by `monitor`.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TypeVar

from webui.hardware import amd, apple, cpu, intel, memory, nvidia, system, vulkan
from webui.hardware.facts import (
    CpuFacts,
    DiskFacts,
    Found,
    GpuFacts,
    HardwareFacts,
    MemoryFacts,
    VulkanFacts,
)
from webui.hardware.host import SYSTEM_ROOT, Host, this_host

__all__ = ["SYSTEM_ROOT", "Host", "detect", "disk", "this_host"]

T = TypeVar("T")


def detect(disk_path: Path, host: Host | None = None) -> HardwareFacts:
    """All facts, within a few tenths of a second. `disk_path` need not exist; its file system is the one measured."""
    host = host or this_host()
    problems: list[str] = []
    nothing: Found = ((), ())
    main = _try("the memory", lambda: memory.detect(host), MemoryFacts(0, 0), problems)
    drivers = _try("the Vulkan drivers", lambda: vulkan.detect(host), None, problems)
    gpus: list[GpuFacts] = []
    for name, probe in (
        ("NVIDIA GPUs", nvidia.detect),
        ("AMD GPUs", amd.detect),
        ("Intel GPUs", intel.detect),
        ("Apple GPUs", apple.detect),
    ):
        found, said = _try(name, partial(probe, host), nothing, problems)
        gpus += (_completed(gpu, main, drivers) for gpu in found)
        problems += said
    return HardwareFacts(
        cpu=_try("the processor", lambda: cpu.detect(host), _least_cpu(host), problems),
        memory=main,
        disk=_try("the disk", lambda: disk(disk_path), DiskFacts(disk_path, 0, 0), problems),
        system=_try("the operating system", lambda: system.detect(host), system.least(host), problems),
        gpus=tuple(gpus),
        problems=tuple(problems),
        vulkan=drivers,
    )


def _completed(gpu: GpuFacts, main: MemoryFacts, drivers: VulkanFacts | None) -> GpuFacts:
    """What no vendor's probe knows by itself: whether there is a Vulkan driver, and, for a GPU that shares the
    machine's memory, that it cannot have more of it than is free.
    """
    if gpu.vulkan is None and drivers is not None:
        gpu = replace(gpu, vulkan=gpu.vendor in drivers.drivers)
    if gpu.integrated and gpu.memory_total is not None and main.total:
        free = gpu.memory_free if gpu.memory_free is not None else gpu.memory_total
        gpu = replace(gpu, memory_free=min(free, main.available + (gpu.reserved or 0)))
    return gpu


def disk(path: Path) -> DiskFacts:
    """Size and free bytes of the file system that holds `path`, or would hold it. Raises `OSError`."""
    for place in (path, *path.parents):
        with contextlib.suppress(FileNotFoundError, NotADirectoryError, PermissionError):
            usage = shutil.disk_usage(place)
            return DiskFacts(path, usage.total, usage.free)
    raise FileNotFoundError(path)


def _try(name: str, probe: Callable[[], T], otherwise: T, problems: list[str]) -> T:
    try:
        return probe()
    except Exception as error:  # noqa: BLE001 (drivers and kernels fail in ways of their own; reported, the rest goes on)
        problems.append(f"Could not read {name}: {error or type(error).__name__}.")
        return otherwise


def _least_cpu(host: Host) -> CpuFacts:
    return CpuFacts(None, host.architecture, None, os.cpu_count(), os.cpu_count() or 1)
