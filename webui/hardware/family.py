"""What a few processes and their descendants take: processor time and memory, read cheaply once a second.

On Linux straight from /proc, where each thread lists the children it started; elsewhere through psutil.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Collection
from pathlib import Path

import psutil

from webui.hardware.cpu import CLOCK_TICKS
from webui.hardware.host import SYSTEM_ROOT

FRESH_SAMPLES = 5
"""Who descends from the processes is looked up anew every so many samples."""


class Family:
    """The processes themselves and all that descend from them. One thread uses it at a time."""

    def __init__(self, root: Path = SYSTEM_ROOT) -> None:
        self._root = root
        self._heads: frozenset[int] = frozenset()
        self._members: tuple[int, ...] = ()
        self._graphics: dict[int, tuple[Path, ...]] = {}
        self._age = 0
        self._processes: dict[int, psutil.Process] = {}

    def follow(self, heads: Collection[int]) -> tuple[int, ...]:
        """All members now. New heads are seen at once, new descendants within some samples."""
        wanted = frozenset(heads)
        if wanted != self._heads or self._age >= FRESH_SAMPLES:
            self._heads, self._age = wanted, 0
            self._members = tuple(self._descendants(wanted))
            self._graphics = {pid: tuple(self._graphics_files(pid)) for pid in self._members}
        self._age += 1
        return self._members

    def seconds(self) -> float:
        """Processor time that the living members have used since they began."""
        return sum(self._seconds(pid) for pid in self._members)

    def resident(self) -> int:
        """Bytes of memory that they hold."""
        return sum(self._resident(pid) for pid in self._members)

    def graphics_memory(self, bus: str) -> int | None:
        """Bytes of the GPU at `bus` that they hold, as drivers of the kernel tell it; None where none tells."""
        found: dict[str, int] = {}
        for pid in self._members:
            for file in self._graphics[pid]:
                told = _read(file)
                if f"drm-pdev:\t{bus}" in told:
                    found.update(_device_memory(told))
        return sum(found.values()) if found else None

    def _descendants(self, heads: Collection[int]) -> list[int]:
        found, rest = dict.fromkeys(heads), list(heads)
        while rest:
            for child in self._children(rest.pop()):
                if child not in found:
                    found[child] = None
                    rest.append(child)
        return list(found)

    def _children(self, pid: int) -> list[int]:
        if sys.platform == "linux":
            lists = (self._root / f"proc/{pid}/task").glob("*/children")
            return [int(word) for file in lists for word in _read(file).split()]
        try:
            return [child.pid for child in psutil.Process(pid).children()]
        except psutil.Error:
            return []

    def _seconds(self, pid: int) -> float:
        if sys.platform == "linux":
            fields = _read(self._root / f"proc/{pid}/stat").rpartition(")")[2].split()
            return (int(fields[11]) + int(fields[12])) / CLOCK_TICKS if len(fields) > 12 else 0.0
        with contextlib.suppress(psutil.Error):
            times = self._process(pid).cpu_times()
            return float(times.user + times.system)
        return 0.0

    def _resident(self, pid: int) -> int:
        if sys.platform == "linux":
            fields = _read(self._root / f"proc/{pid}/statm").split()
            return int(fields[1]) * _PAGE if len(fields) > 1 else 0
        with contextlib.suppress(psutil.Error):
            return int(self._process(pid).memory_info().rss)
        return 0

    def _process(self, pid: int) -> psutil.Process:
        return self._processes.setdefault(pid, psutil.Process(pid))

    def _graphics_files(self, pid: int) -> list[Path]:
        """What the kernel tells of the GPU files that a process holds open."""
        if sys.platform != "linux":
            return []
        found = []
        with contextlib.suppress(OSError):
            for entry in (self._root / f"proc/{pid}/fd").iterdir():
                with contextlib.suppress(OSError):
                    if str(entry.readlink()).startswith("/dev/dri/"):
                        found.append(self._root / f"proc/{pid}/fdinfo/{entry.name}")
        return found


_PAGE = os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else 4096
_MEMORY_KEYS = ("drm-resident-vram", "drm-memory-vram", "drm-resident-local", "drm-total-local")


def _device_memory(told: str) -> dict[str, int]:
    """Bytes by client of the driver: a process may hold the same client under several numbers."""
    rows = dict(line.split(":", 1) for line in told.splitlines() if ":" in line)
    client = rows.get("drm-client-id", "").strip()
    for key in _MEMORY_KEYS:
        sizes = [value.split() for name, value in rows.items() if name.startswith(key)]
        if sizes:
            units = {"KiB": 1024, "MiB": 1024 * 1024}
            return {client: sum(int(size[0]) * units.get(size[1] if len(size) > 1 else "", 1) for size in sizes)}
    return {}


def _read(file: Path) -> str:
    try:
        return file.read_text(errors="replace")
    except OSError:
        return ""  # it has ended meanwhile
