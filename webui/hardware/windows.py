"""What the Windows registry knows of the processor and of display adapters.

The registry is asked because it answers in a millisecond and names more than 4 GB of memory rightly, which WMI's
AdapterRAM, a 32-bit number, does not.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

PROCESSOR_KEY = r"HARDWARE\DESCRIPTION\System\CentralProcessor\0"
DISPLAY_CLASS = r"SYSTEM\CurrentControlSet\Control\Class\{4d36e968-e325-11ce-bfc1-08002be10318}"

# Numbers of IsProcessorFeaturePresent, from winnt.h.
PROCESSOR_FEATURES = {
    "sse3": 13,
    "ssse3": 36,
    "sse4_1": 37,
    "sse4_2": 38,
    "avx": 39,
    "avx2": 40,
    "avx512f": 41,
    "neon": 19,
    "asimddp": 43,
}

_VENDOR_NAMES = {0x1002: "amd", 0x8086: "intel", 0x10DE: "nvidia"}


class Registry(Protocol):
    """The part of the registry under HKEY_LOCAL_MACHINE that is read here."""

    def values(self, key: str) -> Mapping[str, Any]:
        """Names and values of a key; empty where the key does not exist or may not be read."""

    def children(self, key: str) -> list[str]:
        """Names of the keys under a key; empty where it does not exist."""


@dataclass(frozen=True, slots=True)
class Adapter:
    """One display adapter. `memory` is bytes; `vendor` and `device` are PCI numbers."""

    vendor: int
    device: int
    name: str
    driver: str | None
    memory: int | None
    vulkan: bool = False

    @property
    def vendor_name(self) -> str:
        return _VENDOR_NAMES.get(self.vendor, "other")


def processor_name(registry: Registry) -> str | None:
    name = registry.values(PROCESSOR_KEY).get("ProcessorNameString")
    return " ".join(str(name).split()) if name else None


def display_adapters(registry: Registry, vendor: int | None = None) -> Iterator[Adapter]:
    """The adapters (of one vendor) in the order of the registry; remote and virtual ones have no PCI number."""
    for child in registry.children(DISPLAY_CLASS):
        if not child.isdigit():
            continue
        values = registry.values(f"{DISPLAY_CLASS}\\{child}")
        match = re.search(r"ven_([0-9a-f]{4})&dev_([0-9a-f]{4})", str(values.get("MatchingDeviceId", "")).lower())
        if match is None or vendor not in (None, int(match[1], 16)):
            continue
        yield Adapter(
            vendor=int(match[1], 16),
            device=int(match[2], 16),
            name=str(values.get("DriverDesc") or "unknown display adapter"),
            driver=str(values["DriverVersion"]) if values.get("DriverVersion") else None,
            memory=_memory(values),
            vulkan=bool(values.get("VulkanDriverName")),
        )


def _memory(values: Mapping[str, Any]) -> int | None:
    for name in ("HardwareInformation.qwMemorySize", "HardwareInformation.MemorySize"):
        value = values.get(name)
        if isinstance(value, bytes):
            value = int.from_bytes(value, "little")
        if isinstance(value, int) and value > 0:
            return value
    return None


if sys.platform == "win32":
    import ctypes
    import winreg

    class LocalMachine:
        """The real registry."""

        def values(self, key: str) -> Mapping[str, Any]:
            try:
                with winreg.OpenKey(winreg.HKEY_LOCAL_MACHINE, key) as handle:
                    count = winreg.QueryInfoKey(handle)[1]
                    return {name: value for name, value, _ in (winreg.EnumValue(handle, i) for i in range(count))}
            except OSError:
                return {}  # some adapters' keys are the system's alone

        def children(self, key: str) -> list[str]:
            try:
                with winreg.OpenKey(winreg.HKEY_LOCAL_MACHINE, key) as handle:
                    return [winreg.EnumKey(handle, i) for i in range(winreg.QueryInfoKey(handle)[0])]
            except OSError:
                return []

    def instruction_sets() -> tuple[str, ...]:
        """Those that Windows tells of; it has no number for the finer AVX-512 and AMX ones."""
        present = ctypes.windll.kernel32.IsProcessorFeaturePresent
        return tuple(name for name, number in PROCESSOR_FEATURES.items() if present(number))

else:

    class LocalMachine:
        """There is no registry on this system."""

        def values(self, key: str) -> Mapping[str, Any]:
            return {}

        def children(self, key: str) -> list[str]:
            return []

    def instruction_sets() -> tuple[str, ...]:
        return ()
