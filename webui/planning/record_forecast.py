"""Whether memory will run out: before a load, from what earlier loads held and grew by, and before a long prompt."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace

from webui.planning.plan import CPU, MemoryPlan
from webui.planning.record import LoadRecord, ReplyRecord
from webui.planning.robust import slope, upper
from webui.planning.words import size

FEWEST_LOADS = 3
FEWEST_DEPTHS = 5
LIKE_CONTEXT = 2.0
"""Contexts within this factor grow alike."""
LEAST_PER_TOKEN = 512.0
"""Bytes; what grows by less a token is not its context."""
ORDERLY = 0.6


@dataclass(frozen=True, slots=True)
class Footprint:
    """What `loads` loads of a model with a loader took of the machine's own memory: `ratio` times what was planned, and
    `growth` bytes more in use. Both are what one load in ten exceeds.
    """

    loads: int
    ratio: float
    growth: int


def footprint_of(loads: Sequence[LoadRecord], replies: Sequence[ReplyRecord], context: int) -> Footprint | None:
    """From the records of one model and loader; `None` for too few."""
    measured = [one for one in loads if one.planned and one.measured]
    if len(measured) < FEWEST_LOADS:
        return None
    lives: defaultdict[float, list[int]] = defaultdict(list)
    for reply in replies:
        known = reply.under.context
        if reply.memory and (not context or not known or 1 / LIKE_CONTEXT <= known / context <= LIKE_CONTEXT):
            lives[reply.life].append(reply.memory)
    grown = [max(memory) - memory[0] for memory in lives.values() if len(memory) >= 2]
    ratios = [one.measured / one.planned for one in measured if one.measured and one.planned]
    return Footprint(len(measured), upper(ratios), int(upper(grown)) if grown else 0)


def warned(plan: MemoryPlan, footprint: Footprint | None) -> MemoryPlan:
    """`plan` with a warning where what is planned for the machine's memory fits, and what it will become does not."""
    host = plan.device(CPU)
    if footprint is None or host is None or host.available is None or not host.fits:
        return plan
    expected = int(host.total * max(1.0, footprint.ratio)) + footprint.growth
    if expected - host.mapped <= host.available:
        return plan
    parts = [f"took up to {footprint.ratio:.2f} times what was planned"] if footprint.ratio > 1 else []
    parts += [f"grew by up to {size(footprint.growth)} in use"] if footprint.growth > 0 else []
    warning = (
        f"Memory may run out in use: {footprint.loads} earlier loads {' and '.join(parts)}, which would make "
        f"{size(expected)} where {size(host.available)} are free."
    )
    return replace(plan, warnings=(*plan.warnings, warning))


@dataclass(frozen=True, slots=True)
class Growing:
    """How memory grew with the context: `per_token` bytes, seen in `seen` replies of up to `deepest` tokens."""

    per_token: float
    seen: int
    deepest: int


def growth_with_depth(replies: Sequence[ReplyRecord]) -> Growing | None:
    """From the replies of one life: those that reached further into the context than all before them."""
    deepest, points = 0, []
    for reply in replies:
        if reply.memory and reply.depth > deepest:
            deepest = reply.depth
            points.append((float(reply.depth), float(reply.memory)))
    found = slope(points)
    if found is None or len(points) < FEWEST_DEPTHS:
        return None
    if found.order < ORDERLY or found.per_step < LEAST_PER_TOKEN:
        return None
    return Growing(found.per_step, len(points), deepest)
