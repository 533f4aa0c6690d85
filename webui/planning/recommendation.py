"""What an expert would advise for this machine: the device, the order of loaders, sizes of models, settings, and what
to install, each with its reason.

Pure: the machine's facts and what the engines said of themselves in, sentences out. It decides nothing: the choice for
a file is `webui.planning.selection`'s, with the user's order; this is what is shown and offered.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from webui.hardware.facts import CpuFacts, GpuFacts, HardwareFacts
from webui.loaders.devices import Ability
from webui.planning.advice import hints_for, size_words, warnings_for
from webui.planning.memory import device_room
from webui.planning.offers import Offer, offers_for, offers_for_processor
from webui.planning.sizes import LARGE_SHARE, MIDDLE_SHARE, SYSTEM_BYTES, Fit, fits, largest
from webui.planning.support import Support, cannot_run, support

ENGINES = ("xllamacpp", "llama-cpp-python", "llamafile", "transformers", "ctransformers")
"""Among equals: llama.cpp of today with several replies at once, then one at a time; engines that convert a file; and
the one that knows only files of 2023."""
WHY = {
    "xllamacpp": "today's llama.cpp, opens nearly every GGUF file, several replies at once",
    "llama-cpp-python": "today's llama.cpp compiled on this machine, opens nearly every GGUF file",
    "llamafile": "runs the llama.cpp program you gave it",
    "transformers": "for model directories; a GGUF file is converted, which takes several times its memory",
    "ctransformers": "for files of 2023 and before, which it opens as they are",
}
NATIVE = ("cuda", "rocm", "metal", "vulkan", "xpu", "mps")
NAMES = {
    "cuda": "CUDA",
    "rocm": "ROCm",
    "metal": "Metal",
    "mps": "Metal (MPS)",
    "vulkan": "Vulkan",
    "xpu": "XPU",
    "cpu": "CPU",
}


@dataclass(frozen=True, slots=True)
class Place:
    """One loader in the recommended order, with what it would compute on and why it stands there."""

    loader: str
    kind: str
    reason: str


@dataclass(frozen=True, slots=True)
class Recommendation:
    """`kind` is that of the build to use ("cpu" where no GPU helps), `gpus` those it would use, `used` whether an
    engine that is here does. Everything else is sentences for people.
    """

    kind: str
    gpus: tuple[GpuFacts, ...]
    used: bool
    device: str
    order: tuple[Place, ...]
    layers: str
    sizes: tuple[Fit, ...]
    guidance: str
    hints: tuple[str, ...]
    offers: tuple[Offer, ...]
    warnings: tuple[str, ...]

    def lines(self) -> list[tuple[str, str]]:
        """All of it as pairs of a heading and a sentence, for a terminal or a report."""
        pairs = [("Device", self.device)]
        pairs += [("Loader", f"{place.loader} on {NAMES[place.kind]}: {place.reason}.") for place in self.order]
        pairs += [("GPU layers", self.layers)] if self.layers else []
        pairs += [("Models", self.guidance)]
        pairs += [("Hint", hint) for hint in self.hints]
        pairs += [("Install", f"{offer.sentence} {offer.command}".strip()) for offer in self.offers]
        pairs += [("Warning", warning) for warning in self.warnings]
        return pairs


def recommend(hardware: HardwareFacts, abilities: Sequence[Ability], own: Collection[int] = ()) -> Recommendation:
    """The advice for `hardware` with these engines. What the processes `own` hold of a GPU counts as free."""
    judged = [support(gpu) for gpu in hardware.gpus]
    chosen, kind, note = device_for(judged)
    installed = [ability for ability in abilities if ability.installed]
    order = tuple(_order(installed, chosen, hardware.cpu))
    used = kind == "cpu" or any(place.kind != "cpu" for place in order)
    gpus = tuple(one.gpu for one in chosen)
    room, host = _room(gpus, own), max(0, hardware.memory.available - SYSTEM_BYTES)
    shared = bool(gpus) and all(gpu.integrated for gpu in gpus)
    sizes = fits(room, host, shared=shared)
    return Recommendation(
        kind=kind,
        gpus=gpus,
        used=used,
        device=_device_words(judged, chosen, kind, note, used),
        order=order,
        layers=_layers_words(gpus, shared),
        sizes=sizes,
        guidance=_guidance(sizes, hardware, shared),
        hints=tuple(hints_for(hardware, gpus, kind, [place.loader for place in order], own)),
        offers=_offers(hardware, chosen, kind, abilities, order),
        warnings=tuple(warnings_for(hardware, judged, installed)),
    )


def device_for(judged: Sequence[Support]) -> tuple[list[Support], str, str]:
    """The GPUs to use together and the kind of build for them: the kind that reaches the most memory of its own, the
    vendor's own kind before Vulkan. Of divided cards one part, since a program sees but one.
    """
    usable = [one for one in judged if one.kinds]
    discrete = [one for one in usable if not one.gpu.integrated] or usable
    if not discrete:
        return [], "cpu", next((one.note for one in judged), "")
    kinds = dict.fromkeys(one.kinds[0] for one in discrete)
    kind = max(kinds, key=lambda name: (_memory(discrete, name), -NATIVE.index(name)))
    native = [name for name in kinds if name in ("cuda", "rocm")]
    if kind == "vulkan" and native:
        kind = max(native, key=lambda name: _memory(discrete, name))
    chosen = [one for one in discrete if one.kinds[0] == kind]
    parts = [one for one in chosen if one.gpu.part_of]
    if parts:
        chosen = [max(parts, key=lambda one: one.gpu.memory_free or 0)]
    return chosen, kind, chosen[0].note


def _memory(judged: Iterable[Support], kind: str) -> int:
    return sum(one.gpu.memory_total or 0 for one in judged if one.kinds[0] == kind)


def _device_words(judged: Sequence[Support], chosen: Sequence[Support], kind: str, note: str, used: bool) -> str:
    if kind == "cpu":
        return f"The processor: {judged[0].gpu.name} is left aside, {note}." if judged else "The processor."
    names = " + ".join(one.gpu.name for one in chosen)
    missing = "" if used else " No engine that is installed can use it yet: see what to install."
    return f"{names} with {NAMES[kind]}: {note}.{missing}"


def _order(installed: Sequence[Ability], chosen: Sequence[Support], cpu: CpuFacts) -> Iterable[Place]:
    """Engines that see the GPU first, then the others, each group in the order above; those that cannot run last."""
    wanted = [name for name in NATIVE if any(name in one.kinds for one in chosen)]
    found = []
    for ability in installed:
        seen = [name for name in wanted if name in ability.kinds]
        best = seen[0] if seen else "cpu"
        place = ENGINES.index(ability.loader) if ability.loader in ENGINES else len(ENGINES)
        found.append((cannot_run(ability.loader, cpu), best == "cpu", place, ability, best))
    for stopped, _, _, ability, best in sorted(found, key=lambda one: one[:3]):
        yield Place(
            ability.loader, best, "it needs AVX2, which is not here" if stopped else _why(ability, best, wanted)
        )


def _why(ability: Ability, best: str, wanted: Sequence[str]) -> str:
    reason = WHY.get(ability.loader, "from an extension")
    if not wanted:
        return reason
    if ability.loader == "ctransformers" and "cuda" not in wanted:
        return f"its GPU build needs CUDA 12; {reason}"
    if best != "cpu":
        return f"sees {ability.devices[0].description}; {reason}"
    if not ability.told:
        return f"whether it uses the GPU is not known ({ability.reason}); {reason}"
    return f"does not use the GPU: {ability.reason or 'its build is for another kind'}; {reason}"


def _offers(
    hardware: HardwareFacts,
    chosen: Sequence[Support],
    kind: str,
    abilities: Sequence[Ability],
    order: Sequence[Place],
) -> tuple[Offer, ...]:
    if kind != "cpu" and not _well_used(order):
        return offers_for(chosen, kind, abilities)
    return offers_for_processor(hardware.cpu, abilities)


def _well_used(order: Sequence[Place]) -> bool:
    """Whether one of the engines for today's GGUF files uses the GPU; that one of the others does is not enough."""
    return any(place.kind != "cpu" and place.loader in ENGINES[:3] for place in order)


def _room(gpus: Sequence[GpuFacts], own: Collection[int]) -> int:
    """What models may take of the GPUs; where a driver does not tell what is free, of nine tenths of the whole."""
    room = 0
    for gpu in gpus:
        total = gpu.memory_total or 0
        free = gpu.memory_free if gpu.memory_free is not None else int(total * 0.9)
        room += device_room(min(total, free + (gpu.held_by(own) or 0)))
    return room


def _layers_words(gpus: Sequence[GpuFacts], shared: bool) -> str:
    total = sum(gpu.memory_total or 0 for gpu in gpus)
    if not gpus or not total:
        return ""
    if shared:
        return f"All layers: the GPU uses the machine's own memory, up to {size_words(total)} of it."
    return (
        "To begin with: all layers of files under 4 GiB; of 4 to 8 GiB as many as fit in "
        f"{size_words(int(total * MIDDLE_SHARE))} (75 %), of larger ones in {size_words(int(total * LARGE_SHARE))} "
        "(50 %). The plan for a file replaces this."
    )


def _guidance(sizes: tuple[Fit, ...], hardware: HardwareFacts, shared: bool) -> str:
    parts = []
    on_gpu, split, on_cpu = largest(sizes, "gpu", "Q4_K_M"), largest(sizes, "gpu and cpu"), largest(sizes, "cpu")
    if on_gpu is not None:
        whole = "on the GPU" if shared else "wholly on the GPU"
        parts.append(f"up to about {on_gpu.billions} B parameters at {on_gpu.quantization} {whole}")
    if split is not None:
        slower = "with a part on the processor, several times slower"
        parts.append(f"up to {split.billions} B at {split.quantization} {slower}")
    if on_cpu is not None and parts:
        parts.append(f"{on_cpu.billions} B at {on_cpu.quantization} still fits on the processor")
    elif on_cpu is not None:
        comfortable = min(on_cpu.billions, _comfortable(hardware.cpu.usable_cores))
        parts.append(f"up to about {on_cpu.billions} B parameters at {on_cpu.quantization} fit")
        if comfortable < on_cpu.billions:
            parts.append(f"up to {comfortable} B is quick enough to talk with on {hardware.cpu.usable_cores} cores")
    if not parts:
        return f"Only models under 1 B parameters fit: {size_words(hardware.memory.available)} of memory are free."
    sentence = "; ".join(parts)
    return f"{sentence[0].upper()}{sentence[1:]}."


def _comfortable(cores: int) -> int:
    """Billions of parameters at four bits that so many cores of a processor read at about talking speed."""
    return 1 if cores <= 2 else 3 if cores <= 4 else 8 if cores <= 16 else 14
