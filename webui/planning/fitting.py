"""What a load needs against what is free, before it is tried: smaller where it must be, refused where nothing fits."""

from __future__ import annotations

from webui.errors import HostOutOfMemory
from webui.models.inspect import model_id
from webui.planning.attempts import changed, need_of
from webui.planning.memory import GIB, SLACK, context_of
from webui.planning.rungs import MAPPED, SMALLER_BATCH, SMALLER_CACHE, SMALLER_CONTEXT
from webui.planning.steps import Attempt, Situation
from webui.planning.words import size

SHRINKING = (MAPPED, SMALLER_CACHE, SMALLER_CONTEXT, SMALLER_BATCH)
BITS_PER_WEIGHT = (("Q8_0", 8.5), ("Q6_K", 6.6), ("Q5_K_M", 5.7), ("Q4_K_M", 4.9), ("Q3_K_M", 3.9), ("Q2_K", 3.0))
"""Common quantisations with what a parameter takes in them, on average."""
SHARE_FOR_WEIGHTS = 0.8
"""Of the free memory; the rest is for cache and buffers."""


def fitted(situation: Situation, attempt: Attempt) -> Attempt | None:
    """`attempt` as it is if it fits, the least smaller one that does otherwise, `None` where nothing fits.

    A context somebody chose is only made smaller where it surely does not fit, and nothing is refused for an estimate
    that is within `SLACK` of what is free: then it is tried.
    """
    need, free = need_of(situation, attempt), situation.host_available
    if free is None or need.fits(free):
        return attempt
    if need.fits(free, SLACK) and (_chosen_context(situation, attempt) or not situation.fallback):
        return attempt
    if not situation.fallback:
        return None
    smaller = attempt
    for rung in SHRINKING:
        spec, before = situation.specs[attempt.loader], smaller
        for updates, how in rung.variants(situation, spec, before.parameters):
            reason = f"It needs {size(need.kept)} as asked, and {size(free)} are free: tried {how}."
            smaller = changed(situation, before, updates, kind=rung.kind, reason=reason)
            if need_of(situation, smaller).fits(free):
                return smaller
    if need.fits(free, SLACK):
        return attempt
    return smaller if need_of(situation, smaller).fits(free, SLACK) else None


def too_large(situation: Situation, attempts: list[Attempt]) -> HostOutOfMemory:
    """The refusal before anything was tried, with the numbers. `attempts` are those that would have been next."""
    facts, free = situation.facts, situation.host_available or 0
    needs = [(need_of(situation, _smallest(situation, attempt)), attempt) for attempt in attempts]
    need, attempt = min(needs, key=lambda one: one[0].kept)
    title = situation.specs[attempt.loader].title
    amount = need.kept if need.kept > free else need.host
    return HostOutOfMemory(
        f"{model_id(facts)} does not fit in the memory that is free.",
        cause=f"{title} would need about {size(amount)} even with the smallest context, and {size(free)} are free",
        hint=_what_would_fit(situation, free),
        needed_bytes=amount,
        available_bytes=free,
    )


def _smallest(situation: Situation, attempt: Attempt) -> Attempt:
    for rung in SHRINKING:
        spec = situation.specs[attempt.loader]
        for updates, _how in list(rung.variants(situation, spec, attempt.parameters)):
            attempt = changed(situation, attempt, updates)
    return attempt


def _chosen_context(situation: Situation, attempt: Attempt) -> bool:
    """Whether the context is one that somebody set, not the loader's default."""
    field = situation.specs[attempt.loader].parameters.model_fields.get("context_size")
    now = context_of(situation.facts, attempt.parameters)
    return field is not None and now is not None and attempt.parameters["context_size"] != field.default


def _what_would_fit(situation: Situation, free: int) -> str:
    room = free * SHARE_FOR_WEIGHTS
    count = situation.facts.parameter_count
    general = "Close other programs, or choose a smaller model."
    if not count:
        return general
    for name, bits in BITS_PER_WEIGHT:
        if count * bits / 8 <= room and count * bits / 8 < (situation.facts.tensor_bytes or situation.facts.file_bytes):
            return f"A {name} file of this model, about {size(int(count * bits / 8))}, would fit. {general}"
    billions = room * 8 / 4.9 / 1e9
    if room < GIB / 4:
        return general
    return f"{general} About {billions:.1f} billion parameters as Q4_K_M would fit."
