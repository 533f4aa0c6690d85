"""What a load needs against what is free, before it is tried: smaller where it must be, refused where nothing fits."""

from __future__ import annotations

from collections.abc import Sequence

from webui.errors import HostOutOfMemory
from webui.models.inspect import model_id
from webui.planning.attempts import changed, need_of
from webui.planning.layers import gpu_layers_of, uses_gpu
from webui.planning.memory import DEVICE_SLACK, GIB, SLACK, layers_that_fit
from webui.planning.rungs import MAPPED, SMALLER_BATCH, SMALLER_CACHE, SMALLER_CONTEXT
from webui.planning.sizes import BITS_PER_WEIGHT, SHARE_FOR_WEIGHTS, starting_layers
from webui.planning.steps import Attempt, Situation, StepKind
from webui.planning.words import size

SHRINKING = (MAPPED, SMALLER_CACHE, SMALLER_CONTEXT, SMALLER_BATCH)
USUAL_BITS = 4.9


def fitted(situation: Situation, attempt: Attempt) -> Attempt | None:
    """`attempt` as it is if it fits, the least smaller one that does otherwise, `None` where nothing fits.

    A context somebody chose is only made smaller where it surely does not fit, and nothing is refused for an estimate
    that is within `SLACK` of what is free: then it is tried. Without fallback it is as asked or not at all.
    """
    if situation.fallback:
        attempt = _on_gpu(situation, attempt)
    free = situation.host_available
    need = need_of(situation, attempt)
    unknown_gpu = situation.device_available is None and uses_gpu(situation.specs[attempt.loader], attempt.parameters)
    if free is None or unknown_gpu or need.fits(free):
        return attempt
    if not situation.fallback or _chosen_context(situation, attempt):
        if need.fits(free, SLACK):
            return attempt
        if not situation.fallback:
            return None
    smaller = _shrunk(situation, attempt, free)
    if need_of(situation, smaller).fits(free):
        return smaller
    if need.fits(free, SLACK):
        return attempt
    return smaller if need_of(situation, smaller).fits(free, SLACK) else None


def _on_gpu(situation: Situation, attempt: Attempt) -> Attempt:
    """No more layers than fit, where they surely do not and the engine does not see to it by itself."""
    free, layers = situation.device_available, gpu_layers_of(situation.facts, attempt.parameters)
    by_itself = attempt.parameters.get("fit_to_memory") and attempt.parameters["gpu_layers"] < 0
    if not free or not layers or by_itself:
        return attempt
    if situation.facts.block_count is None and attempt.parameters["gpu_layers"] < 0:
        return _to_begin_with(situation, attempt, free, layers)
    need = need_of(situation, attempt)
    if need.device <= free * DEVICE_SLACK:
        return attempt
    fitting = layers_that_fit(situation.facts, situation.specs[attempt.loader], attempt.parameters, free)
    if not 0 < fitting < layers:
        return attempt
    reason = f"{layers} layers need {size(need.device)}, and {size(free)} of GPU memory are free; {fitting} should fit."
    return changed(situation, attempt, {"gpu_layers": fitting}, kind=StepKind.FEWER_LAYERS, reason=reason)


def _to_begin_with(situation: Situation, attempt: Attempt, free: int, layers: int) -> Attempt:
    """The rule of thumb for a file whose header does not tell its layers, so that no plan can count them."""
    total = situation.device_total or free
    starting = starting_layers(situation.facts.file_bytes, layers, total, free)
    if not 0 < starting < layers:
        return attempt
    told = f"The file has {size(situation.facts.file_bytes)} and does not tell its layers"
    room = f"{size(total)} of GPU memory with {size(free)} free"
    reason = f"{told}; {starting} on the GPU are a careful beginning for {room}."
    return changed(situation, attempt, {"gpu_layers": starting}, kind=StepKind.FEWER_LAYERS, reason=reason)


def _shrunk(situation: Situation, attempt: Attempt, free: int) -> Attempt:
    """The first that fits on the way down, or the smallest there is."""
    spec, needed = situation.specs[attempt.loader], need_of(situation, attempt)
    wanted = f"It needs {size(max(needed.kept, needed.mapped_bytes))} as asked, and {size(free)} are free"
    smaller = attempt
    for rung in SHRINKING:
        keeps = rung is SMALLER_CONTEXT and _chosen_context(situation, attempt)
        if keeps and need_of(situation, smaller).fits(free, SLACK):
            return smaller
        for updates, how in rung.variants(situation, spec, smaller.parameters):
            smaller = changed(situation, smaller, updates, kind=rung.kind)
            need = need_of(situation, smaller)
            beside = " beside the pages of the file" if need.mapped_bytes else ""
            smaller = changed(situation, smaller, {}, reason=f"{wanted}; {how}, it needs {size(need.kept)}{beside}.")
            if need.fits(free):
                return smaller
    return smaller


def too_large(situation: Situation, attempts: Sequence[Attempt]) -> HostOutOfMemory:
    """The refusal before anything was tried, with the numbers. `attempts` are those that would have been made."""
    facts, free = situation.facts, situation.host_available or 0
    smallest = [_shrunk(situation, one, 0) if situation.fallback else one for one in attempts]
    attempt = min(smallest, key=lambda one: need_of(situation, one).kept)
    need, spec = need_of(situation, attempt), situation.specs[attempt.loader]
    amount = need.kept if need.kept > free else need.host
    least = "even with its smallest context" if situation.fallback else "as asked"
    return HostOutOfMemory(
        f"{model_id(facts)} needs about {size(amount)}, and {size(free)} are free.",
        cause=f"{spec.title} would take {size(need.weights)} for the weights, {size(need.cache)} for the context and "
        f"{size(need.compute)} to compute in, {least}",
        hint=_what_would_fit(situation, free, unpacked=need.weights > (facts.tensor_bytes or facts.file_bytes)),
        needed_bytes=amount,
        available_bytes=free,
    )


def _chosen_context(situation: Situation, attempt: Attempt) -> bool:
    """Whether the context is one that somebody set, not the loader's default."""
    field = situation.specs[attempt.loader].parameters.model_fields.get("context_size")
    return field is not None and attempt.parameters["context_size"] != field.default


def _what_would_fit(situation: Situation, free: int, *, unpacked: bool) -> str:
    general = "Close other programs, or choose a smaller model."
    count, room = situation.facts.parameter_count, free * SHARE_FOR_WEIGHTS
    if unpacked:
        return f"A loader that opens the file without unpacking it needs less. {general}"
    if not count or room < GIB / 4:
        return general
    stored = situation.facts.tensor_bytes or situation.facts.file_bytes
    for name, bits in BITS_PER_WEIGHT:
        amount = int(count * bits / 8)
        if amount <= room and amount < stored:
            return f"A {name} file of this model, about {size(amount)}, would fit. {general}"
    return f"{general} About {room * 8 / USUAL_BITS / 1e9:.1f} billion parameters as Q4_K_M would fit."
