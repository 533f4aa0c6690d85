"""The kernel's record of processes that it ended for want of memory (Linux); elsewhere there is none to read.

A SIGKILL does not say who sent it. The record does: the whole system's count in `/proc/vmstat`, and that of the control
group the process belongs to, which tells this container's kills from everybody else's.
"""

from __future__ import annotations

import sys
from pathlib import Path

_SYSTEM = Path("/proc/vmstat")
_GROUPS = Path("/sys/fs/cgroup")


class MemoryKills:
    """The counts of one process's surroundings at a moment, to be compared later."""

    def __init__(self, pid: int | None) -> None:
        self._pid = pid
        self._system: int | None = None
        self._groups: dict[Path, int] = {}
        self.refresh()

    def refresh(self) -> None:
        """Count anew; while the process lives, also where it may have been moved to meanwhile."""
        self._system = _count(_SYSTEM)
        files = _group_files(self._pid) or list(self._groups)
        self._groups = {file: count for file in files if (count := _count(file)) is not None}

    def rose(self) -> bool:
        """Whether a process was ended for want of memory since the last count, in its group where there is one."""
        now = _count(_SYSTEM)
        if now is None or self._system is None or now <= self._system:
            return False
        if not self._groups:
            return True
        return any((_count(file) or 0) > before for file, before in self._groups.items())


def _group_files(pid: int | None) -> list[Path]:
    """Where the kernel counts the kills in the process's memory group; empty when it has ended."""
    if pid is None or sys.platform != "linux":
        return []
    try:
        lines = Path(f"/proc/{pid}/cgroup").read_text(encoding="utf-8").splitlines()
    except OSError:
        return []
    found = []
    for line in lines:
        _number, controllers, place = line.split(":", 2)
        inside = place.lstrip("/")
        if "memory" in controllers.split(","):
            found.append(_GROUPS / "memory" / inside / "memory.oom_control")
        elif not controllers:
            found += [_GROUPS / inside / "memory.events", _GROUPS / "unified" / inside / "memory.events"]
    return found


def _count(file: Path) -> int | None:
    """The number behind `oom_kill` in one of the kernel's files; `None` where it does not stand."""
    try:
        words = file.read_text(encoding="ascii").split()
    except OSError:
        return None
    return int(words[words.index("oom_kill") + 1]) if "oom_kill" in words else None
