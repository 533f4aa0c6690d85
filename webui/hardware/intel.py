"""Intel GPUs: by the i915 and xe drivers' files on Linux, by the registry on Windows."""

from __future__ import annotations

from pathlib import Path

from webui.hardware import pci, windows
from webui.hardware.facts import Found, GpuFacts
from webui.hardware.host import Host

MEMORY_FILES = ("tile0/physical_vram_size_bytes", "drm/card*/lmem_total_bytes")
"""Own memory of discrete cards, as far as a driver tells it; integrated GPUs use the machine's."""
INTEGRATED_SLOT = "0000:00:02.0"
"""Where the GPU inside a processor is, on every machine; cards are behind a bridge."""
LEVEL_ZERO = ("usr/lib/*/libze_intel_gpu.so.1", "usr/lib64/libze_intel_gpu.so.1", "usr/lib/libze_intel_gpu.so.1")
TEMPERATURES = ("temp2_input", "temp1_input")


def detect(host: Host) -> Found:
    """All GPUs with what is known of them."""
    if host.system == "Windows":
        return from_registry(host.registry), ()
    if host.system == "Linux":
        return linux(host.root)
    return (), ()


def from_registry(registry: windows.Registry) -> tuple[GpuFacts, ...]:
    """Of a GPU in the processor, Windows tells what the firmware keeps for it. Those called Arc may be either kind."""
    gpus = []
    for index, adapter in enumerate(windows.display_adapters(registry, pci.INTEL)):
        integrated = True if "arc" not in adapter.name.lower() else None
        gpus.append(
            GpuFacts(
                "intel",
                index,
                adapter.name,
                memory_total=None if integrated else adapter.memory,
                driver=adapter.driver,
                integrated=integrated,
                vulkan=adapter.vulkan,
                reserved=adapter.memory if integrated else None,
            )
        )
    return tuple(gpus)


def linux(root: Path) -> Found:
    """Facts from /sys."""
    gpus, problems = [], []
    level_zero = any(next(root.glob(pattern), None) for pattern in LEVEL_ZERO)
    for index, card in enumerate(cards(root)):
        gpus.append(
            GpuFacts(
                vendor="intel",
                index=index,
                name=pci.device_name(root, card) or f"Intel GPU {card.device:04x}",
                memory_total=_memory(card),
                driver=card.driver,
                temperature=pci.celsius(card, *TEMPERATURES),
                power=pci.watts(card),
                integrated=card.slot == INTEGRATED_SLOT,
                runtime="Level Zero" if level_zero else None,
                bus=card.slot,
            )
        )
        if card.driver is None:
            problems.append(f"The Intel GPU in slot {card.slot} has no driver; neither i915 nor xe is loaded.")
        elif node := pci.refused_node(root, card):
            problems.append(f"This user may not use the Intel GPU ({node}): add the user to the group render.")
    return tuple(gpus), tuple(problems)


def cards(root: Path) -> list[pci.Card]:
    """GPUs only: accelerators of Intel's on the bus are NPUs, which no engine here uses."""
    return [card for card in pci.cards(root, pci.INTEL) if card.pci_class == pci.DISPLAY_CLASS]


def _memory(card: pci.Card) -> int | None:
    for pattern in MEMORY_FILES:
        for path in sorted(card.folder.glob(pattern)):
            text = path.read_text().strip()
            return int(text, 0)
    return None
