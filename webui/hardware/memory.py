"""Main memory, as much of it as this process may have."""

from __future__ import annotations

from pathlib import Path

import psutil

from webui.hardware import cgroup
from webui.hardware.facts import MemoryFacts
from webui.hardware.host import SYSTEM_ROOT, Host

KIBIBYTE = 1024


def detect(host: Host) -> MemoryFacts:
    """Bytes of the machine, or of the control group where that has less."""
    told = meminfo(host.root) if host.system == "Linux" else {}
    if "MemTotal" not in told or "MemAvailable" not in told:
        return MemoryFacts(*host.memory())
    facts = within_limit(told["MemTotal"], told["MemAvailable"], cgroup.memory_limit(host.root))
    return MemoryFacts(facts.total, facts.available, facts.limited, told.get("SwapTotal"), told.get("SwapFree"))


def available(root: Path = SYSTEM_ROOT) -> int:
    """Bytes of memory that this process may still have."""
    told = meminfo(root)
    total, free = told.get("MemTotal"), told.get("MemAvailable")
    if total is None or free is None:
        return int(psutil.virtual_memory().available)
    return within_limit(total, free, cgroup.memory_limit(root)).available


def meminfo(root: Path) -> dict[str, int]:
    """/proc/meminfo in bytes; empty where there is none."""
    try:
        text = (root / "proc/meminfo").read_text()
    except OSError:
        return {}
    rows = (line.split() for line in text.splitlines())
    return {row[0].rstrip(":"): int(row[1]) * KIBIBYTE for row in rows if len(row) >= 2}


def within_limit(total: int, available: int, limit: cgroup.MemoryLimit | None) -> MemoryFacts:
    """A limit above what the machine has is none."""
    if limit is None or limit.limit >= total:
        return MemoryFacts(total, available)
    return MemoryFacts(limit.limit, max(0, min(available, limit.limit - limit.used)), limited=True)
