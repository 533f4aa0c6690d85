"""NVIDIA GPUs, by the driver's own management library (NVML). No driver means no GPU, which is not an error."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from webui.hardware import pci
from webui.hardware.facts import Found, GpuFacts, GpuProcess
from webui.hardware.host import Host

WSL_DEVICE = "dev/dxg"


def detect(host: Host) -> Found:
    """All GPUs the driver knows. The bus is asked for cards that the driver does not show."""
    nvml = host.nvml()
    if nvml is None:
        missing = "NVIDIA GPUs cannot be seen: the package nvidia-ml-py is not installed."
        return (), (missing,) if pci.cards(host.root, pci.NVIDIA) else ()
    try:
        nvml.nvmlInit()
    except (nvml.NVMLError_LibraryNotFound, nvml.NVMLError_DriverNotLoaded):
        return (), _without_driver(host)
    except nvml.NVMLError as error:
        return (), (f"NVIDIA GPUs cannot be seen: {error}.",)
    try:
        return _gpus(nvml)
    finally:
        nvml.nvmlShutdown()


def handles(nvml: Any) -> Iterator[tuple[Any, Any]]:
    """Each device that programs can use, with the card it is on: a card itself, or the MIG instances of one.

    Cards that do not answer are left out. Between `nvmlInit` and `nvmlShutdown` only.
    """
    for index in range(nvml.nvmlDeviceGetCount()):
        card = ask(nvml, nvml.nvmlDeviceGetHandleByIndex, index)
        if card is not None:
            for device in _instances(nvml, card) if _is_divided(nvml, card) else [card]:
                yield device, card


def ask(nvml: Any, question: Callable[..., Any], *arguments: Any) -> Any:
    """One question; None where this card or driver has no answer (laptops have no power reading, for one)."""
    try:
        return question(*arguments)
    except nvml.NVMLError:
        return None


def processes(nvml: Any, device: Any) -> tuple[GpuProcess, ...]:
    """Who holds memory of the device, for computing or for graphics, the largest first."""
    held: dict[int, int | None] = {}
    for question in (nvml.nvmlDeviceGetComputeRunningProcesses, nvml.nvmlDeviceGetGraphicsRunningProcesses):
        for process in ask(nvml, question, device) or ():
            known = held.get(process.pid)
            told = process.usedGpuMemory
            held[process.pid] = max(known or 0, told or 0) if known is not None or told is not None else None
    found = (GpuProcess(pid, memory) for pid, memory in held.items())
    return tuple(sorted(found, key=lambda process: (-(process.memory or 0), process.pid)))


def _gpus(nvml: Any) -> Found:
    driver = _text(ask(nvml, nvml.nvmlSystemGetDriverVersion))
    version = ask(nvml, nvml.nvmlSystemGetCudaDriverVersion)
    runtime = f"CUDA {version // 1000}.{version % 1000 // 10}" if version else None
    gpus: list[GpuFacts] = []
    problems = []
    for number in range(nvml.nvmlDeviceGetCount()):
        try:
            nvml.nvmlDeviceGetHandleByIndex(number)
        except nvml.NVMLError as error:
            # A card that fell off the bus or belongs to somebody else; the others are still good.
            problems.append(f"NVIDIA GPU {number} cannot be used: {error}.")
    for device, card in handles(nvml):
        gpus.append(_gpu(nvml, device, card, len(gpus), driver, runtime))
    for number in range(nvml.nvmlDeviceGetCount()):
        card = ask(nvml, nvml.nvmlDeviceGetHandleByIndex, number)
        if card is not None and _is_divided(nvml, card) and not _instances(nvml, card):
            name = _text(ask(nvml, nvml.nvmlDeviceGetName, card)) or f"NVIDIA GPU {number}"
            problems.append(f"{name} is set to be divided (MIG) and has no instance, so no program can use it.")
    return tuple(gpus), tuple(problems)


def _gpu(nvml: Any, device: Any, card: Any, index: int, driver: str | None, runtime: str | None) -> GpuFacts:
    """What an instance of a card does not tell by itself, the card does, where it is true of both."""
    whole = device is card
    memory = ask(nvml, nvml.nvmlDeviceGetMemoryInfo, device)
    capability = ask(nvml, nvml.nvmlDeviceGetCudaComputeCapability, card)
    use = ask(nvml, nvml.nvmlDeviceGetUtilizationRates, device) if whole else None
    temperature = ask(nvml, nvml.nvmlDeviceGetTemperature, card, nvml.NVML_TEMPERATURE_GPU)
    milliwatts = ask(nvml, nvml.nvmlDeviceGetPowerUsage, device) if whole else None
    place = ask(nvml, nvml.nvmlDeviceGetPciInfo, card)
    return GpuFacts(
        vendor="nvidia",
        index=index,
        name=_text(ask(nvml, nvml.nvmlDeviceGetName, device)) or "NVIDIA GPU",
        memory_total=memory.total if memory else None,
        memory_free=memory.free if memory else None,
        driver=driver,
        compute_capability=f"{capability[0]}.{capability[1]}" if capability else None,
        utilisation=float(use.gpu) if use else None,
        temperature=float(temperature) if temperature is not None else None,
        power=milliwatts / 1000 if milliwatts is not None else None,
        integrated=False if memory else None,  # those that share the machine's memory have none to tell
        runtime=runtime,
        uuid=_text(ask(nvml, nvml.nvmlDeviceGetUUID, device)),
        bus=pci.slot(_text(place.busId)) if place else None,
        part_of=None if whole else _text(ask(nvml, nvml.nvmlDeviceGetUUID, card)),
        processes=processes(nvml, device),
    )


def _is_divided(nvml: Any, card: Any) -> bool:
    mode = ask(nvml, nvml.nvmlDeviceGetMigMode, card)
    return bool(mode and mode[0])


def _instances(nvml: Any, card: Any) -> list[Any]:
    most = ask(nvml, nvml.nvmlDeviceGetMaxMigDeviceCount, card) or 0
    found = (ask(nvml, nvml.nvmlDeviceGetMigDeviceHandleByIndex, card, place) for place in range(most))
    return [instance for instance in found if instance is not None]


def _without_driver(host: Host) -> tuple[str, ...]:
    """A sentence for each card that is there without NVIDIA's driver, and for a GPU that WSL passes in without it."""
    found = []
    for card in pci.cards(host.root, pci.NVIDIA):
        name = pci.device_name(host.root, card)
        called = f"An NVIDIA card ({name})" if name else "An NVIDIA card"
        instead = f"; {card.driver} has it, with which no engine can compute" if card.driver else ""
        found.append(
            f"{called} is in slot {card.slot}, and NVIDIA's driver is not installed or not loaded{instead}. "
            "Install it to use the card."
        )
    if not found and (host.root / WSL_DEVICE).exists():
        found.append(
            "Windows passes a GPU into WSL, and it is none that NVIDIA's driver for WSL shows; "
            "update the driver in Windows if it is an NVIDIA card."
        )
    return tuple(found)


def _text(value: Any) -> str | None:
    return value.decode() if isinstance(value, bytes) else value
