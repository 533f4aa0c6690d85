"""Memory plans: from a model's facts, a loader's parameters and a machine's room to bytes per device. Pure, quick."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from webui.loaders.contract import LoaderSpec
from webui.models.facts import ModelFacts
from webui.models.inspect import model_id
from webui.planning.memory import estimate
from webui.planning.plan import CPU, DevicePlan, Machine, MemoryPlan


def plan(facts: ModelFacts, spec: LoaderSpec, parameters: Mapping[str, Any], machine: Machine) -> MemoryPlan:
    """The instant plan of loading `facts` with `parameters` (the loader's full values)."""
    need = estimate(facts, spec, parameters, converts=spec.can_open(facts).converts)
    host = DevicePlan(
        CPU,
        "Memory",
        weights=need.weights,
        kv_cache=need.cache,
        compute=need.compute - spec.engine_bytes,
        other=spec.engine_bytes,
        available=machine.available,
        capacity=machine.total,
        mapped=need.mapped_bytes,
    )
    fits = need.fits(machine.available)
    return MemoryPlan(model_id(facts), spec.name, False, fits, "" if fits else "the machine's memory", (host,))
