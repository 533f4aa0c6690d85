"""What to install so that a GPU is used: offers with a command each, the easiest first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from webui.hardware.facts import CpuFacts
from webui.loaders.devices import Ability
from webui.planning.support import Support, cannot_run

BUILD_NEEDS = {
    "cuda": "NVIDIA's CUDA toolkit (nvcc)",
    "rocm": "ROCm's development packages",
    "vulkan": "the Vulkan headers and glslc",
    "metal": "Xcode's command line tools",
}
TITLES = {"cuda": "CUDA", "rocm": "ROCm", "vulkan": "Vulkan", "metal": "Metal", "mps": "Metal", "xpu": "XPU"}
SETUP = "python3 app.py setup"


@dataclass(frozen=True, slots=True)
class Offer:
    """One way to get an engine that uses the GPU. `loader` is the backend it concerns; `command` may be empty."""

    loader: str
    kind: str
    sentence: str
    command: str


def offers_for(chosen: Sequence[Support], kind: str, abilities: Sequence[Ability]) -> tuple[Offer, ...]:
    """For the GPUs in `chosen`, best used by builds of `kind`. Loaders that use the GPU already are left out."""
    known = {ability.loader: ability for ability in abilities}
    kinds = list(dict.fromkeys(name for one in chosen for name in one.kinds))
    found = []
    program = known.get("llamafile")
    if kind != "metal" and program is not None and not program.devices:
        found.append(
            Offer(
                "llamafile",
                kind,
                f"llamafile: put a llama-server built for {TITLES[kind]}, or a llamafile, into the app's bin folder; "
                "nothing is compiled.",
                "",
            )
        )
    if "xllamacpp" in known and kind == "metal" and not known["xllamacpp"].installed:
        found.append(Offer("xllamacpp", kind, "xllamacpp's package uses Metal as it is.", f"{SETUP} xllamacpp"))
    old = known.get("ctransformers")
    if kind == "cuda" and old is not None and not old.devices:
        sentence = (
            "ctransformers: its CUDA libraries come as packages, without a toolkit; for llama files of 2023 only."
        )
        found.append(Offer("ctransformers", kind, sentence, f"{SETUP} ctransformers"))
    compiled = known.get("llama-cpp-python")
    build = next((name for name in kinds if name in BUILD_NEEDS), None)
    if build is not None and compiled is not None and not compiled.devices:
        sentence = (
            f"llama-cpp-python for {TITLES[build]}: ready where an index of such builds is set, else compiled, which "
            f"needs {BUILD_NEEDS[build]} and takes minutes."
        )
        found.append(Offer("llama-cpp-python", build, sentence, f"{SETUP} llama-cpp-python"))
    return tuple(found)


def offers_for_processor(cpu: CpuFacts, abilities: Sequence[Ability]) -> tuple[Offer, ...]:
    """Where a ready-made engine cannot run on the processor, the one that is compiled for it."""
    stopped = any(ability.installed and cannot_run(ability.loader, cpu) for ability in abilities)
    compiled = next((ability for ability in abilities if ability.loader == "llama-cpp-python"), None)
    if not stopped or compiled is None or compiled.installed:
        return ()
    sentence = "llama-cpp-python: compiled on this machine, it uses what this processor has."
    return (Offer("llama-cpp-python", "cpu", sentence, f"{SETUP} llama-cpp-python"),)
