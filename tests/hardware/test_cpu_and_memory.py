"""Processor, memory limits and system, read from recorded trees and from this machine."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.hardware import trees
from webui.hardware import cgroup, cpu, memory, system, this_host

GIB = trees.GIB


def test_x86_cores_threads_and_instruction_sets(tmp_path: Path) -> None:
    facts = cpu.linux(
        trees.write(tmp_path, {"proc/cpuinfo": trees.X86_CPUINFO, "proc/self/status": "Cpus_allowed_list:\t0-1,3\n"}),
        "x86_64",
    )
    assert facts.model == "Intel(R) Xeon(R) Platinum 8481C CPU @ 2.70GHz"
    assert (facts.physical_cores, facts.logical_cores, facts.usable_cores, facts.allowed_physical) == (2, 4, 3, 2)
    assert facts.instruction_sets[:4] == ("sse3", "ssse3", "sse4_1", "sse4_2")
    assert {"avx2", "avx512f", "amx_int8", "amx_bf16"} <= set(facts.instruction_sets)
    assert "fpu" not in facts.instruction_sets


def test_arm_takes_the_board_name_and_the_topology(tmp_path: Path) -> None:
    files = {"proc/cpuinfo": trees.ARM_CPUINFO}
    files |= {f"sys/devices/system/cpu/cpu{n}/topology/core_cpus_list": f"{n}\n" for n in range(4)}
    facts = cpu.linux(trees.write(tmp_path, files), "aarch64")
    assert facts.model == "Raspberry Pi 5 Model B Rev 1.0"
    assert (facts.physical_cores, facts.usable_cores) == (4, 4)
    assert facts.instruction_sets == ("asimd", "asimdhp", "asimddp")


def test_what_is_not_told_is_unknown(tmp_path: Path) -> None:
    facts = cpu.linux(trees.write(tmp_path, {"proc/cpuinfo": "processor : 0\n"}), "x86_64")
    assert (facts.model, facts.physical_cores, facts.logical_cores, facts.instruction_sets) == (None, None, 1, ())


@pytest.mark.parametrize(
    ("files", "cores"),
    [
        ({"proc/self/cgroup": "0::/app.slice\n", "sys/fs/cgroup/app.slice/cpu.max": "150000 100000\n"}, 2),
        (
            {
                "proc/self/cgroup": "0::/a/b\n",
                "sys/fs/cgroup/a/cpu.max": "50000 100000",
                "sys/fs/cgroup/a/b/cpu.max": "max 100000",
            },
            1,
        ),
        ({"proc/self/cgroup": "0::/host/only\n", "sys/fs/cgroup/cpu.max": "200000 100000\n"}, 2),
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "max 100000\n"}, 4),
        (
            {
                "proc/self/cgroup": "4:cpu,cpuacct:/docker/abc\n",
                "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us": "300000\n",
                "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us": "100000\n",
            },
            3,
        ),
        (
            {
                "proc/self/cgroup": "1:cpu:/\n",
                "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1\n",
                "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
            },
            4,
        ),
        ({"proc/self/cgroup": "0::/../../escape\n", "sys/fs/cgroup/cpu.max": "100000 100000\n"}, 1),
        ({}, 4),
    ],
)
def test_a_quota_bounds_the_usable_cores(tmp_path: Path, files: dict[str, str], cores: int) -> None:
    root = trees.write(tmp_path, {"proc/cpuinfo": trees.X86_CPUINFO, **files})
    assert cpu.linux(root, "x86_64").usable_cores == cores


def test_memory_limits_of_both_versions(tmp_path: Path) -> None:
    second = trees.write(
        tmp_path / "v2",
        {
            "proc/self/cgroup": "0::/box\n",
            "sys/fs/cgroup/box/memory.max": f"{8 * GIB}\n",
            "sys/fs/cgroup/box/memory.current": f"{5 * GIB}\n",
            "sys/fs/cgroup/box/memory.stat": f"anon {3 * GIB}\ninactive_file {2 * GIB}\n",
        },
    )
    assert cgroup.memory_limit(second) == cgroup.MemoryLimit(8 * GIB, 3 * GIB)
    first = trees.write(
        tmp_path / "v1",
        {
            "proc/self/cgroup": "9:memory:/docker/abc\n",
            "sys/fs/cgroup/memory/memory.limit_in_bytes": f"{4 * GIB}\n",
            "sys/fs/cgroup/memory/memory.usage_in_bytes": f"{1 * GIB}\n",
        },
    )
    assert cgroup.memory_limit(first) == cgroup.MemoryLimit(4 * GIB, GIB)
    none = {"proc/self/cgroup": "9:memory:/\n", "sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n"}
    assert cgroup.memory_limit(trees.write(tmp_path / "none", none)) is None


def test_memory_is_the_lesser_of_machine_and_limit() -> None:
    limit = cgroup.MemoryLimit(8 * GIB, 3 * GIB)
    assert memory.within_limit(64 * GIB, 32 * GIB, None).limited is False
    facts = memory.within_limit(64 * GIB, 32 * GIB, limit)
    assert (facts.total, facts.available, facts.limited) == (8 * GIB, 5 * GIB, True)
    assert memory.within_limit(64 * GIB, 2 * GIB, limit).available == 2 * GIB
    facts = memory.within_limit(4 * GIB, 2 * GIB, limit)
    assert (facts.total, facts.limited) == (4 * GIB, False)
    assert memory.within_limit(64 * GIB, 9 * GIB, cgroup.MemoryLimit(GIB, 2 * GIB)).available == 0


def test_macos_on_both_kinds_of_processor() -> None:
    apple = {
        "hw.physicalcpu": "10",
        "hw.perflevel0.physicalcpu": "6",
        "hw.perflevel1.physicalcpu": "4",
        "hw.logicalcpu": "10",
        "hw.optional.neon": "1",
        "hw.optional.arm.FEAT_DotProd": "1",
        "hw.optional.arm.FEAT_BF16": "0",
        "machdep.cpu.brand_string": "Apple M2 Pro",
        "hw.machine": "arm64",
    }
    facts = cpu.macos(sysctl_of(apple), "arm64")
    assert (facts.model, facts.physical_cores, facts.usable_cores) == ("Apple M2 Pro", 10, 10)
    assert facts.instruction_sets == ("neon", "asimddp")
    assert (facts.performance_cores, facts.efficiency_cores) == (6, 4)
    intel = {
        "machdep.cpu.features": "FPU SSE3 SSSE3 SSE4.1 SSE4.2 AVX1.0 FMA F16C",
        "machdep.cpu.leaf7_features": "AVX2 BMI1",
    }
    assert cpu.macos(sysctl_of(intel), "x86_64").instruction_sets == (
        "sse3", "ssse3", "sse4_1", "sse4_2", "avx", "f16c", "fma", "avx2",
    )  # fmt: skip


def test_system_container_and_wsl(tmp_path: Path) -> None:
    plain = trees.write(
        tmp_path / "plain", {"etc/os-release": trees.OS_RELEASE, "proc/sys/kernel/osrelease": "6.1.0-18-amd64\n"}
    )
    facts = system.linux(plain)
    assert (facts.name, facts.version) == ("Debian GNU/Linux 12 (bookworm)", "6.1.0-18-amd64")
    assert (facts.container, facts.wsl) == (False, False)
    wsl = trees.write(tmp_path / "wsl", {"proc/sys/kernel/osrelease": "5.15.153.1-microsoft-standard-WSL2\n"})
    assert (system.linux(wsl).wsl, system.linux(wsl).name) == (True, "Linux")
    for name, files in {
        "docker": {".dockerenv": ""},
        "podman": {"run/.containerenv": ""},
        "pod": {"proc/self/cgroup": "0::/kubepods/besteffort/pod1\n"},
        "nspawn": {"run/systemd/container": "systemd-nspawn\n"},
    }.items():
        assert system.linux(trees.write(tmp_path / name, files)).container is True


def test_this_machine() -> None:
    facts = cpu.detect(this_host())
    assert 1 <= facts.usable_cores <= (os.cpu_count() or 1)
    own = memory.detect(this_host())
    assert 0 < own.available <= own.total
    assert system.detect(this_host()).python.split()[-1].startswith("3.")


def sysctl_of(values: dict[str, str]) -> object:
    def run(command: Sequence[str]) -> str:
        assert command[0].endswith("sysctl")
        return "".join(f"{name}: {value}\n" for name, value in values.items())

    return run
