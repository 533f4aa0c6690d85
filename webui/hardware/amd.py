"""AMD GPUs: by the amdgpu driver's files on Linux, by the registry on Windows."""

from __future__ import annotations

import platform
from pathlib import Path

from webui.hardware import pci, windows
from webui.hardware.facts import GpuFacts
from webui.hardware.nvidia import Found


def detect(root: Path) -> Found:
    """All GPUs, and what stands between them and ROCm."""
    if platform.system() == "Windows":
        return from_registry(windows.LocalMachine()), ()
    if platform.system() == "Linux":
        return linux(root)
    return (), ()


def from_registry(registry: windows.Registry) -> tuple[GpuFacts, ...]:
    adapters = [adapter for adapter in windows.display_adapters(registry) if adapter.vendor == pci.AMD]
    return tuple(
        GpuFacts("amd", index, adapter.name, memory_total=adapter.memory, driver=adapter.driver)
        for index, adapter in enumerate(adapters)
    )


def linux(root: Path) -> Found:
    """Facts from /sys; the architecture (gfx1100 …), which ROCm builds are made for, stands as compute capability."""
    gpus, problems = [], []
    for index, card in enumerate(pci.cards(root, pci.AMD)):
        gpus.append(_gpu(root, index, card))
        if card.driver is None:
            problems.append(f"The AMD card in slot {card.slot} has no driver; amdgpu is not loaded.")
    if any(gpu.driver for gpu in gpus) and not (root / "dev/kfd").exists():
        problems.append(
            "An AMD GPU is there, and /dev/kfd is not: ROCm cannot use the GPU (in a container, pass it in)."
        )
    return tuple(gpus), tuple(problems)


def _gpu(root: Path, index: int, card: pci.Card) -> GpuFacts:
    total = pci.number(card.folder / "mem_info_vram_total")
    used = pci.number(card.folder / "mem_info_vram_used")
    busy = pci.number(card.folder / "gpu_busy_percent")
    millidegrees = pci.sensor(card, "temp1_input")
    microwatts = pci.sensor(card, "power1_average", "power1_input")
    return GpuFacts(
        vendor="amd",
        index=index,
        name=_product(card) or pci.device_name(root, card) or f"AMD GPU {card.device:04x}",
        memory_total=total,
        memory_free=total - used if total is not None and used is not None else None,
        driver=_driver(root, card),
        compute_capability=_architecture(root, card),
        utilisation=float(busy) if busy is not None else None,
        temperature=millidegrees / 1000 if millidegrees is not None else None,
        power=microwatts / 1_000_000 if microwatts is not None else None,
    )


def _product(card: pci.Card) -> str | None:
    path = card.folder / "product_name"
    return path.read_text().strip() or None if path.is_file() else None


def _driver(root: Path, card: pci.Card) -> str | None:
    """The packaged driver has a version of its own; the kernel's goes by the kernel's version."""
    if card.driver is None:
        return None
    version = root / f"sys/module/{card.driver}/version"
    return f"{card.driver} {version.read_text().strip()}" if version.is_file() else card.driver


def _architecture(root: Path, card: pci.Card) -> str | None:
    """gfx name from the compute driver's topology, whose nodes tell the card's place on the bus."""
    bus, rest = card.slot.split(":")[1:]
    device, function = rest.split(".")
    location = int(bus, 16) << 8 | int(device, 16) << 3 | int(function, 16)
    for node in sorted((root / "sys/class/kfd/kfd/topology/nodes").glob("*/properties")):
        properties = dict(line.split(None, 1) for line in node.read_text().splitlines() if " " in line)
        if int(properties.get("location_id", "-1")) != location or properties.get("vendor_id") != str(pci.AMD):
            continue
        version = int(properties.get("gfx_target_version", "0"))
        if version:
            return f"gfx{version // 10_000}{version // 100 % 100:x}{version % 100:x}"
    return None
