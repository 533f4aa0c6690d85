"""The processor: its name, cores, the cores this process may use, and the instruction sets engines care about."""

from __future__ import annotations

import math
import os
import platform
from pathlib import Path

import psutil

from webui.hardware import cgroup, windows
from webui.hardware.facts import CpuFacts
from webui.hardware.programs import RunProgram, run_program, sysctl

INSTRUCTION_SETS = (
    "sse3",
    "ssse3",
    "sse4_1",
    "sse4_2",
    "avx",
    "f16c",
    "fma",
    "avx2",
    "avx_vnni",
    "avx512f",
    "avx512bw",
    "avx512vl",
    "avx512vbmi",
    "avx512_vnni",
    "avx512_bf16",
    "avx512_fp16",
    "amx_tile",
    "amx_int8",
    "amx_bf16",
    "neon",
    "asimd",
    "asimdhp",
    "asimddp",
    "i8mm",
    "bf16",
    "sve",
    "sve2",
    "sme",
    "vsx",
    "vxe",
)
"""By the kernel's names, in the order shown. Everything else a processor can do makes no difference to engines."""
SAME = {"pni": "sse3", "sse4.1": "sse4_1", "sse4.2": "sse4_2", "avx1.0": "avx"}
APPLE_FEATURES = {
    "hw.optional.neon": "neon",
    "hw.optional.arm.FEAT_FP16": "asimdhp",
    "hw.optional.arm.FEAT_DotProd": "asimddp",
    "hw.optional.arm.FEAT_I8MM": "i8mm",
    "hw.optional.arm.FEAT_BF16": "bf16",
    "hw.optional.arm.FEAT_SME": "sme",
}


def detect(root: Path) -> CpuFacts:
    """The facts of this machine; `root` is where /proc and /sys lie on Linux."""
    kind = platform.system()
    if kind == "Linux":
        return linux(root, affinity=affinity())
    if kind == "Darwin":
        return macos(run_program, affinity=affinity())
    name = windows.processor_name(windows.LocalMachine()) or platform.processor() or None
    logical = psutil.cpu_count()
    return CpuFacts(
        model=name,
        architecture=platform.machine(),
        physical_cores=psutil.cpu_count(logical=False),
        logical_cores=logical,
        usable_cores=affinity() or logical or 1,
        instruction_sets=windows.instruction_sets(),
    )


def affinity() -> int | None:
    """How many cores the scheduler may give this process; None where the system does not tell (macOS)."""
    process = psutil.Process()
    return len(process.cpu_affinity()) if hasattr(process, "cpu_affinity") else None


def linux(root: Path, *, affinity: int | None, architecture: str = "") -> CpuFacts:
    """From /proc/cpuinfo; the usable cores are bounded by `affinity` and by the control groups' quota."""
    processors = _blocks((root / "proc/cpuinfo").read_text(encoding="utf-8", errors="replace"))
    numbered = [block for block in processors if block.get("processor", "").isdigit()]
    logical = len(numbered) or os.cpu_count()
    names = ("model name", "cpu model", "Model", "Hardware", "cpu", "uarch")
    model = next((block[name] for name in names for block in processors if block.get(name)), None)
    flags = set[str]()
    for block in processors:
        flags |= set((block.get("flags") or block.get("Features") or "").lower().split())
    usable = affinity or logical or 1
    quota = cgroup.cpu_quota(root)
    if quota is not None:
        usable = min(usable, max(1, math.ceil(quota)))
    return CpuFacts(
        model=model,
        architecture=architecture or platform.machine(),
        physical_cores=_physical(root, numbered),
        logical_cores=logical,
        usable_cores=usable,
        instruction_sets=known_sets(flags),
    )


def macos(run: RunProgram, *, affinity: int | None = None) -> CpuFacts:
    """From sysctl, on Apple silicon and on Intel."""
    facts = sysctl(run, "hw", "machdep.cpu")
    flags = {name for key, name in APPLE_FEATURES.items() if facts.get(key) == "1"}
    for key in ("machdep.cpu.features", "machdep.cpu.leaf7_features"):
        flags |= set(facts.get(key, "").lower().split())
    logical = _whole(facts.get("hw.logicalcpu"))
    return CpuFacts(
        model=facts.get("machdep.cpu.brand_string"),
        architecture=platform.machine() if platform.system() == "Darwin" else facts.get("hw.machine", "unknown"),
        physical_cores=_whole(facts.get("hw.physicalcpu")),
        logical_cores=logical,
        usable_cores=affinity or logical or os.cpu_count() or 1,
        instruction_sets=known_sets(flags),
    )


def known_sets(flags: set[str]) -> tuple[str, ...]:
    """Those of `flags` that matter to engines, under one name each, in a fixed order."""
    present = {SAME.get(flag, flag) for flag in flags}
    return tuple(name for name in INSTRUCTION_SETS if name in present)


def _blocks(text: str) -> list[dict[str, str]]:
    """The paragraphs of /proc/cpuinfo as `name: value` mappings."""
    found = []
    for paragraph in text.split("\n\n"):
        pairs = (line.partition(":") for line in paragraph.splitlines())
        block = {name.strip(): value.strip() for name, colon, value in pairs if colon}
        if block:
            found.append(block)
    return found


def _physical(root: Path, processors: list[dict[str, str]]) -> int | None:
    """Distinct cores: by /proc/cpuinfo where it tells (x86), else by the topology in /sys (ARM and others)."""
    cores = {(block["physical id"], block["core id"]) for block in processors if "physical id" in block}
    if cores:
        return len(cores)
    siblings = set()
    for block in processors:
        topology = root / f"sys/devices/system/cpu/cpu{block['processor']}/topology"
        for name in ("core_cpus_list", "thread_siblings_list"):
            if (topology / name).is_file():
                siblings.add((topology / name).read_text().strip())
                break
    return len(siblings) or None


def _whole(text: str | None) -> int | None:
    return int(text) if text and text.isdigit() else None
