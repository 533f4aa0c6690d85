"""Advice from the record of use: what it shows that somebody may want to act on, each with its evidence.

Rules are functions of the record and of what holds now (`record_rules`); they keep silent on too little. What somebody
dismissed stays away until it has become clearly larger.
"""

from __future__ import annotations

from collections.abc import Mapping

from webui.planning.record import Record
from webui.planning.record_advice_failures import (
    backend_never_used,
    backend_never_works,
    model_never_loads,
    replies_fail,
)
from webui.planning.record_advice_memory import (
    context_too_short,
    context_unused,
    failing_at_context,
    filling_context,
    growing_memory,
)
from webui.planning.record_advice_speed import (
    drifting,
    faster_backend,
    idle_gpu,
    late_first_token,
    slower_since,
    waiting_in_line,
)
from webui.planning.record_rules import Here, RecordAdvice, Rule

RULES: tuple[Rule, ...] = (
    backend_never_works,
    model_never_loads,
    failing_at_context,
    replies_fail,
    growing_memory,
    filling_context,
    slower_since,
    drifting,
    faster_backend,
    idle_gpu,
    late_first_token,
    waiting_in_line,
    context_too_short,
    context_unused,
    backend_never_used,
)
GROWN = 1.5
"""What was dismissed is told again when it is as many times as large."""


def advise(record: Record, here: Here, dismissed: Mapping[str, float] | None = None) -> list[RecordAdvice]:
    """All advice that holds now, what matters most first, without what was `dismissed` (sizes by key)."""
    found = [advice for rule in RULES for advice in rule(record, here)]
    explained = {(one.model, one.loader) for one in found if one.rule == "slower-since"}
    known = dismissed or {}
    shown = [
        one
        for one in found
        if not (one.rule == "drifting" and (one.model, one.loader) in explained)
        and (one.key not in known or one.size > GROWN * known[one.key])
    ]
    return sorted(shown, key=lambda one: (-one.weight, -one.size))
