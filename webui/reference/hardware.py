"""docs/hardware.md: which GPUs are used by which builds, and which models fit, from the tables that advise on it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from webui.hardware.facts import GIB
from webui.loaders.contract import LoaderSpec
from webui.planning.memory import device_room
from webui.planning.offers import BUILD_NEEDS
from webui.planning.recommendation import NAMES
from webui.planning.sizes import SIZES, SYSTEM_BYTES, Fit, fits
from webui.planning.support import (
    CAPABILITY_NEEDED,
    CAPABILITY_OF_CUDA_13,
    CUDA_DRIVER,
    CUDA_NEEDED,
    LEAST_MEMORY,
    ROCM_ARCHITECTURES,
    SLOW_INTEGRATED,
)
from webui.reference.filled import filled
from webui.reference.tables import code, table
from webui.setup.builds import VENDORS
from webui.setup.published import LLAMA_CPP_PYTHON

PAGE = "docs/hardware.md"
VENDOR_NAMES = {"nvidia": "NVIDIA", "amd": "AMD", "intel": "Intel", "apple": "Apple"}
GPU_SIZES = (4, 6, 8, 12, 16, 24, 48, 80)
MEMORY_SIZES = (8, 16, 32, 64, 128)
HOST_BESIDE_GPU = 32


def page(root: Path, loaders: Mapping[str, LoaderSpec]) -> str:
    """The whole page."""
    parts = {
        "builds": _builds(loaders),
        "needs": _needs(),
        "sizes on a GPU": _on_gpus(),
        "sizes without a GPU": _on_processors(),
        "compiling": _compiling(),
    }
    return filled(root / PAGE, parts)


def _builds(loaders: Mapping[str, LoaderSpec]) -> str:
    rows = [
        (
            NAMES[kind],
            ", ".join(VENDOR_NAMES[vendor] for vendor in vendors),
            ", ".join(name for name, spec in loaders.items() if kind in spec.devices),
        )
        for kind, vendors in VENDORS.items()
    ]
    return table(("kind of build", "GPUs of", "backends that have one"), rows)


def _needs() -> str:
    def version(numbers: tuple[int, int]) -> str:
        return ".".join(map(str, numbers))

    rocm = ", ".join(code(name) for name in sorted(ROCM_ARCHITECTURES))
    slow = ", ".join(code(name) for name in sorted(SLOW_INTEGRATED))
    rows = [
        (
            "NVIDIA, CUDA",
            f"compute capability {version(CAPABILITY_NEEDED)}, driver {CUDA_DRIVER} (CUDA {CUDA_NEEDED[0]})",
        ),
        ("NVIDIA, builds for CUDA 13", f"compute capability {version(CAPABILITY_OF_CUDA_13)}"),
        ("AMD, ROCm", f"ROCm installed, and one of {rocm}"),
        ("AMD, Vulkan", f"a Vulkan driver; graphics in older processors ({slow}) are no faster than the processor"),
        ("Intel, Vulkan", "a card of its own with a Vulkan driver; graphics in the processor are left aside"),
        ("Apple, Metal", "any Apple processor"),
        ("every card", f"{LEAST_MEMORY // GIB} GiB of memory"),
    ]
    return table(("GPU", "needs"), rows)


def _on_gpus() -> str:
    host = HOST_BESIDE_GPU * GIB - SYSTEM_BYTES
    rows = [
        (f"{size} GiB", *(_cell(fit) for fit in fits(device_room(size * GIB * 9 // 10), host, shared=False)))
        for size in GPU_SIZES
    ]
    return table(("memory of the GPU", *(f"{billions} B" for billions in SIZES)), rows)


def _on_processors() -> str:
    rows = [
        (f"{size} GiB", *(_cell(fit) for fit in fits(0, size * GIB * 8 // 10 - SYSTEM_BYTES, shared=False)))
        for size in MEMORY_SIZES
    ]
    return table(("memory of the machine", *(f"{billions} B" for billions in SIZES)), rows)


def _cell(fit: Fit) -> str:
    where = {"gpu and cpu": " in part", "cpu": " on the processor", "gpu": ""}
    return f"{fit.quantization}{where[fit.where]}" if fit.quantization and fit.where else "–"


def _compiling() -> str:
    options = LLAMA_CPP_PYTHON.compile_options
    rows = [(NAMES[kind], code(f"CMAKE_ARGS={options[kind]}"), needs) for kind, needs in BUILD_NEEDS.items()]
    return table(("for", "set", "which needs"), rows)
