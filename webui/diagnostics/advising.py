"""Which backend to take: for a model by what is known of it here, without one by the machine and its engines."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

from webui.errors import MissingPackage
from webui.models.facts import ModelFacts
from webui.planning.recommendation import recommend
from webui.planning.selection import refusal

if TYPE_CHECKING:
    from webui.context import AppContext


@dataclass(frozen=True, slots=True)
class Recommended:
    """`backend` is what to take, `order` all that would do, best first; `advice` are further sentences."""

    backend: str
    reason: str
    order: tuple[str, ...]
    advice: tuple[str, ...] = ()


async def recommended(context: AppContext, facts: ModelFacts | None = None) -> Recommended:
    """Raises the refusal where no backend can do it here. Without `facts` the engines are asked, which takes seconds
    the first time.
    """
    if facts is None:
        hardware = await asyncio.to_thread(context.usable)
        advice = recommend(hardware, await context.abilities.all())
        if not advice.order:
            raise MissingPackage("No backend is installed.", hint="Install one with: python3 app.py setup xllamacpp")
        sentences = tuple(sentence for heading, sentence in advice.lines() if heading != "Loader")
        first = advice.order[0]
        return Recommended(first.loader, f"{first.reason}.", tuple(place.loader for place in advice.order), sentences)
    candidates = await asyncio.to_thread(context.pool.rank, facts)
    suitable = [candidate for candidate in candidates if candidate.suitable]
    if not suitable:
        raise refusal(facts, candidates)
    plan = await asyncio.to_thread(context.plan, facts, suitable[0].loader, {})
    others = tuple(f"{one.loader}: {one.chosen_because}" for one in suitable[1:])
    order = tuple(candidate.loader for candidate in suitable)
    return Recommended(suitable[0].loader, suitable[0].chosen_because, order, (plan.constraint, *others))
