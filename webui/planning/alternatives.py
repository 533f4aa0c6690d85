"""What else would fit, or fit better: the smallest changes first. Pure, over `webui.planning.planner`."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from webui.loaders.llama_log import EnginePlan
from webui.planning.layers import gpu_layers_of, layers_of
from webui.planning.memory import CONTEXT_STEP, context_of
from webui.planning.plan import Alternative, MemoryPlan
from webui.planning.planner import Question, fits, outline
from webui.planning.sizes import BITS_PER_WEIGHT
from webui.planning.words import size

LONGEST_CONTEXT = 1 << 20
LEAST_CONTEXT = 2048
Offer = tuple[str, dict[str, Any]]
"""Words, and what to set for it."""

SMALL_CACHE = "q8_0"
WHOLE_CACHES = frozenset({"f32", "f16", "bf16"})


def plan(question: Question, engine: EnginePlan | None = None) -> MemoryPlan:
    """The whole plan: what it takes, what is in the way, what would fit, and the largest context that does."""
    found, largest = outline(question, engine), largest_context(question)
    return replace(found, alternatives=tuple(_alternatives(question, found, largest)), largest_context=largest)


def largest_context(question: Question, most: int | None = None) -> int | None:
    """Most tokens of context that fit with everything else as it is, up to `most` or what the model knows; `None` where
    the loader has no such choice, its memory is unknown, or not even the smallest fits.
    """
    if context_of(question.facts, question.parameters) is None or question.machine.available is None:
        return None
    longest = question.facts.context_length or LONGEST_CONTEXT
    most = longest if most is None else min(longest, -(-most // CONTEXT_STEP) * CONTEXT_STEP)
    steps = range(CONTEXT_STEP, most + 1, CONTEXT_STEP) or range(most, most + 1)

    def too_large(tokens: int) -> bool:
        return not fits(question.with_(context_size=tokens))

    place = bisect_left(steps, True, key=too_large)
    return steps[place - 1] if place else None


def most_layers(question: Question) -> int:
    """Most GPU layers that fit, over all GPUs."""

    def too_many(layers: int) -> bool:
        return not fits(question.with_(gpu_layers=layers), gpus_alone=True)

    return bisect_left(range(1, layers_of(question.facts) + 1), True, key=too_many)


def best_split(question: Question) -> tuple[int, ...] | None:
    """Layers for each GPU, so that as many as asked for fit: each gets as many as it has room for beside its buffers,
    the roomiest most. `None` where they do not fit, or how much is free is not known.
    """
    gpus = question.machine.gpus
    wanted = gpu_layers_of(question.facts, question.parameters)
    if not wanted or len(gpus) < 2 or any(gpu.free is None for gpu in gpus):
        return None
    found = outline(question)
    rows = [found.device(gpu.key) for gpu in gpus]
    each = sum(row.weights + row.kv_cache for row in rows if row) / wanted
    room = [max(0, (row.available or 0) - row.compute - row.other) for row in rows if row]
    split = [int(one / each) if each else wanted for one in room]
    if sum(split) < wanted:
        return None
    scale = wanted / sum(split)
    counts = [min(most, int(most * scale)) for most in split]
    for _ in range(wanted - sum(counts)):
        slack = [most - count for most, count in zip(split, counts, strict=True)]
        counts[slack.index(max(slack))] += 1
    asked = question.with_(tensor_split=",".join(map(str, counts)), split_mode="layer")
    return tuple(counts) if outline(asked).fits else None


def _alternatives(question: Question, found: MemoryPlan, largest: int | None) -> Iterator[Alternative]:
    if not found.fits:
        yield from _smaller(question, found, largest)
    else:
        yield from _better(question)


def _better(question: Question) -> Iterator[Alternative]:
    """What fits and would be faster."""
    wanted = gpu_layers_of(question.facts, question.parameters)
    every = layers_of(question.facts)
    if wanted is not None and wanted < every and question.machine.gpus:
        most = most_layers(question)
        if most > wanted:
            words = f"all {every} layers on the GPU" if most == every else f"{most} of {every} layers on the GPU"
            yield _alternative(question, words, gpu_layers=-1 if most == every else most)


def _smaller(question: Question, found: MemoryPlan, largest: int | None) -> Iterator[Alternative]:
    """What fits instead: single changes first, then contexts that fit, alone or beside another change."""
    offers = [*_for_full_gpus(question, found), *_for_less_memory(question, found)]
    fitting = [one for words, changes in offers if (one := _alternative(question, words, **changes)).fits]
    yield from fitting
    beside = [offer for offer in offers if "gpu_layers" not in offer[1]]
    yield from _contexts(question, largest, beside, fitting)
    yield from _smaller_file(question, found)


def _for_full_gpus(question: Question, found: MemoryPlan) -> Iterator[Offer]:
    if all(device.fits for device in found.devices[1:]):
        return
    every = layers_of(question.facts)
    if not gpu_layers_of(question.facts, question.parameters):
        yield "on the CPU", dict(question.spec.cpu_parameters)
        return
    split = best_split(question)
    if split is not None:
        yield f"layers split {' : '.join(map(str, split))}", {"tensor_split": ",".join(map(str, split))}
    most = most_layers(question)
    yield f"{most} of {every} layers on the GPU" if most else "on the CPU", {"gpu_layers": most}


def _for_less_memory(question: Question, found: MemoryPlan) -> Iterator[Offer]:
    parameters = question.parameters
    caches = {name: SMALL_CACHE for name in ("cache_type_k", "cache_type_v") if parameters.get(name) in WHOLE_CACHES}
    if caches and parameters.get("flash_attention") == "off":
        caches["flash_attention"] = "auto"
    if caches:
        yield "8-bit cache", caches
    if found.devices[0].fits:
        return
    if parameters.get("use_mmap") is False:
        yield "weights left in the file", {"use_mmap": True}
    copied = found.devices[0].mapped and found.devices[0].weights > found.devices[0].mapped
    if copied and parameters.get("cpu_repacking", "off") != "off":
        yield "no weight repacking", {"cpu_repacking": "off"}


def _contexts(
    question: Question, largest: int | None, beside: Sequence[Offer], fitting: Sequence[Alternative]
) -> Iterator[Alternative]:
    """The largest contexts that fit: alone (`largest`), beside each offer that is not enough, and all of them."""
    asked = context_of(question.facts, question.parameters)
    if asked is None:
        return
    enough = [one.parameters for one in fitting]
    offers = [("", {}), *((f" with {_article(words)}", changes) for words, changes in beside if changes not in enough)]
    if not enough and len(beside) > 1:
        everything = {name: value for _, changes in beside for name, value in changes.items()}
        offers.append((" with " + " and ".join(_article(words) for words, _ in beside), everything))
    for words, changes in offers:
        tokens = largest_context(question.with_(**changes), asked) if changes else largest
        if tokens is not None and tokens >= LEAST_CONTEXT and (tokens < asked or (changes and tokens >= asked)):
            yield _alternative(question, f"context {min(tokens, asked):,}{words}", **_context(tokens, asked), **changes)


def _context(tokens: int, asked: int) -> dict[str, int]:
    return {"context_size": tokens} if tokens < asked else {}


def _article(words: str) -> str:
    return f"an {words}" if words.startswith("8") else words


def _smaller_file(question: Question, found: MemoryPlan) -> Iterator[Alternative]:
    """The best common quantisation whose weights would fit where these do not."""
    facts = question.facts
    stored, count = facts.tensor_bytes or facts.file_bytes, facts.parameter_count
    if not count or found.device("cpu") is None or question.spec.weight_bytes is not None:
        return
    too_much = sum(
        max(0, device.kept + device.margin - (device.available or 0)) for device in found.devices if not device.fits
    )
    for name, bits in BITS_PER_WEIGHT:
        smaller = int(count * bits / 8)
        if smaller < stored and stored - smaller >= too_much:
            words = f"a {name} file of the same model, about {size(smaller)}"
            yield Alternative(words, found.total - stored + smaller, True)
            return


def _alternative(question: Question, words: str, **changes: Any) -> Alternative:
    found = outline(question.with_(**changes))
    return Alternative(words, found.total, found.fits, changes)
