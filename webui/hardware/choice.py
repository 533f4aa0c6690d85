"""Which of the machine's GPUs models may use, and the environment that keeps an engine's process to them. Pure.

A GPU is named by its uuid, by its place on the bus (`0000:01:00.0`, or without the zeros before), by its vendor and the
number that the Hardware tab gives it (`nvidia:0`), or by its number among all GPUs alone (`0`).
"""

from __future__ import annotations

import platform
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from webui.hardware.facts import GpuFacts

NO_DEVICE = "-1"
"""A number that no device has: drivers take it for none, and an empty variable on Windows for one that is not set."""
LOW_DOMAIN = "0000:"


@dataclass(frozen=True, slots=True)
class GpuChoice:
    """`gpus` may be used, in this order, and `left_out` not. `split` gives each of `gpus` its share of a model.

    `unknown` are names that fit none of the GPUs here.
    """

    gpus: tuple[GpuFacts, ...]
    left_out: tuple[GpuFacts, ...] = ()
    split: tuple[float, ...] = ()
    unknown: tuple[str, ...] = ()

    @property
    def key(self) -> str:
        """The same for the same choice; empty where every GPU may be used."""
        return " ".join(name_of(gpu) for gpu in self.gpus) or "cpu" if self.left_out else ""


def choose(
    gpus: Sequence[GpuFacts], names: Iterable[str] = (), *, processor: bool = False, split: Sequence[float] = ()
) -> GpuChoice:
    """Of `gpus` those that are named; without a name all, with `processor` none. A split of another length is none."""
    found: list[GpuFacts] = []
    unknown = []
    wanted = list(names)
    for name in wanted:
        gpu = _named(gpus, name)
        if gpu is None:
            unknown.append(name)
        elif gpu not in found:
            found.append(gpu)
    if processor or not wanted:
        found = [] if processor else list(gpus)
    shares = tuple(split) if len(split) == len(found) else ()
    return GpuChoice(tuple(found), tuple(gpu for gpu in gpus if gpu not in found), shares, tuple(unknown))


def name_of(gpu: GpuFacts) -> str:
    """The name of a GPU that stays the longest: cards are added, taken out and put into another slot."""
    return gpu.uuid or gpu.bus or f"{gpu.vendor}:{gpu.index}"


def environment(choice: GpuChoice, system: str | None = None) -> dict[str, str]:
    """Variables for an engine's process. Nothing is set for vendors whose GPUs may all be used, except that NVIDIA's
    are counted as the Hardware tab counts them.

    Vulkan counts the GPUs of all vendors together, on Linux in an order that its loader defines: cards before GPUs in
    processors, each by their place on the bus. Elsewhere the order is not known, and only "none" can be said.
    """
    variables: dict[str, str] = {}
    everything = (*choice.gpus, *choice.left_out)
    vendors = {gpu.vendor for gpu in choice.left_out}
    if sum(gpu.vendor == "nvidia" for gpu in everything) > 1 or "nvidia" in vendors:
        variables["CUDA_DEVICE_ORDER"] = "PCI_BUS_ID"
    if "nvidia" in vendors:
        chosen = [gpu.uuid or str(gpu.index) for gpu in choice.gpus if gpu.vendor == "nvidia"]
        variables["CUDA_VISIBLE_DEVICES"] = ",".join(chosen) or NO_DEVICE
    if "amd" in vendors:
        counted = [gpu for gpu in _by_index(everything, "amd") if gpu.compute_capability] or _by_index(
            everything, "amd"
        )
        chosen = [str(counted.index(gpu)) for gpu in choice.gpus if gpu in counted]
        variables["HIP_VISIBLE_DEVICES"] = ",".join(chosen) or NO_DEVICE
    if "intel" in vendors:
        chosen = [str(gpu.index) for gpu in choice.gpus if gpu.vendor == "intel"]
        variables["ONEAPI_DEVICE_SELECTOR"] = f"level_zero:{','.join(chosen)}" if chosen else "*:cpu"
    if vendors - {"apple"}:
        variables |= _vulkan(choice, everything, platform.system() if system is None else system)
    return variables


def _vulkan(choice: GpuChoice, everything: Sequence[GpuFacts], system: str) -> dict[str, str]:
    if not choice.gpus:
        none = {"VK_LOADER_DRIVERS_DISABLE": "*"}
        return none if system == "Windows" else {**none, "GGML_VK_VISIBLE_DEVICES": ""}
    reached = sorted((gpu for gpu in everything if gpu.vulkan is not False), key=_vulkan_order)
    chosen = [str(reached.index(gpu)) for gpu in choice.gpus if gpu in reached]
    known = system == "Linux" and all(gpu.bus and gpu.integrated is not None for gpu in reached)
    return {"GGML_VK_VISIBLE_DEVICES": ",".join(chosen)} if known and reached else {}


def _vulkan_order(gpu: GpuFacts) -> tuple[bool, str]:
    return bool(gpu.integrated), gpu.bus or ""


def _by_index(gpus: Iterable[GpuFacts], vendor: str) -> list[GpuFacts]:
    return sorted((gpu for gpu in gpus if gpu.vendor == vendor), key=lambda gpu: gpu.index)


def _named(gpus: Sequence[GpuFacts], name: str) -> GpuFacts | None:
    wanted = name.strip().casefold()
    for number, gpu in enumerate(gpus):
        bus = (gpu.bus or "").casefold()
        names = [gpu.uuid, bus, bus.removeprefix(LOW_DOMAIN), f"{gpu.vendor}:{gpu.index}", str(number)]
        if wanted in [one.casefold() for one in names if one]:
            return gpu
    return None
