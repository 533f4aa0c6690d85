"""Recorded pieces of /proc, /sys and /etc, written out as a tree that the probes read."""

from __future__ import annotations

from pathlib import Path

GIB = 1 << 30

# Two sockets would differ in "physical id"; here one socket, two cores, two threads each.
X86_CPUINFO = "\n\n".join(
    f"processor\t: {number}\nvendor_id\t: GenuineIntel\nmodel name\t: Intel(R) Xeon(R) Platinum 8481C CPU @ 2.70GHz\n"
    f"physical id\t: 0\nsiblings\t: 4\ncore id\t\t: {number // 2}\ncpu cores\t: 2\n"
    "flags\t\t: fpu sse sse2 pni ssse3 sse4_1 sse4_2 avx f16c fma avx2 avx512f avx512_vnni amx_bf16 amx_tile amx_int8"
    for number in range(4)
)
ARM_CPUINFO = (
    "\n\n".join(
        f"processor\t: {number}\nBogoMIPS\t: 108.00\nFeatures\t: fp asimd evtstrm aes crc32 asimdhp asimddp\n"
        "CPU implementer\t: 0x41\nCPU part\t: 0xd0b"
        for number in range(4)
    )
    + "\n\nRevision\t: c04170\nSerial\t\t: 0\nModel\t\t: Raspberry Pi 5 Model B Rev 1.0"
)
OS_RELEASE = 'PRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\nNAME="Debian GNU/Linux"\nID=debian\n'
PCI_IDS = (
    "# a comment\n1002  Advanced Micro Devices, Inc. [AMD/ATI]\n\t744c  Navi 31 [Radeon RX 7900 XT/7900 XTX]\n"
    "\t\t1002 0e3b  RX 7900 GRE\n8086  Intel Corporation\n\t56a0  DG2 [Arc A770]\n"
)
KFD_NODE = (
    "cpu_cores_count 0\nsimd_count 192\nvendor_id 4098\ndevice_id 29772\nlocation_id 768\ngfx_target_version 110000\n"
)


def write(root: Path, files: dict[str, str]) -> Path:
    """Write `files` (path → content) under `root`."""
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    return root


def card(slot: str, vendor: int, device: int, pci_class: str = "0x030000", **files: str) -> dict[str, str]:
    """A card on the bus; further files by name, with `__` for a slash."""
    folder = f"sys/bus/pci/devices/{slot}"
    base = {"vendor": f"0x{vendor:04x}\n", "device": f"0x{device:04x}\n", "class": pci_class + "\n"}
    base |= {name.replace("__", "/"): content for name, content in files.items()}
    return {f"{folder}/{name}": content for name, content in base.items()}


def bind(root: Path, slot: str, driver: str) -> None:
    """Let a kernel driver have the card, as the kernel shows it: by a link."""
    target = root / "sys/bus/pci/drivers" / driver
    target.mkdir(parents=True, exist_ok=True)
    (root / "sys/bus/pci/devices" / slot / "driver").symlink_to(target)
