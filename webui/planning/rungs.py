"""The single steps of the ladder: from an attempt that failed to what it could be tried with instead.

Each yields (parameters to change, why this in one clause), the mildest first. Whether a step may be taken, because it
was tried already or would need more, is decided in `recovery`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from webui.errors import DeviceOutOfMemory, IncompatibleDriver
from webui.loaders.contract import LoaderSpec
from webui.models.facts import ModelFacts
from webui.planning.layers import gpu_layers_of, layers_of, uses_gpu
from webui.planning.memory import CONTEXT_STEP, context_of, layers_that_fit
from webui.planning.steps import Situation, StepKind
from webui.planning.words import cache_name, features, listed, size

SMALLEST_CONTEXT = 2048
SMALL_BATCH = 128
SMALL_CACHE = "q8_0"
CACHE_BLOCK = 32
"""Elements that a quantised cache stores together; a head's width must be a multiple."""
SHARES_OF_LAYERS = (0.75, 0.5, 0.25)

MEMORY_PARAMETERS = frozenset({"batch_size", "cache_type_k", "cache_type_v", "context_size", "micro_batch_size"})
"""What steps make smaller, to save memory of whatever kind."""

Step = tuple[dict[str, Any], str]
Values = Mapping[str, Any]
Variants = Callable[[Situation, LoaderSpec, Values], Iterator[Step]]


def safer_flags(situation: Situation, spec: LoaderSpec, now: Values) -> Iterator[Step]:
    """The loader's safe steps, each on top of those before it."""
    together: dict[str, Any] = {}
    for step in spec.safe_steps:
        together |= step
        changes = {name: value for name, value in together.items() if now.get(name) != value}
        if changes.get("flash_attention") == "off" and now.get("cache_type_v", "f16") not in ("f16", "f32", "bf16"):
            changes["cache_type_v"] = "f16"  # only flash attention reads a quantised value cache
        if changes:
            yield changes, f"without {listed(features(spec, changes))}"


def safer_once(situation: Situation, spec: LoaderSpec, now: Values) -> Iterator[Step]:
    """The likeliest cure, and fewer threads where their number was chosen by hand; not a second time."""
    if any(one.attempt.kind is StepKind.SAFER_FLAGS for one in situation.tried if one.attempt.loader == spec.name):
        return
    changes, _how = next(safer_flags(situation, spec, now), ({}, ""))
    threads = int(now.get("threads") or 0)
    if threads > 1:
        changes = {**changes, "threads": threads // 2}
    if changes:
        yield changes, f"without {listed(features(spec, changes))}"


def leaner_flags(situation: Situation, spec: LoaderSpec, now: Values) -> Iterator[Step]:
    """Less memory for less speed: the file stays on disk and is mapped; prompts are read in smaller batches."""
    mapped = {"use_mmap": True, "use_mlock": False, "cpu_repacking": "off"}
    changes = {name: value for name, value in mapped.items() if name in now and now[name] != value}
    if changes and "use_mmap" in now:
        yield changes, "with the weights left in the file, which the system may drop from memory"
    if now.get("shared_cache") is False:
        yield {"shared_cache": True}, "with one KV cache for all jobs"


def smaller_batch(situation: Situation, spec: LoaderSpec, now: Values) -> Iterator[Step]:
    names = [name for name in ("batch_size", "micro_batch_size") if now.get(name, 0) > SMALL_BATCH]
    if names:
        yield dict.fromkeys(names, SMALL_BATCH), f"reading prompts {SMALL_BATCH} tokens at a time"


def fewer_layers(situation: Situation, spec: LoaderSpec, now: Values) -> Iterator[Step]:
    """As many layers as the estimate says fit; then three quarters, half and a quarter of them all."""
    facts, free = situation.facts, situation.device_available
    current = gpu_layers_of(facts, now)
    if not current or not uses_gpu(spec, now):
        return
    most = layers_of(facts)
    if free is not None:
        fitting = layers_that_fit(facts, spec, now, free)
        if 0 < fitting < current:
            yield {"gpu_layers": fitting}, f"with {fitting} layers, which should fit in the {size(free)} that are free"
    for share in SHARES_OF_LAYERS:
        layers = int(most * share)
        if 0 < layers < current:
            yield {"gpu_layers": layers}, f"with {layers} of its {most} layers on the GPU"


def smaller_cache(situation: Situation, spec: LoaderSpec, now: Values) -> Iterator[Step]:
    """An 8-bit KV cache where the engine has one and the model's heads fit its blocks."""
    names = ["cache_type_k"] if fits_blocks(situation.facts.key_length, situation.facts) else []
    if now.get("flash_attention") != "off" and fits_blocks(situation.facts.value_length, situation.facts):
        names.append("cache_type_v")
    names = [name for name in names if now.get(name) in ("f32", "f16", "bf16")]
    if names:
        yield dict.fromkeys(names, SMALL_CACHE), f"with an {cache_name(SMALL_CACHE)} KV cache"


def fits_blocks(width: int | None, facts: ModelFacts) -> bool:
    if width is None and facts.embedding_length and facts.head_count:
        width = facts.embedding_length // facts.head_count
    return width is None or width % CACHE_BLOCK == 0


def smaller_context(situation: Situation, spec: LoaderSpec, now: Values) -> Iterator[Step]:
    """Half of it, again and again; never below what is of use, or what was asked for if that is smaller."""
    context = context_of(situation.facts, now)
    asked = context_of(situation.facts, situation.asked[spec.name])
    if context is None or asked is None:
        return
    least = min(SMALLEST_CONTEXT, asked)
    while context > least:
        context = max(least, context // 2 // CONTEXT_STEP * CONTEXT_STEP)
        yield {"context_size": context}, f"with a context of {context:,} tokens"


def cpu_only(situation: Situation, spec: LoaderSpec, now: Values) -> Iterator[Step]:
    """What was made smaller for the GPU is as asked again; where the machine's own memory is short, it is not."""
    seen = any(isinstance(one.error, DeviceOutOfMemory | IncompatibleDriver) for one in situation.tried)
    if (situation.device_available == 0 and not seen) or not uses_gpu(spec, now):
        return
    asked = situation.asked[spec.name]
    yield {name: asked[name] for name in MEMORY_PARAMETERS & now.keys()} | dict(spec.cpu_parameters), "on the CPU"
    yield dict(spec.cpu_parameters), "on the CPU"


@dataclass(frozen=True, slots=True)
class Rung:
    """A kind of step and how its variants are found."""

    kind: StepKind
    variants: Variants


SAFER = Rung(StepKind.SAFER_FLAGS, safer_flags)
SAFER_ONCE = Rung(StepKind.SAFER_FLAGS, safer_once)
MAPPED = Rung(StepKind.LEANER_FLAGS, leaner_flags)
SMALLER_BATCH = Rung(StepKind.LEANER_FLAGS, smaller_batch)
FEWER_LAYERS = Rung(StepKind.FEWER_LAYERS, fewer_layers)
SMALLER_CACHE = Rung(StepKind.SMALLER_CACHE, smaller_cache)
SMALLER_CONTEXT = Rung(StepKind.SMALLER_CONTEXT, smaller_context)
CPU = Rung(StepKind.CPU, cpu_only)
