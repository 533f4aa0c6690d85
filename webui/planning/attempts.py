"""Making attempts: as asked, with changes, and as small as memory has taught."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from webui.errors import DeviceOutOfMemory, HostOutOfMemory
from webui.planning.layers import uses_gpu
from webui.planning.memory import Need, estimate
from webui.planning.rungs import MEMORY_PARAMETERS
from webui.planning.selection import Candidate
from webui.planning.steps import Attempt, Situation, StepKind
from webui.planning.words import lost

LOWERED = MEMORY_PARAMETERS | {"cpu_repacking", "gpu_layers", "shared_cache", "use_mlock", "use_mmap"}
"""Parameters that are changed where memory is short."""


def loaders(situation: Situation) -> list[Candidate]:
    """The loaders that may be used, best first."""
    suitable = [candidate for candidate in situation.candidates if candidate.suitable]
    return suitable[:1] if situation.forced else suitable


def as_asked(situation: Situation, loader: str, reason: str = "") -> Attempt:
    """The attempt with nothing changed."""
    return Attempt(StepKind.ASKED, loader, dict(situation.asked[loader]), reason=reason)


def need_of(situation: Situation, attempt: Attempt, *, gpu: bool | None = None) -> Need:
    """The estimate for an attempt on this machine. Unless `gpu` says so, a GPU of unknown memory is left out of it."""
    candidate = next((one for one in situation.candidates if one.loader == attempt.loader), None)
    return estimate(
        situation.facts,
        situation.specs[attempt.loader],
        attempt.parameters,
        converts=candidate is not None and candidate.converts,
        gpu=bool(situation.device_available) if gpu is None else gpu,
    )


def changed(situation: Situation, attempt: Attempt, updates: dict[str, Any], **other: Any) -> Attempt:
    """`attempt` with other parameter values; what differs from the request, and what it costs, follow from them."""
    spec, asked = situation.specs[attempt.loader], situation.asked[attempt.loader]
    parameters = {**attempt.parameters, **updates}
    changes = {name: value for name, value in parameters.items() if asked.get(name) != value}
    costs = lost(spec, situation.facts, asked, parameters)
    return replace(attempt, parameters=parameters, changes=changes, given_up=costs, **other)


def kept_small(situation: Situation, loader: str) -> dict[str, Any]:
    """After memory ran out, what was lowered for it holds for the next loader too."""
    ran_out = [one.error for one in situation.tried if isinstance(one.error, DeviceOutOfMemory | HostOutOfMemory)]
    if not ran_out:
        return {}
    asked, last = situation.asked[loader], situation.tried[-1].attempt
    shared = {name: last.changes[name] for name in LOWERED & last.changes.keys() & asked.keys()}
    lower = {name: value for name, value in shared.items() if not _is_less(asked[name], value)}
    spec, before = situation.specs[loader], situation.specs[last.loader]
    if any(isinstance(error, DeviceOutOfMemory) for error in ran_out) and (
        "gpu_layers" not in asked or not uses_gpu(before, last.parameters)
    ):
        lower |= spec.cpu_parameters
    return lower


def _is_less(one: Any, other: Any) -> bool:
    """Whether the number `one` asks for less than `other`; -1 layers are all, a context of 0 is the model's."""
    if isinstance(one, bool) or not isinstance(one, int) or not isinstance(other, int):
        return False
    return 0 < one < other
