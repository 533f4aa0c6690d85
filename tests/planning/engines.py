"""Sets of engines as people have them, for tests of the recommendation."""

from __future__ import annotations

from collections.abc import Sequence

from webui.hardware.facts import HardwareFacts
from webui.loaders.devices import Ability, EngineDevice
from webui.planning.support import support


def as_set_up(hardware: HardwareFacts) -> tuple[Ability, ...]:
    """What the first start installs, on any machine but a Mac engines for the processor, and no program."""
    metal = tuple(
        EngineDevice("metal", "MTL0", gpu.name, gpu.memory_total, gpu.memory_free)
        for gpu in hardware.gpus
        if gpu.vendor == "apple"
    )
    return (
        Ability("ctransformers", reason="the CUDA 12 libraries that its GPU build needs are not installed"),
        Ability("transformers", reason="torch is not installed", installed=False),
        Ability("llamafile", reason="There is no llamafile and no llama-server executable here", installed=False),
        Ability("xllamacpp", metal, "" if metal else "this build sees no GPU"),
        Ability("llama-cpp-python", reason="llama-cpp-python is not installed", installed=False),
    )


def well_equipped(hardware: HardwareFacts) -> tuple[Ability, ...]:
    """llama-cpp-python compiled for the machine's GPUs, and torch with the vendor's build."""
    return tuple(
        _compiled(hardware) if ability.loader == "llama-cpp-python" else ability for ability in as_set_up(hardware)
    )


def _compiled(hardware: HardwareFacts) -> Ability:
    judged = [support(gpu) for gpu in hardware.gpus]
    kinds: Sequence[str] = [one.kinds[0] for one in judged if one.kinds]
    devices = tuple(
        EngineDevice(one.kinds[0], f"{one.kinds[0]}{index}", one.gpu.name, one.gpu.memory_total, one.gpu.memory_free)
        for index, one in enumerate(judged)
        if one.kinds and one.kinds[0] == kinds[0]
    )
    return Ability("llama-cpp-python", devices, "" if devices else "it was compiled for the processor only")
