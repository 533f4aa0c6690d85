"""How many CPU threads an engine gets when the user leaves the choice to the app.

The engines' threads meet at spin barriers many times per token. As soon as there are more of them than cores that are
really free, each barrier waits for a thread that is not running, and speed collapses instead of shrinking. So: one
thread per physical core this process may use, and one core left to the server and the page unless hyper-threading
leaves them a sibling anyway.
"""

from __future__ import annotations

import math
import os
import platform
import subprocess
from pathlib import Path

import psutil


def choose_threads(requested: int = 0) -> int:
    """`requested` if it is positive, otherwise the number of threads that suits this machine (at least 1)."""
    if requested > 0:
        return requested
    return plan_threads(logical=_usable_logical(), physical=_usable_physical(), quota=_cgroup_quota())


def plan_threads(*, logical: int, physical: int, quota: float | None) -> int:
    """The choice itself, from facts: usable logical and physical cores and the CPU quota in cores (None: no limit)."""
    cores = max(1, min(physical, logical))
    if quota is not None:
        cores = max(1, min(cores, math.floor(quota)))
    spare = min(float(logical), quota if quota is not None else math.inf) - cores
    return cores if spare >= 1 or cores == 1 else cores - 1


def _usable_logical() -> int:
    affinity = getattr(psutil.Process(), "cpu_affinity", None)  # absent on macOS
    if affinity is not None:
        return len(affinity()) or 1
    return os.cpu_count() or 1


def _usable_physical() -> int:
    """Physical cores behind the logical ones this process may use; on Apple silicon only the performance cores."""
    if platform.system() == "Linux":
        counted = _linux_physical(os.sched_getaffinity(0))
        if counted:
            return counted
    if platform.system() == "Darwin":
        counted = _apple_performance_cores()
        if counted:
            return counted
    return min(psutil.cpu_count(logical=False) or _usable_logical(), _usable_logical())


def _linux_physical(cpus: set[int]) -> int:
    """Groups of hyper-threading siblings among `cpus`; 0 where the kernel does not say (some containers)."""
    groups: set[str] = set()
    for cpu in cpus:
        try:
            groups.add(Path(f"/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list").read_text().strip())
        except OSError:
            return 0
    return len(groups)


def _apple_performance_cores() -> int:
    """Efficiency cores would make every barrier wait for them, so they do not count; 0 where there is no such split."""
    try:
        told = subprocess.run(
            ["/usr/sbin/sysctl", "-n", "hw.perflevel0.physicalcpu"],
            capture_output=True,
            text=True,
            timeout=2,
            check=False,
        )
        return int(told.stdout)
    except (OSError, ValueError, subprocess.TimeoutExpired):
        return 0


def _cgroup_quota() -> float | None:
    """CPU limit of this process's container in cores, None without one. cgroup 2 first, then 1."""
    try:
        limit, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()[:2]
        return None if limit == "max" else int(limit) / int(period)
    except (OSError, ValueError):
        pass
    try:
        limit_us = int(Path("/sys/fs/cgroup/cpu/cpu.cfs_quota_us").read_text())
        period_us = int(Path("/sys/fs/cgroup/cpu/cpu.cfs_period_us").read_text())
    except (OSError, ValueError):
        return None
    return limit_us / period_us if limit_us > 0 and period_us > 0 else None
