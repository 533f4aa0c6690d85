"""The operating system, and whether it is a container or WSL."""

from __future__ import annotations

import platform
from pathlib import Path

from webui.hardware import cgroup
from webui.hardware.facts import SystemFacts
from webui.hardware.host import Host

CONTAINER_WORDS = ("docker", "kubepods", "containerd", "lxc", "libpod", "podman", "buildkit")


def detect(host: Host) -> SystemFacts:
    """The facts of a machine."""
    if host.system == "Linux":
        return linux(host.root)
    if host.system == "Darwin":
        return SystemFacts("macOS", host.version, python(), container=False, wsl=False)
    if host.system == "Windows":
        return SystemFacts(f"Windows {host.version}", platform.version(), python(), container=None, wsl=False)
    return least(host)


def least(host: Host) -> SystemFacts:
    """What is known where nothing could be read."""
    return SystemFacts(host.system, host.version, python())


def linux(root: Path) -> SystemFacts:
    """The distribution's own name and the kernel's release."""
    release = _read(root / "proc/sys/kernel/osrelease").strip()
    return SystemFacts(
        name=_distribution(root) or "Linux",
        version=release or "unknown",
        python=python(),
        container=in_container(root),
        wsl="microsoft" in release.lower(),
    )


def in_container(root: Path) -> bool:
    """Docker, Podman, Kubernetes and LXC leave one of these marks."""
    if (root / ".dockerenv").exists() or (root / "run/.containerenv").exists():
        return True
    if _read(root / "run/systemd/container").strip():
        return True
    return any(word in path for path in cgroup.paths(root).values() for word in CONTAINER_WORDS)


def python() -> str:
    return f"{platform.python_implementation()} {platform.python_version()}"


def _distribution(root: Path) -> str | None:
    for place in ("etc/os-release", "usr/lib/os-release"):
        for line in _read(root / place).splitlines():
            name, _, value = line.partition("=")
            if name == "PRETTY_NAME":
                return value.strip().strip("\"'") or None
    return None


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""  # not every system has each of these
