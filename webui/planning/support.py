"""By which kind of engine build each GPU can be used, and what stands in the way: the knowledge of drivers and cards.

Pure: facts in, sentences out. What an engine that is installed can really use is told by the engine
(`webui.loaders.devices`); here is what could be used with the right one.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from webui.hardware.facts import GIB, CpuFacts, GpuFacts

CUDA_NEEDED = (12, 0)
CUDA_DRIVER = "525"
"""The CUDA builds of the engines here are for CUDA 12, which drivers from this version on offer."""
CAPABILITY_NEEDED = (5, 0)
CAPABILITY_OF_CUDA_13 = (7, 5)
ROCM_ARCHITECTURES = frozenset(
    (
        "gfx908",
        "gfx90a",
        "gfx942",
        "gfx950",
        "gfx1030",
        "gfx1100",
        "gfx1101",
        "gfx1102",
        "gfx1151",
        "gfx1200",
        "gfx1201",
    )
)
"""What AMD's ROCm and the engines' builds for it cover."""
SLOW_INTEGRATED = ("gfx902", "gfx909", "gfx90c")
AVX2_PACKAGES = ("xllamacpp",)
LEAST_MEMORY = 2 * GIB
"""A card with less holds little more than the cache and the buffers."""


@dataclass(frozen=True, slots=True)
class Support:
    """`kinds` are the builds that can use the GPU, the best first; none where the processor does better.

    `warnings` say in a sentence each what is not supported and what would help; `note` why the first kind is the best.
    """

    gpu: GpuFacts
    kinds: tuple[str, ...]
    note: str
    warnings: tuple[str, ...] = ()


def support(gpu: GpuFacts) -> Support:
    """What can be done with one GPU."""
    judge = {"nvidia": _nvidia, "amd": _amd, "intel": _intel, "apple": _apple}.get(gpu.vendor)
    found = judge(gpu) if judge is not None else Support(gpu, (), "its vendor is not known here")
    total = gpu.memory_total
    if found.kinds and not gpu.integrated and total is not None and total < LEAST_MEMORY:
        sentence = f"{gpu.name} has {total / GIB:.1f} GiB of memory, too little to be worth its use."
        return Support(gpu, (), "too little memory", (*found.warnings, sentence))
    return found


def _nvidia(gpu: GpuFacts) -> Support:
    capability, offered = numbers(gpu.compute_capability), numbers(gpu.runtime)
    other = ("vulkan",) if gpu.vulkan else ()
    if capability and capability < CAPABILITY_NEEDED:
        sentence = (
            f"{gpu.name} has compute capability {gpu.compute_capability}; builds for CUDA 12 need "
            f"{'.'.join(map(str, CAPABILITY_NEEDED))} or more, and no newer driver changes that."
        )
        return Support(gpu, other, "Vulkan is all that still reaches this card", (sentence,))
    if offered and offered < CUDA_NEEDED:
        meanwhile = "; until then a Vulkan build can use it" if other else ""
        sentence = (
            f"The driver {gpu.driver} offers {gpu.runtime} and builds here need CUDA 12: "
            f"update it to {CUDA_DRIVER} or newer{meanwhile}."
        )
        return Support(gpu, other, "the driver is too old for CUDA 12", (sentence,))
    if capability and capability < CAPABILITY_OF_CUDA_13:
        return Support(
            gpu,
            ("cuda", *other),
            f"CUDA is the fastest on NVIDIA cards; this generation ({gpu.compute_capability}) needs a build for "
            "CUDA 12, since CUDA 13 leaves it out",
        )
    return Support(gpu, ("cuda", *other), "CUDA is the fastest on NVIDIA cards")


def _amd(gpu: GpuFacts) -> Support:
    other = ("vulkan",) if gpu.vulkan is not False else ()
    if gpu.driver is None:
        return Support(gpu, (), "it has no driver")
    if gpu.compute_capability in SLOW_INTEGRATED:
        return Support(gpu, (), "this generation of graphics in a processor is no faster than the processor itself")
    if gpu.compute_capability in ROCM_ARCHITECTURES and gpu.runtime:
        return Support(gpu, ("rocm", *other), f"{gpu.runtime} supports {gpu.compute_capability}")
    warnings: tuple[str, ...] = ()
    if gpu.compute_capability and gpu.compute_capability not in ROCM_ARCHITECTURES:
        instead = "a Vulkan build can use it" if other else "install Mesa's Vulkan driver and use a Vulkan build"
        warnings = (f"ROCm does not support {gpu.name} ({gpu.compute_capability}); {instead}.",)
    elif not other:
        warnings = (f"{gpu.name} has neither ROCm nor a Vulkan driver; installing Mesa's Vulkan driver is the easier.",)
    return Support(gpu, other, "Vulkan reaches every AMD GPU of the last ten years without ROCm", warnings)


def _intel(gpu: GpuFacts) -> Support:
    if gpu.integrated:
        return Support(gpu, (), "it shares the memory's speed with the processor, which is as fast by itself")
    if gpu.driver is None:
        return Support(gpu, (), "it has no driver")
    kinds = (("vulkan",) if gpu.vulkan is not False else ()) + (("xpu",) if gpu.runtime else ())
    sentence = f"{gpu.name} has no Vulkan driver here; install Mesa's (mesa-vulkan-drivers)."
    return Support(gpu, kinds, "Vulkan builds use Intel's cards", () if kinds[:1] == ("vulkan",) else (sentence,))


def _apple(gpu: GpuFacts) -> Support:
    return Support(gpu, ("metal", "mps"), "Metal shares the memory with the processor, so nothing is copied")


def cannot_run(loader: str, cpu: CpuFacts) -> bool:
    """Whether the loader's ready-made package would end at once: those for x86 processors are made for AVX2."""
    x86 = cpu.architecture in ("x86_64", "AMD64") and bool(cpu.instruction_sets)
    return x86 and loader in AVX2_PACKAGES and "avx2" not in cpu.instruction_sets


def numbers(text: str | None) -> tuple[int, int] | None:
    """The version in `8.9` or `CUDA 12.4`."""
    found = re.search(r"(\d+)\.(\d+)", text or "")
    return (int(found[1]), int(found[2])) if found else None
