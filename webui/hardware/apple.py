"""The GPU of Apple silicon, which shares the machine's memory."""

from __future__ import annotations

from webui.hardware.facts import Found, GpuFacts
from webui.hardware.host import Host
from webui.hardware.programs import sysctl

MEBIBYTE = 1 << 20
SMALL = 33 << 30
"""Below this much memory macOS lets the GPU hold two thirds of it, above three quarters, unless a limit is set."""


def detect(host: Host) -> Found:
    """One GPU on Apple silicon, none elsewhere; Intel Macs' cards have no engine build here."""
    if host.system != "Darwin" or host.architecture != "arm64":
        return (), ()
    facts = sysctl(host.run, "machdep.cpu.brand_string", "hw.memsize", "iogpu.wired_limit_mb")
    limit = int(facts.get("iogpu.wired_limit_mb", "0") or 0) * MEBIBYTE
    size = int(facts["hw.memsize"]) if "hw.memsize" in facts else None
    gpu = GpuFacts(
        vendor="apple",
        index=0,
        name=f"{facts.get('machdep.cpu.brand_string', 'Apple')} GPU",
        memory_total=limit or (working_set(size) if size else None),
        driver=f"Metal, macOS {host.version}" if host.version else "Metal",
        integrated=True,
        runtime="Metal",
    )
    return (gpu,), ()


def working_set(memory: int) -> int:
    """What Metal lets the GPU hold at once of a machine's `memory` (its recommended working set)."""
    return memory * 2 // 3 if memory < SMALL else memory * 3 // 4
