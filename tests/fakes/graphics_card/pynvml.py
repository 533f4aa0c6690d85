"""The driver's library of a machine with one 8 GB graphics card, for an app with this folder in its PYTHONPATH.

With EXAMPLE_CARDS=2 in its environment there is another one of 24 GB.
"""

from __future__ import annotations

import os
from types import SimpleNamespace
from typing import Any

NVML_TEMPERATURE_GPU = 0
MEBIBYTE = 1024 * 1024
SIZES = ((8192, 7600), (24576, 24000))
"""Of each card in MiB: all of its memory, and what is free."""


class NVMLError(Exception):
    pass


class NVMLError_LibraryNotFound(NVMLError):
    pass


class NVMLError_DriverNotLoaded(NVMLError):
    pass


def nvmlInit() -> None:
    pass


def nvmlShutdown() -> None:
    pass


def nvmlSystemGetDriverVersion() -> str:
    return "560.35.03"


def nvmlDeviceGetCount() -> int:
    return int(os.environ.get("EXAMPLE_CARDS", "1"))


def nvmlDeviceGetHandleByIndex(index: int) -> int:
    return index


def nvmlDeviceGetName(handle: int) -> str:
    return f"Example GPU {SIZES[handle][0] // 1024} GB"


def nvmlDeviceGetUUID(handle: int) -> str:
    return f"GPU-example-{handle}"


def nvmlDeviceGetMemoryInfo(handle: int) -> SimpleNamespace:
    total, free = SIZES[handle]
    return SimpleNamespace(total=total * MEBIBYTE, free=free * MEBIBYTE)


def nvmlDeviceGetCudaComputeCapability(handle: int) -> tuple[int, int]:
    return 8, 6


def nvmlDeviceGetUtilizationRates(handle: int) -> SimpleNamespace:
    return SimpleNamespace(gpu=0)


def nvmlDeviceGetTemperature(handle: int, sensor: int) -> int:
    return 41


def nvmlDeviceGetPowerUsage(handle: int) -> int:
    return 21_000


def __getattr__(name: str) -> Any:
    """Every other question is one that this card has no answer to."""
    if not name.startswith("nvmlDevice") and not name.startswith("nvmlSystem"):
        raise AttributeError(name)

    def unanswered(*arguments: object) -> None:
        raise NVMLError(f"{name} is not supported")

    return unanswered
