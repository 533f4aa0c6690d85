"""Graphics cards and accelerators on the PCI bus of a Linux machine, whether or not a driver has them."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

AMD, INTEL, NVIDIA = 0x1002, 0x8086, 0x10DE
DISPLAY_CLASS, ACCELERATOR_CLASS = 0x03, 0x12
PCI_NAMES = ("usr/share/hwdata/pci.ids", "usr/share/misc/pci.ids", "usr/share/pci.ids")


@dataclass(frozen=True, slots=True)
class Card:
    """One function on the bus. `driver` is the kernel driver that has it, `slot` its address as 0000:03:00.0."""

    folder: Path
    slot: str
    vendor: int
    device: int
    pci_class: int
    driver: str | None


def cards(root: Path, vendor: int) -> list[Card]:
    """The cards of one vendor, in the order of the bus."""
    bus = root / "sys/bus/pci/devices"
    if not bus.is_dir():
        return []
    found = []
    for folder in sorted(bus.iterdir()):
        if _hex(folder / "vendor") != vendor:
            continue
        pci_class = (_hex(folder / "class") or 0) >> 16
        if pci_class not in (DISPLAY_CLASS, ACCELERATOR_CLASS):
            continue
        driver = folder / "driver"
        found.append(
            Card(
                folder=folder,
                slot=folder.name,
                vendor=vendor,
                device=_hex(folder / "device") or 0,
                pci_class=pci_class,
                driver=driver.resolve().name if driver.exists() else None,
            )
        )
    return found


def device_name(root: Path, card: Card) -> str | None:
    """The card's name in the list of PCI numbers that most distributions carry, or None."""
    for place in PCI_NAMES:
        path = root / place
        if path.is_file():
            return _look_up(path, f"{card.vendor:04x}", f"{card.device:04x}")
    return None


def slot(address: str | None) -> str | None:
    """An address in the kernel's form, from NVML's eight digits of domain."""
    if not address:
        return None
    domain, rest = address.lower().split(":", 1)
    return f"{int(domain, 16):04x}:{rest}"


def refused_node(root: Path, card: Card) -> str | None:
    """The file in /dev through which programs compute on the card, if it is there and this user may not open it."""
    for node in sorted(card.folder.glob("drm/renderD*")):
        device = root / "dev/dri" / node.name
        if device.exists() and not os.access(device, os.R_OK | os.W_OK):
            return f"/dev/dri/{node.name}"
    return None


def number(path: Path) -> int | None:
    """A whole number in a file of /sys; None where there is no such file or the driver does not answer."""
    try:
        return int(path.read_text().strip())
    except (OSError, ValueError):
        return None


def sensor(card: Card, *names: str) -> int | None:
    """The first of the named sensors that the card's driver offers, in hwmon's units (millidegrees, microwatts)."""
    for monitor in sorted(card.folder.glob("hwmon/hwmon*")):
        for name in names:
            value = number(monitor / name)
            if value is not None:
                return value
    return None


def celsius(card: Card, *names: str) -> float | None:
    """Degrees of the first of the named sensors, without names of the usual one."""
    millidegrees = sensor(card, *(names or ("temp1_input",)))
    return millidegrees / 1000 if millidegrees is not None else None


def watts(card: Card) -> float | None:
    """What the card draws, averaged by the driver where it does that."""
    microwatts = sensor(card, "power1_average", "power1_input")
    return microwatts / 1_000_000 if microwatts is not None else None


def _look_up(path: Path, vendor: str, device: str) -> str | None:
    inside = False
    with path.open(encoding="utf-8", errors="replace") as lines:
        for line in lines:
            if line.startswith("#") or not line.strip():
                continue
            if not line.startswith("\t"):
                if inside:
                    return None
                inside = line.startswith(vendor + " ")
            elif inside and line.startswith(f"\t{device} "):
                return line.strip().split(None, 1)[1]
    return None


def _hex(path: Path) -> int | None:
    try:
        return int(path.read_text().strip(), 16)
    except (OSError, ValueError):
        return None
