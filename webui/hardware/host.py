"""Where facts come from: this machine, or in tests the recorded answers of another."""

from __future__ import annotations

import platform
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from webui.hardware import windows
from webui.hardware.programs import RunProgram, run_program

SYSTEM_ROOT = Path("/")


@dataclass(frozen=True)
class Host:
    """`root` is where /proc, /sys, /etc and /dev lie. `nvml` gives the module pynvml, `None` where it is not installed.

    `memory` gives total and available bytes, for systems without /proc/meminfo.
    """

    system: str
    architecture: str
    version: str
    root: Path
    nvml: Callable[[], Any]
    run: RunProgram
    registry: windows.Registry
    memory: Callable[[], tuple[int, int]]


def _memory() -> tuple[int, int]:
    machine = psutil.virtual_memory()
    return int(machine.total), int(machine.available)


def _pynvml() -> Any:
    try:
        import pynvml
    except ImportError:
        return None
    return pynvml


def this_host() -> Host:
    """The machine this process runs on."""
    kind = platform.system()
    return Host(
        system=kind,
        architecture=platform.machine(),
        version=(platform.mac_ver()[0] if kind == "Darwin" else platform.release()) or platform.release(),
        root=SYSTEM_ROOT,
        nvml=_pynvml,
        run=run_program,
        registry=windows.LocalMachine(),
        memory=_memory,
    )
