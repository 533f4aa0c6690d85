"""What a loaded model had to do without, in one sentence, and the buttons that would do better."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from webui.errors import DeviceOutOfMemory, HostOutOfMemory
from webui.planning.memory import gpu_layers_of, layers_that_fit, uses_gpu
from webui.planning.rungs import smaller_cache
from webui.planning.steps import Attempt, Better, Degraded, Situation, Tried
from webui.planning.words import listed, load_state, sentence, why

AGAIN = "Try again as asked"


def degradation(
    asked: Attempt, worked: Attempt, tried: Sequence[Tried], situation: Situation | None = None
) -> Degraded | None:
    """`None` where what was asked is what runs. With `situation`, also what the estimate says would do better."""
    if worked.loader == asked.loader and dict(worked.parameters) == dict(asked.parameters):
        return None
    cause = _cause(worked, tried, situation)
    title = situation.specs[worked.loader].title if situation else worked.loader
    parts = []
    if worked.loader != asked.loader:
        parts.append(f"with {title} instead of {situation.specs[asked.loader].title if situation else asked.loader}")
    if worked.given_up:
        parts.append(f"without {worked.given_up}")
    if not parts:
        return None
    text = sentence(f"runs {listed(parts)}" + (f": {cause}" if cause else ""))
    better = [*(_more(situation, asked, worked) if situation else ()), Better(AGAIN, asked.loader, asked.parameters)]
    return Degraded(text, tuple(better))


def _cause(worked: Attempt, tried: Sequence[Tried], situation: Situation | None) -> str:
    failed = next((one for one in tried if one.error is not None), None)
    if failed is None or failed.error is None:
        return worked.reason
    if situation is None:
        return why(failed.attempt.loader, failed.error)
    spec = situation.specs[failed.attempt.loader]
    return why(spec.title, failed.error, load_state(spec, situation.facts, failed.attempt.parameters))


def _more(situation: Situation, asked: Attempt, worked: Attempt) -> Sequence[Better]:
    """More layers on the GPU with a smaller cache, where the estimate says that they fit."""
    spec, facts, free = situation.specs[worked.loader], situation.facts, situation.device_available
    now = gpu_layers_of(facts, worked.parameters)
    if worked.loader != asked.loader or not free or now is None or not uses_gpu(spec, asked.parameters):
        return ()
    found: list[Better] = []
    variants: list[tuple[Mapping[str, Any], str]] = [({}, "")]
    variants += [(changes, " and an 8-bit cache") for changes, _how in smaller_cache(situation, spec, asked.parameters)]
    for changes, words in variants:
        parameters = {**asked.parameters, **changes}
        layers = min(layers_that_fit(facts, spec, parameters, free), gpu_layers_of(facts, asked.parameters) or 0)
        parameters["gpu_layers"] = layers
        failed = any(
            isinstance(one.error, DeviceOutOfMemory | HostOutOfMemory) and one.attempt.parameters == parameters
            for one in situation.tried
        )
        if layers > now and not failed:
            found.append(Better(f"Load with {layers} layers{words}", worked.loader, parameters))
            now = layers
    return found
