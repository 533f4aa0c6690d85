"""Which Vulkan drivers a machine has: from the files that register them, since no Vulkan library is needed for that.

Engines with a Vulkan build reach GPUs of every vendor through them. What works in the end only an engine can tell.
"""

from __future__ import annotations

import json
from pathlib import Path

from webui.hardware import windows
from webui.hardware.facts import VulkanFacts
from webui.hardware.host import Host

FOLDERS = ("usr/share/vulkan/icd.d", "usr/local/share/vulkan/icd.d", "etc/vulkan/icd.d")
LOADERS = ("usr/lib/*/libvulkan.so.1", "usr/lib64/libvulkan.so.1", "usr/lib/libvulkan.so.1")
VENDORS = (
    ("nvidia", ("nvidia", "nouveau")),
    ("amd", ("radeon", "amd")),
    ("intel", ("intel", "anv")),
    ("apple", ("moltenvk",)),
    ("software", ("lvp", "swrast", "swiftshader")),
    ("windows", ("dzn",)),
)
"""Parts of the names of the drivers' libraries. "windows" is the one that reaches Windows' GPUs from WSL."""


def detect(host: Host) -> VulkanFacts | None:
    """What is registered; `None` where this is not known (macOS)."""
    if host.system == "Linux":
        return linux(host.root)
    if host.system == "Windows":
        names = {adapter.vendor_name for adapter in windows.display_adapters(host.registry) if adapter.vulkan}
        return VulkanFacts(loader=None, drivers=tuple(sorted(names)))
    return None


def linux(root: Path) -> VulkanFacts:
    libraries = []
    for folder in FOLDERS:
        for path in sorted((root / folder).glob("*.json")):
            libraries.append(_library(path))
    found = {
        vendor for library in libraries if library for vendor, parts in VENDORS if any(p in library for p in parts)
    }
    loader = any(next(root.glob(pattern), None) for pattern in LOADERS)
    return VulkanFacts(loader, tuple(sorted(found)))


def _library(path: Path) -> str | None:
    """The file name of the driver's library. Files that are no registration are none of ours."""
    try:
        told = json.loads(path.read_text("utf-8", "replace"))["ICD"]["library_path"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return str(told).rsplit("/", 1)[-1].lower()
