"""Limits that a container or service manager has set on this process, in both versions of Linux control groups.

A limit of any enclosing group counts, so the groups are walked from the process's own up to the root and the smallest
one wins. In a container the path in /proc/self/cgroup may be the host's; what is not there is skipped.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

UNLIMITED = 1 << 60
"""Version 1 writes "no limit" as a number close to 2^63."""


@dataclass(frozen=True, slots=True)
class MemoryLimit:
    """Bytes. `used` leaves out the file cache the kernel gives back first."""

    limit: int
    used: int


def cpu_quota(root: Path) -> float | None:
    """How many cores' worth of time this process may use, or None for no limit."""
    quotas = []
    for folder in _folders(root, "cpu"):
        words = _words(folder / "cpu.max")
        if len(words) == 2 and words[0] != "max":
            quotas.append(int(words[0]) / int(words[1]))
        quota, period = _number(folder / "cpu.cfs_quota_us"), _number(folder / "cpu.cfs_period_us")
        if quota is not None and period and quota > 0:
            quotas.append(quota / period)
    return min(quotas, default=None)


def cpu_seconds(root: Path) -> float | None:
    """Processor time that this process's group has used so far, or None where no group tells."""
    for folder in (*_folders(root, ""), *_folders(root, "cpuacct")):
        for line in _text(folder / "cpu.stat").splitlines():
            if line.startswith("usage_usec "):
                return int(line.split()[1]) / 1_000_000
        nanoseconds = _number(folder / "cpuacct.usage")
        if nanoseconds is not None:
            return nanoseconds / 1_000_000_000
    return None


def memory_limit(root: Path) -> MemoryLimit | None:
    """The tightest memory limit and what is used of it, or None for no limit."""
    limits = []
    for folder in _folders(root, "memory"):
        for limit_name, used_name, cache_name in (
            ("memory.max", "memory.current", "inactive_file"),
            ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
        ):
            limit = _number(folder / limit_name)
            if limit is None or limit >= UNLIMITED:
                continue
            used = _number(folder / used_name) or 0
            limits.append(MemoryLimit(limit, max(0, used - _statistic(folder / "memory.stat", cache_name))))
    # The group with the least left is the one that bites, whichever limit is smaller.
    return min(limits, key=lambda item: item.limit - item.used, default=None)


def paths(root: Path) -> dict[str, str]:
    """Controller → path of this process's group; the one of version 2 is under ""."""
    found: dict[str, str] = {}
    for line in _text(root / "proc/self/cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        for controller in controllers.split(","):
            found[controller] = path
    return found


def _folders(root: Path, controller: str) -> Iterator[Path]:
    """The groups that may limit this process, its own first, in each hierarchy there is."""
    known = paths(root)
    base = root / "sys/fs/cgroup"
    hierarchies = [(base, known.get("")), (base / "unified", known.get(""))]
    if controller in known:
        hierarchies += [(mount, known[controller]) for mount in _mounts(base, controller)]
    for mount, path in hierarchies:
        if path is None or not mount.is_dir():
            continue
        relative = PurePosixPath(path.lstrip("/"))
        if ".." in relative.parts:  # a group outside this cgroup namespace
            relative = PurePosixPath()
        for group in (relative, *relative.parents):
            if (mount / group).is_dir():
                yield mount / group


def _mounts(base: Path, controller: str) -> list[Path]:
    """Version 1 mounts controllers together, as cpu,cpuacct."""
    if not base.is_dir():
        return []
    return sorted(path for path in base.iterdir() if controller in path.name.split(","))


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""  # this hierarchy has no such controller


def _words(path: Path) -> list[str]:
    return _text(path).split()


def _number(path: Path) -> int | None:
    text = _text(path).strip()
    return int(text) if text.lstrip("-").isdigit() else None


def _statistic(path: Path, name: str) -> int:
    for line in _text(path).splitlines():
        key, _, value = line.partition(" ")
        if key == name:
            return int(value)
    return 0
