"""The GPU of Apple silicon, which shares the machine's memory."""

from __future__ import annotations

import platform
from pathlib import Path

from webui.hardware.facts import GpuFacts
from webui.hardware.nvidia import Found
from webui.hardware.programs import RunProgram, run_program, sysctl

MEBIBYTE = 1 << 20


def detect(root: Path) -> Found:
    """One GPU on Apple silicon, none elsewhere; Intel Macs' cards have no engine build here. `root` is not used."""
    if platform.system() != "Darwin" or platform.machine() != "arm64":
        return (), ()
    return (read(run_program, platform.mac_ver()[0]),), ()


def read(run: RunProgram, macos_version: str) -> GpuFacts:
    """Memory is what the GPU may hold at once where a limit was set by hand, else all of the shared memory."""
    facts = sysctl(run, "machdep.cpu.brand_string", "hw.memsize", "iogpu.wired_limit_mb")
    limit = int(facts.get("iogpu.wired_limit_mb", "0") or 0) * MEBIBYTE
    size = int(facts["hw.memsize"]) if "hw.memsize" in facts else None
    return GpuFacts(
        vendor="apple",
        index=0,
        name=f"{facts.get('machdep.cpu.brand_string', 'Apple')} GPU",
        memory_total=limit or size,
        driver=f"Metal, macOS {macos_version}" if macos_version else "Metal",
    )
