"""Making attempts: as asked, with changes, and as small as memory has taught."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from webui.errors import DeviceOutOfMemory, HostOutOfMemory
from webui.planning.memory import Need, estimate, uses_gpu
from webui.planning.selection import Candidate
from webui.planning.steps import Attempt, Situation, StepKind
from webui.planning.words import lost


def loaders(situation: Situation) -> list[Candidate]:
    suitable = [candidate for candidate in situation.candidates if candidate.suitable]
    return suitable[:1] if situation.forced else suitable


def as_asked(situation: Situation, loader: str, reason: str) -> Attempt:
    asked = situation.asked[loader]
    reason = reason or "As asked."
    return Attempt(StepKind.ASKED, loader, dict(asked), {}, reason, "")


def need_of(situation: Situation, attempt: Attempt) -> Need:
    """The estimate for an attempt on this machine."""
    candidate = next((one for one in situation.candidates if one.loader == attempt.loader), None)
    return estimate(
        situation.facts,
        situation.specs[attempt.loader],
        attempt.parameters,
        converts=candidate is not None and candidate.converts,
        gpu=situation.device_available != 0,
    )


def changed(situation: Situation, attempt: Attempt, updates: dict[str, Any], **other: Any) -> Attempt:
    """`attempt` with other parameter values; what differs from the request, and what it costs, follow from them."""
    spec, asked = situation.specs[attempt.loader], situation.asked[attempt.loader]
    parameters = {**attempt.parameters, **updates}
    changes = {name: value for name, value in parameters.items() if asked.get(name) != value}
    costs = lost(spec, situation.facts, asked, parameters)
    return replace(attempt, parameters=parameters, changes=changes, given_up=", ".join(costs), **other)


def kept_small(situation: Situation, loader: str) -> dict[str, Any]:
    """After memory ran out, what was lowered for it holds for the next loader too."""
    ran_out = [one.error for one in situation.tried if isinstance(one.error, DeviceOutOfMemory | HostOutOfMemory)]
    if not ran_out:
        return {}
    asked, last = situation.asked[loader], situation.tried[-1].attempt
    shared = {name: last.changes[name] for name in MEMORY_PARAMETERS & last.changes.keys() & asked.keys()}
    lower = {name: value for name, value in shared.items() if not _is_less(asked[name], value)}
    spec, before = situation.specs[loader], situation.specs[last.loader]
    if any(isinstance(error, DeviceOutOfMemory) for error in ran_out) and (
        "gpu_layers" not in asked or not uses_gpu(before, last.parameters)
    ):
        lower |= spec.cpu_parameters
    return lower


MEMORY_PARAMETERS = frozenset(
    {"context_size", "gpu_layers", "cache_type_k", "cache_type_v", "batch_size", "micro_batch_size", "use_mmap"}
    | {"use_mlock", "cpu_repacking", "shared_cache"}
)
"""Parameters that steps lower to save memory."""


def _is_less(one: Any, other: Any) -> bool:
    """Whether the number `one` asks for less than `other`; -1 layers are all, a context of 0 is the model's."""
    if isinstance(one, bool) or not isinstance(one, int) or not isinstance(other, int):
        return False
    return 0 < one < other
