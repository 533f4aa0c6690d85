"""An extension for browser tests: a machine with one full graphics card, whose plans say what was asked."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fastapi import APIRouter

from webui.hooks import hook
from webui.models.facts import ModelFacts
from webui.planning.memory import GIB, MIB
from webui.planning.plan import Alternative, DevicePlan, MemoryPlan

FREE = 4 * GIB


def plan(facts: ModelFacts, loader: str, parameters: Mapping[str, Any]) -> MemoryPlan:
    context = int(parameters.get("context_size", 4096))
    cache = context * MIB
    card = DevicePlan("gpu0", "A Card", 2 * GIB, cache, GIB // 2, 0, FREE, 6 * GIB, layers=33)
    memory = DevicePlan("cpu", "Memory", GIB, compute=MIB, available=8 * GIB, capacity=16 * GIB, mapped=GIB)
    said = ", ".join(f"{name}={value}" for name, value in sorted(parameters.items()))
    return MemoryPlan(
        facts.path.name,
        loader,
        False,
        card.total <= FREE,
        f"Asked of {loader} with {said or 'nothing'}.",
        (card, memory),
        (
            Alternative("24 of 33 layers on the GPU", 3 * GIB, True, {"gpu_layers": 24}),
            Alternative("8-bit KV cache", 3 * GIB, True, {"cache_type_k": "q8_0", "cache_type_v": "q8_0"}),
            Alternative("a smaller file", GIB, True),
        ),
        largest_context=1024,
    )


@hook
def add_routes(router: APIRouter, context: Any) -> None:
    context.plan = plan
