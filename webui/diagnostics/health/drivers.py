"""GPUs: who uses them, and whether their drivers suffice for the builds that are installed.

What a build needs of a driver are tables of the vendors'; which builds are here is read from the packages.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator, Sequence
from importlib import metadata
from pathlib import Path

from webui.diagnostics.health.check import Check, HealthFacts, fine, problem, warning
from webui.hardware.facts import GpuFacts
from webui.planning.support import numbers
from webui.setup.backends import BackendState, check
from webui.setup.builds import VENDORS

CUDA_DRIVERS = {11: ((450, 80), (452, 39)), 12: ((525, 60), (527, 41)), 13: ((580, 65), (580, 88))}
"""CUDA's major version → the oldest driver it runs on, on Linux and on Windows. Minor versions need no newer one."""
CUDA_CAPABILITIES = {11: (3, 5), 12: (5, 0), 13: (7, 5)}
"""CUDA's major version → the oldest generation of cards that builds for it contain code for."""
CTRANSFORMERS_CUDA = 12
ROCM_DEVICE = "dev/kfd"


def gpus(facts: HealthFacts) -> Iterator[Check]:
    """What the machine has, and which backends use it."""
    hardware = facts.hardware
    for sentence in hardware.problems:
        yield warning("Hardware", sentence, "Install or update the device's driver, if the device is there.")
    if not hardware.gpus:
        yield fine("GPU", "No GPU was found; models run on the CPU.")
        return
    states = _states(facts)
    for gpu in hardware.gpus:
        able = [state.name for state in states if _is_for(gpu, state.devices)]
        driver = f", driver {gpu.driver}" if gpu.driver else ""
        if able:
            yield fine("GPU", f"{gpu.name}{driver}: used by {', '.join(able)}.")
        else:
            yield warning(
                "GPU",
                f"{gpu.name}{driver} is there, and no installed backend is built for it.",
                "The Hardware tab says which build uses this GPU and how to install it.",
            )


def fitting(facts: HealthFacts) -> Iterator[Check]:
    """Every GPU against every build that is here for its vendor."""
    complaints = [
        complaint
        for gpu in facts.hardware.gpus
        for state in _states(facts)
        for complaint in (*_cuda(gpu, state), *_vulkan(gpu, state, facts), *_rocm(gpu, state, facts.root))
    ]
    yield from complaints
    if not complaints and facts.hardware.gpus:
        yield fine("GPU driver", "The drivers are new enough for the builds that are installed.")


def cuda_of(name: str) -> int | None:
    """CUDA's major version that the installed build of a backend is made for; `None` where it does not say."""
    if name == "ctransformers":
        return CTRANSFORMERS_CUDA
    if name == "transformers":
        return _torch_cuda()
    try:
        label = metadata.version(name).partition("+")[2]
    except metadata.PackageNotFoundError:
        return None
    found = re.search(r"cu(\d{2})\d", label)
    return int(found[1]) if found else None


def _cuda(gpu: GpuFacts, state: BackendState) -> Iterator[Check]:
    major = cuda_of(state.name) if gpu.vendor == "nvidia" and "cuda" in state.devices else None
    if major not in CUDA_DRIVERS:
        return
    needed, driver = CUDA_DRIVERS[major][sys.platform == "win32"], numbers(gpu.driver)
    if driver is not None and driver < needed:
        yield problem(
            "GPU driver",
            f"{gpu.name} has driver {gpu.driver}; {state.name} is built for CUDA {major}, which needs "
            f"{needed[0]}.{needed[1]} or newer.",
            "Update the NVIDIA driver and restart the machine; until then models run on the CPU.",
        )
    oldest, capability = CUDA_CAPABILITIES[major], numbers(gpu.compute_capability)
    if capability is not None and capability < oldest:
        yield problem(
            "GPU driver",
            f"{gpu.name} (compute capability {gpu.compute_capability}) is older than what {state.name}'s build for "
            f"CUDA {major} contains code for.",
            "Install the build for this GPU",
            f"repair {state.name}",
        )


def _vulkan(gpu: GpuFacts, state: BackendState, facts: HealthFacts) -> Iterator[Check]:
    vulkan = facts.hardware.vulkan
    if "vulkan" not in state.devices or vulkan is None or (vulkan.loader is not False and gpu.vulkan is not False):
        return
    lacks = "the Vulkan loader library" if vulkan.loader is False else "a Vulkan driver"
    yield problem(
        "GPU driver",
        f"{state.name} is built for Vulkan, and {lacks} is missing for {gpu.name}.",
        "On Debian and Ubuntu: sudo apt install libvulkan1 mesa-vulkan-drivers",
    )


def _rocm(gpu: GpuFacts, state: BackendState, root: Path) -> Iterator[Check]:
    device = root / ROCM_DEVICE
    if gpu.vendor != "amd" or "rocm" not in state.devices or sys.platform != "linux":
        return
    if not device.exists():
        yield problem(
            "GPU driver",
            f"{state.name} is built for ROCm, and the kernel offers no compute device for {gpu.name}.",
            "Load the amdgpu driver: sudo modprobe amdgpu. In a container, start it with --device=/dev/kfd.",
        )
    elif not os.access(device, os.R_OK | os.W_OK):
        yield problem(
            "GPU driver",
            f"You may not use {gpu.name} for computing: /{ROCM_DEVICE} is closed to you.",
            "Join its groups, then log in again: sudo usermod -aG render,video $USER",
        )


def _states(facts: HealthFacts) -> list[BackendState]:
    states = (check(name, facts.loaders, hardware=facts.hardware) for name in facts.loaders)
    return [state for state in states if state.installed]


def _is_for(gpu: GpuFacts, devices: Sequence[str]) -> bool:
    return any(gpu.vendor in VENDORS.get(device, ()) for device in devices)


def _torch_cuda() -> int | None:
    """torch writes what it was built with into `torch/version.py`."""
    try:
        file = Path(str(metadata.distribution("torch").locate_file("torch/version.py")))
        found = re.search(r"^cuda\b[^=\n]*=\s*['\"](\d+)", file.read_text("utf-8"), re.MULTILINE)
    except (metadata.PackageNotFoundError, OSError):
        return None
    return int(found[1]) if found else None
