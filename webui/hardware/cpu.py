"""The processor: its name, cores, the cores this process may use, and the instruction sets engines care about."""

from __future__ import annotations

import math
import os
import platform
from collections.abc import Mapping
from pathlib import Path

import psutil

from webui.hardware import cgroup, pci, windows
from webui.hardware.facts import CpuFacts
from webui.hardware.host import Host
from webui.hardware.programs import RunProgram, sysctl

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
CLOCK_TICKS = os.sysconf("SC_CLK_TCK") if hasattr(os, "sysconf") else 100
"""In which the kernel counts processor time, per second."""
SAME = {"pni": "sse3", "sse4.1": "sse4_1", "sse4.2": "sse4_2", "avx1.0": "avx"}
APPLE_FEATURES = {
    "hw.optional.neon": "neon",
    "hw.optional.arm.FEAT_FP16": "asimdhp",
    "hw.optional.arm.FEAT_DotProd": "asimddp",
    "hw.optional.arm.FEAT_I8MM": "i8mm",
    "hw.optional.arm.FEAT_BF16": "bf16",
    "hw.optional.arm.FEAT_SME": "sme",
}


def detect(host: Host) -> CpuFacts:
    """The facts of a machine."""
    if host.system == "Linux":
        return linux(host.root, host.architecture)
    if host.system == "Darwin":
        return macos(host.run, host.architecture)
    name = windows.processor_name(host.registry) or platform.processor() or None
    logical = psutil.cpu_count()
    allowed = len(psutil.Process().cpu_affinity()) if hasattr(psutil.Process, "cpu_affinity") else logical
    physical = psutil.cpu_count(logical=False)
    return CpuFacts(
        model=name,
        architecture=host.architecture,
        physical_cores=physical,
        logical_cores=logical,
        usable_cores=allowed or 1,
        instruction_sets=windows.instruction_sets(),
        allowed_cores=allowed,
        allowed_physical=min(physical, allowed) if physical and allowed else None,
    )


def linux(root: Path, architecture: str) -> CpuFacts:
    """From /proc/cpuinfo; the usable cores are bounded by affinity and by the control groups' quota."""
    processors = _blocks((root / "proc/cpuinfo").read_text(encoding="utf-8", errors="replace"))
    numbered = {int(block["processor"]): block for block in processors if block.get("processor", "").isdigit()}
    names = ("model name", "cpu model", "Model", "Hardware", "cpu", "uarch")
    model = next((block[name] for name in names for block in processors if block.get(name)), None)
    flags = set[str]()
    for block in processors:
        flags |= set((block.get("flags") or block.get("Features") or "").lower().split())
    granted = allowed(root)
    mine = {number: block for number, block in numbered.items() if number in granted} or numbered
    quota = cgroup.cpu_quota(root)
    usable = len(mine) or 1
    performance, efficiency = _kinds(root, mine)
    return CpuFacts(
        model=model,
        architecture=architecture,
        physical_cores=_physical(root, numbered),
        logical_cores=len(numbered) or None,
        usable_cores=usable if quota is None else min(usable, max(1, math.ceil(quota))),
        instruction_sets=known_sets(flags),
        allowed_cores=usable,
        allowed_physical=_physical(root, mine),
        quota=quota,
        performance_cores=performance,
        efficiency_cores=efficiency,
    )


def macos(run: RunProgram, architecture: str) -> CpuFacts:
    """From sysctl, on Apple silicon and on Intel."""
    facts = sysctl(run, "hw", "machdep.cpu")
    flags = {name for key, name in APPLE_FEATURES.items() if facts.get(key) == "1"}
    for key in ("machdep.cpu.features", "machdep.cpu.leaf7_features"):
        flags |= set(facts.get(key, "").lower().split())
    physical, logical = _whole(facts.get("hw.physicalcpu")), _whole(facts.get("hw.logicalcpu"))
    efficiency = _whole(facts.get("hw.perflevel1.physicalcpu"))
    return CpuFacts(
        model=facts.get("machdep.cpu.brand_string"),
        architecture=architecture,
        physical_cores=physical,
        logical_cores=logical,
        usable_cores=logical or os.cpu_count() or 1,
        instruction_sets=known_sets(flags),
        allowed_cores=logical,
        allowed_physical=physical,
        performance_cores=_whole(facts.get("hw.perflevel0.physicalcpu")) if efficiency else None,
        efficiency_cores=efficiency,
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


def allowed(root: Path) -> set[int]:
    """The numbers of the logical cores that the scheduler gives this process; none where the kernel does not say."""
    try:
        text = (root / "proc/self/status").read_text()
    except OSError:
        return set()
    told = (line.split(":", 1)[1] for line in text.splitlines() if line.startswith("Cpus_allowed_list:"))
    return numbers(next(told, ""))


def numbers(text: str) -> set[int]:
    """The kernel's lists of numbers: `0-3,8`."""
    found: set[int] = set()
    for part in filter(None, text.strip().split(",")):
        first, _, last = part.partition("-")
        found |= set(range(int(first), int(last or first) + 1))
    return found


def _physical(root: Path, processors: Mapping[int, dict[str, str]]) -> int | None:
    """Distinct cores: by /proc/cpuinfo where it tells (x86), else by the topology in /sys (ARM and others)."""
    cores = {(block["physical id"], block["core id"]) for block in processors.values() if "physical id" in block}
    if cores:
        return len(cores)
    siblings = set()
    for number in processors:
        topology = root / f"sys/devices/system/cpu/cpu{number}/topology"
        for name in ("core_cpus_list", "thread_siblings_list"):
            if (topology / name).is_file():
                siblings.add((topology / name).read_text().strip())
                break
    return len(siblings) or None


def _kinds(root: Path, processors: Mapping[int, dict[str, str]]) -> tuple[int | None, int | None]:
    """Physical performance and efficiency cores: Intel's by the kernel's two performance units, ARM's by capacity."""
    try:
        fast = numbers((root / "sys/devices/cpu_core/cpus").read_text())
        slow = numbers((root / "sys/devices/cpu_atom/cpus").read_text())
    except OSError:
        rated = {number: pci.number(root / f"sys/devices/system/cpu/cpu{number}/cpu_capacity") for number in processors}
        least = min((capacity for capacity in rated.values() if capacity is not None), default=None)
        slow = {number for number, capacity in rated.items() if capacity == least and least is not None}
        fast = set(rated) - slow
    if not fast or not slow:
        return None, None
    counted = (
        _physical(root, {number: block for number, block in processors.items() if number in some})
        for some in (fast, slow)
    )
    performance, efficiency = (count or 0 for count in counted)
    return performance, efficiency


def _whole(text: str | None) -> int | None:
    return int(text) if text and text.isdigit() else None
