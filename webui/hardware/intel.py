"""Intel GPUs: by the i915 and xe drivers' files on Linux, by the registry on Windows."""

from __future__ import annotations

import platform
from pathlib import Path

from webui.hardware import pci, windows
from webui.hardware.facts import GpuFacts
from webui.hardware.nvidia import Found

MEMORY_FILES = ("tile0/physical_vram_size_bytes", "drm/card*/lmem_total_bytes")
"""Own memory of discrete cards, as far as a driver tells it; integrated GPUs use the machine's."""


def detect(root: Path) -> Found:
    """All GPUs with what is known of them."""
    if platform.system() == "Windows":
        return from_registry(windows.LocalMachine()), ()
    if platform.system() == "Linux":
        return linux(root)
    return (), ()


def from_registry(registry: windows.Registry) -> tuple[GpuFacts, ...]:
    adapters = [adapter for adapter in windows.display_adapters(registry) if adapter.vendor == pci.INTEL]
    return tuple(
        GpuFacts("intel", index, adapter.name, memory_total=adapter.memory, driver=adapter.driver)
        for index, adapter in enumerate(adapters)
    )


def linux(root: Path) -> Found:
    """Facts from /sys. Accelerators of Intel's on the bus are NPUs, which no engine here uses, so they are left out."""
    gpus, problems = [], []
    cards = [card for card in pci.cards(root, pci.INTEL) if card.pci_class == pci.DISPLAY_CLASS]
    for index, card in enumerate(cards):
        millidegrees = pci.sensor(card, "temp2_input", "temp1_input")
        microwatts = pci.sensor(card, "power1_input")
        gpus.append(
            GpuFacts(
                vendor="intel",
                index=index,
                name=pci.device_name(root, card) or f"Intel GPU {card.device:04x}",
                memory_total=_memory(card),
                driver=card.driver,
                temperature=millidegrees / 1000 if millidegrees is not None else None,
                power=microwatts / 1_000_000 if microwatts is not None else None,
            )
        )
        if card.driver is None:
            problems.append(f"The Intel GPU in slot {card.slot} has no driver; neither i915 nor xe is loaded.")
    return tuple(gpus), tuple(problems)


def _memory(card: pci.Card) -> int | None:
    for pattern in MEMORY_FILES:
        for path in sorted(card.folder.glob(pattern)):
            text = path.read_text().strip()
            return int(text, 0)
    return None
