"""How many CPU threads an engine gets when the user leaves the choice to the app.

The engines' threads meet at spin barriers many times per token. As soon as there are more of them than cores that are
really free, each barrier waits for a thread that is not running, and speed collapses instead of shrinking. So: one
thread per physical core this process may use, and one core left to the server and the page unless hyper-threading
leaves them a sibling anyway.
"""

from __future__ import annotations

import math

from webui.hardware import cpu, this_host
from webui.hardware.facts import CpuFacts


def choose_threads(requested: int = 0) -> int:
    """`requested` if it is positive, otherwise the number of threads that suits this machine (at least 1)."""
    return requested if requested > 0 else threads_for(cpu.detect(this_host()))


def threads_for(facts: CpuFacts) -> int:
    """The number of threads that suits a processor. Efficiency cores would make every barrier wait for them."""
    logical = facts.allowed_cores or facts.usable_cores
    physical = facts.performance_cores or facts.allowed_physical or logical
    return plan_threads(logical=logical, physical=physical, quota=facts.quota)


def plan_threads(*, logical: int, physical: int, quota: float | None) -> int:
    """The choice itself, from facts: usable logical and physical cores and the CPU quota in cores (None: no limit)."""
    cores = max(1, min(physical, logical))
    if quota is not None:
        cores = max(1, min(cores, math.floor(quota)))
    spare = min(float(logical), quota if quota is not None else math.inf) - cores
    return cores if spare >= 1 or cores == 1 else cores - 1
