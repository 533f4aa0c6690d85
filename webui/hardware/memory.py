"""Main memory, as much of it as this process may have."""

from __future__ import annotations

from pathlib import Path

import psutil

from webui.hardware import cgroup
from webui.hardware.facts import MemoryFacts


def detect(root: Path) -> MemoryFacts:
    """Bytes of the machine, or of the control group where that has less."""
    machine = psutil.virtual_memory()
    return within_limit(machine.total, machine.available, cgroup.memory_limit(root))


def within_limit(total: int, available: int, limit: cgroup.MemoryLimit | None) -> MemoryFacts:
    """A limit above what the machine has is none."""
    if limit is None or limit.limit >= total:
        return MemoryFacts(total, available)
    return MemoryFacts(limit.limit, max(0, min(available, limit.limit - limit.used)), limited=True)
