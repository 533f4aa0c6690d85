"""NVIDIA GPUs, by the driver's own management library (NVML). No driver means no GPU, which is not an error."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from webui.hardware import pci
from webui.hardware.facts import GpuFacts

Found = tuple[tuple[GpuFacts, ...], tuple[str, ...]]
"""GPUs, and one sentence for each thing that stood in the way of seeing them."""


def detect(root: Path) -> Found:
    """All GPUs the driver knows. `root` is asked for cards that the driver does not show."""
    try:
        import pynvml
    except ImportError:
        return (), ("NVIDIA GPUs cannot be seen: the package nvidia-ml-py is not installed.",) if _cards(root) else ()
    return read(pynvml, root)


def read(nvml: Any, root: Path) -> Found:
    """Ask `nvml`, which is the module pynvml. Facts a card does not offer stay `None`."""
    try:
        nvml.nvmlInit()
    except (nvml.NVMLError_LibraryNotFound, nvml.NVMLError_DriverNotLoaded):
        if _cards(root):
            return (), ("There is an NVIDIA card, and its driver is not installed or not loaded.",)
        return (), ()
    except nvml.NVMLError as error:
        return (), (f"NVIDIA GPUs cannot be seen: {error}.",)
    try:
        return _gpus(nvml)
    finally:
        nvml.nvmlShutdown()


def _gpus(nvml: Any) -> Found:
    driver = _ask(nvml, nvml.nvmlSystemGetDriverVersion)
    gpus, problems = [], []
    for index in range(nvml.nvmlDeviceGetCount()):
        try:
            handle = nvml.nvmlDeviceGetHandleByIndex(index)
        except nvml.NVMLError as error:
            # A card that fell off the bus or belongs to somebody else; the others are still good.
            problems.append(f"NVIDIA GPU {index} cannot be used: {error}.")
            continue
        gpus.append(_gpu(nvml, handle, index, _text(driver)))
    return tuple(gpus), tuple(problems)


def _gpu(nvml: Any, handle: Any, index: int, driver: str | None) -> GpuFacts:
    memory = _ask(nvml, nvml.nvmlDeviceGetMemoryInfo, handle)
    capability = _ask(nvml, nvml.nvmlDeviceGetCudaComputeCapability, handle)
    use = _ask(nvml, nvml.nvmlDeviceGetUtilizationRates, handle)
    temperature = _ask(nvml, nvml.nvmlDeviceGetTemperature, handle, nvml.NVML_TEMPERATURE_GPU)
    milliwatts = _ask(nvml, nvml.nvmlDeviceGetPowerUsage, handle)
    return GpuFacts(
        vendor="nvidia",
        index=index,
        name=_text(_ask(nvml, nvml.nvmlDeviceGetName, handle)) or "NVIDIA GPU",
        memory_total=memory.total if memory else None,
        memory_free=memory.free if memory else None,
        driver=driver,
        compute_capability=f"{capability[0]}.{capability[1]}" if capability else None,
        utilisation=float(use.gpu) if use else None,
        temperature=float(temperature) if temperature is not None else None,
        power=milliwatts / 1000 if milliwatts is not None else None,
    )


def _ask(nvml: Any, question: Callable[..., Any], *arguments: Any) -> Any:
    """One question; None where this card or driver has no answer (laptops have no power reading, for one)."""
    try:
        return question(*arguments)
    except nvml.NVMLError:
        return None


def _text(value: Any) -> str | None:
    return value.decode() if isinstance(value, bytes) else value


def _cards(root: Path) -> bool:
    return bool(pci.cards(root, pci.NVIDIA))
