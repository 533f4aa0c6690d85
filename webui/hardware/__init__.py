"""What this machine is: processor, memory, disk, system and GPUs, read without any engine library.

One file per kind of part. A probe that fails costs its own answer only and leaves a sentence in `problems`; a fact that
cannot be read is `None`, never a guess. How the facts change while the machine works is not told here.
"""

from __future__ import annotations

import os
import platform
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TypeVar

from webui.hardware import amd, apple, cpu, intel, memory, nvidia, system
from webui.hardware.facts import CpuFacts, DiskFacts, GpuFacts, HardwareFacts, MemoryFacts, SystemFacts

T = TypeVar("T")

SYSTEM_ROOT = Path("/")
"""Where /proc, /sys, /etc and /dev lie; tests give a recorded tree instead."""


def detect(disk_path: Path, *, root: Path = SYSTEM_ROOT) -> HardwareFacts:
    """All facts, within a few tenths of a second. `disk_path` need not exist; its file system is the one measured."""
    problems: list[str] = []
    gpus: list[GpuFacts] = []
    nothing: nvidia.Found = ((), ())
    for name, probe in (
        ("NVIDIA GPUs", nvidia.detect),
        ("AMD GPUs", amd.detect),
        ("Intel GPUs", intel.detect),
        ("Apple GPUs", apple.detect),
    ):
        found, said = _try(name, partial(probe, root), nothing, problems)
        gpus += found
        problems += said
    return HardwareFacts(
        cpu=_try("the processor", lambda: cpu.detect(root), _least_cpu(), problems),
        memory=_try("the memory", lambda: memory.detect(root), MemoryFacts(0, 0), problems),
        disk=_try("the disk", lambda: disk(disk_path), DiskFacts(disk_path, 0, 0), problems),
        system=_try("the operating system", lambda: system.detect(root), _least_system(), problems),
        gpus=tuple(gpus),
        problems=tuple(problems),
    )


def disk(path: Path) -> DiskFacts:
    """Size and free bytes of the file system that holds `path`, or would hold it. Raises `OSError`."""
    existing = path
    while not existing.exists() and existing != existing.parent:
        existing = existing.parent
    usage = shutil.disk_usage(existing)
    return DiskFacts(path, usage.total, usage.free)


def _try(name: str, probe: Callable[[], T], otherwise: T, problems: list[str]) -> T:
    try:
        return probe()
    except Exception as error:  # noqa: BLE001 (drivers and kernels fail in ways of their own; reported, the rest goes on)
        problems.append(f"Could not read {name}: {error or type(error).__name__}.")
        return otherwise


def _least_cpu() -> CpuFacts:
    return CpuFacts(None, platform.machine(), None, os.cpu_count(), os.cpu_count() or 1)


def _least_system() -> SystemFacts:
    return SystemFacts(platform.system(), platform.release(), platform.python_version())
