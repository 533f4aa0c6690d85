"""AMD GPUs: by the amdgpu driver's files on Linux, by the registry on Windows."""

from __future__ import annotations

from pathlib import Path

from webui.hardware import pci, windows
from webui.hardware.facts import Found, GpuFacts
from webui.hardware.host import Host

INTEGRATED_ARCHITECTURES = frozenset(
    f"gfx{number}"
    for number in ("902", "909", "90c", "1033", "1035", "1036", "1037", "1103", "1150", "1151", "1152", "1153")
)
INTEGRATED_DEVICES = frozenset(
    (
        *(0x15DD, 0x15D8, 0x1636, 0x164C, 0x1638, 0x15E7, 0x163F, 0x1681, 0x164D, 0x164E, 0x1506),
        *(0x15BF, 0x15C8, 0x1900, 0x1901, 0x13C0, 0x150E, 0x1586, 0x1114),
    )
)
"""GPUs inside processors, from Raven Ridge to Strix Halo, by PCI number: the driver does not say it in words."""
LEAST_CARD = 2 << 30
"""Cards of the drivers read here have at least this much memory of their own, GPUs in processors mostly less."""


def detect(host: Host) -> Found:
    """All GPUs, and what stands between them and ROCm."""
    if host.system == "Windows":
        return from_registry(host.registry), ()
    if host.system == "Linux":
        return linux(host.root)
    return (), ()


def from_registry(registry: windows.Registry) -> tuple[GpuFacts, ...]:
    return tuple(
        _from_adapter(index, adapter) for index, adapter in enumerate(windows.display_adapters(registry, pci.AMD))
    )


def _from_adapter(index: int, adapter: windows.Adapter) -> GpuFacts:
    """Of a GPU in the processor, Windows tells what the firmware keeps for it, and not what else it may use."""
    integrated = _is_integrated(adapter.device, None, adapter.memory)
    return GpuFacts(
        "amd",
        index,
        adapter.name,
        memory_total=None if integrated else adapter.memory,
        driver=adapter.driver,
        integrated=integrated,
        vulkan=adapter.vulkan,
        reserved=adapter.memory if integrated else None,
    )


def linux(root: Path) -> Found:
    """Facts from /sys; the architecture (gfx1100 …), which ROCm builds are made for, stands as compute capability."""
    gpus, problems = [], []
    rocm = rocm_version(root)
    for index, card in enumerate(pci.cards(root, pci.AMD)):
        gpus.append(_gpu(root, index, card, rocm))
        if card.driver is None:
            problems.append(f"The AMD card in slot {card.slot} has no driver; amdgpu is not loaded.")
        elif node := pci.refused_node(root, card):
            problems.append(f"This user may not use the AMD GPU ({node}): add the user to the groups video and render.")
    if any(gpu.driver for gpu in gpus) and not (root / "dev/kfd").exists():
        problems.append(
            "An AMD GPU is there, and /dev/kfd is not: ROCm cannot use the GPU (in a container, pass it in)."
        )
    return tuple(gpus), tuple(problems)


def rocm_version(root: Path) -> str | None:
    """The version of an installed ROCm, from the file its packages leave."""
    places = [root / "opt/rocm/.info/version", *sorted(root.glob("opt/rocm-*/.info/version"), reverse=True)]
    return next((path.read_text().split("-")[0].strip() for path in places if path.is_file()), None)


def used_bytes(card: pci.Card, *, integrated: bool) -> int | None:
    """Bytes in use of what `memory_total` counts."""
    return _sum(card, integrated, "used")


def busy(card: pci.Card) -> float | None:
    percent = pci.number(card.folder / "gpu_busy_percent")
    return float(percent) if percent is not None else None


def _gpu(root: Path, index: int, card: pci.Card, rocm: str | None) -> GpuFacts:
    architecture = _architecture(root, card)
    carved = pci.number(card.folder / "mem_info_vram_total")
    integrated = _is_integrated(card.device, architecture, carved)
    total = _sum(card, bool(integrated), "total")
    used = used_bytes(card, integrated=bool(integrated))
    return GpuFacts(
        vendor="amd",
        index=index,
        name=_product(card) or pci.device_name(root, card) or f"AMD GPU {card.device:04x}",
        memory_total=total,
        memory_free=total - used if total is not None and used is not None else None,
        driver=_driver(root, card),
        compute_capability=architecture,
        utilisation=busy(card),
        temperature=pci.celsius(card),
        power=pci.watts(card),
        integrated=integrated,
        runtime=f"ROCm {rocm}" if rocm else None,
        bus=card.slot,
        reserved=carved if integrated else None,
    )


def _is_integrated(device: int, architecture: str | None, own_memory: int | None) -> bool | None:
    if architecture in INTEGRATED_ARCHITECTURES or device in INTEGRATED_DEVICES:
        return True
    if architecture is not None or (own_memory is not None and own_memory >= LEAST_CARD):
        return False
    return None


def _sum(card: pci.Card, integrated: bool, what: str) -> int | None:
    """Own memory; for a GPU inside the processor also what it may use of the machine's (GTT)."""
    own = pci.number(card.folder / f"mem_info_vram_{what}")
    shared = pci.number(card.folder / f"mem_info_gtt_{what}") if integrated else 0
    return None if own is None else own + (shared or 0)


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
