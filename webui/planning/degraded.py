"""What a loaded model had to do without, in one sentence, and the buttons that would do better."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from webui.errors import DeviceOutOfMemory
from webui.planning.attempts import changed, need_of
from webui.planning.layers import gpu_layers_of, layers_of, uses_gpu
from webui.planning.memory import layers_that_fit
from webui.planning.remembered import error_of
from webui.planning.rungs import smaller_cache
from webui.planning.steps import Attempt, Better, Degraded, Situation, Tried
from webui.planning.words import running, sentence, why

AGAIN = "Try again as asked"
WORTH_IT = 0.05
"""Share of the layers from which on more of them are worth a load."""


def degradation(asked: Attempt, worked: Attempt, situation: Situation) -> Degraded | None:
    """`None` where what was asked is what runs. The last of `situation.tried` is the one that worked."""
    spec = situation.specs[worked.loader]
    parts = running(spec, situation.facts, situation.asked[worked.loader], worked.parameters)
    if worked.loader != asked.loader:
        parts.insert(0, f"with {spec.title} instead of {situation.specs[asked.loader].title}")
    if not parts:
        return None
    better = [*_more_layers(situation, asked, worked), Better(AGAIN, asked.loader, asked.parameters)]
    return Degraded(f"Runs {', '.join(parts)}{_because(situation, worked)}", tuple(better))


def _because(situation: Situation, worked: Attempt) -> str:
    """The failure that taught it; where there was none in this load, the reason of the attempt itself."""
    failed = next((one for one in situation.tried if one.error is not None), None)
    if failed is None or failed.error is None:
        return f". {sentence(worked.reason)}"
    spec = situation.specs[failed.attempt.loader]
    cause = why(spec, situation.facts, failed.attempt.parameters, failed.error)
    return f": {cause}" + ("" if cause.endswith(".") else ".")


def _more_layers(situation: Situation, asked: Attempt, worked: Attempt) -> Sequence[Better]:
    """More layers on the GPU, if need be with a smaller cache, where the estimate says that they fit."""
    spec, facts, free = situation.specs[worked.loader], situation.facts, situation.device_available
    wanted, now = gpu_layers_of(facts, asked.parameters), gpu_layers_of(facts, worked.parameters)
    if worked.loader != asked.loader or not free or wanted is None or now is None:
        return ()
    failed = [*_failed_before(situation, asked), *(one for one in situation.tried if one.error is not None)]
    if not uses_gpu(spec, asked.parameters) or not all(_full(one) for one in failed):
        return ()
    full = [need_of(situation, one.attempt, gpu=True).device for one in failed]
    variants: list[tuple[Mapping[str, Any], str]] = [({}, "")]
    variants += [(changes, " and an 8-bit cache") for changes, _how in smaller_cache(situation, spec, asked.parameters)]
    found: list[Better] = []
    for changes, words in variants:
        layers = min(wanted, layers_that_fit(facts, spec, {**asked.parameters, **changes}, free))
        attempt = changed(situation, asked, {**changes, "gpu_layers": layers})
        if layers - now < layers_of(facts) * WORTH_IT or need_of(situation, attempt).device >= min(full, default=free):
            continue
        found.append(
            Better(f"Load with {layers} layer{'s' if layers > 1 else ''}{words}", worked.loader, attempt.parameters)
        )
        now = layers
    return found


def _failed_before(situation: Situation, asked: Attempt) -> Sequence[Tried]:
    """What failed in earlier loads of the same."""
    return [
        Tried(Attempt(asked.kind, known.loader, known.parameters), error_of(known))
        for known in situation.known
        if not known.worked and known.loader == asked.loader and dict(known.asked) == dict(asked.parameters)
    ]


def _full(one: Tried) -> bool:
    return isinstance(one.error, DeviceOutOfMemory)
