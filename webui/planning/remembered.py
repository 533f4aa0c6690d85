"""What earlier loads of the same file taught: what to begin with, and what not to try again."""

from __future__ import annotations

import re
from dataclasses import replace

from webui.errors import AppError, DeviceOutOfMemory, HostOutOfMemory
from webui.planning.answers import answer_to
from webui.planning.attempts import as_asked, changed, loaders
from webui.planning.steps import Attempt, Known, Situation, StepKind
from webui.planning.words import why

SIGNAL = re.compile(r"\b(SIG[A-Z]+)\b")
MORE_MEMORY = 1.1
"""What ran out of memory is worth trying again with this many times the memory that was free then."""


def known_failure(situation: Situation, attempt: Attempt) -> Known | None:
    """The failure of the very same at an earlier time, if it still means something."""
    for known in reversed(situation.known):
        if known.loader != attempt.loader or dict(known.parameters) != dict(attempt.parameters):
            continue
        if known.worked:
            return None
        answer = answer_to(error_of(known))
        return known if not answer.final and not more_memory(situation, known) else None
    return None


def more_memory(situation: Situation, known: Known) -> bool:
    """Whether it ran out of memory then, and there is clearly more now."""
    error = error_of(known)
    if isinstance(error, DeviceOutOfMemory):
        then, now = known.device_available, situation.device_available
    elif isinstance(error, HostOutOfMemory):
        then, now = known.host_available, situation.host_available
    else:
        return False
    return then is not None and now is not None and now > then * MORE_MEMORY


def remembered(situation: Situation, loader: str) -> Attempt | None:
    """What worked last time where the same was asked for, after what failed then and would fail again."""
    asked, spec = situation.asked[loader], situation.specs[loader]
    mine = [known for known in situation.known if known.loader == loader and dict(known.asked) == dict(asked)]
    worked = next((known for known in reversed(mine) if known.worked), None)
    if worked is None or not situation.fallback:
        return None
    if dict(worked.parameters) == dict(asked):
        return _remembered_loader(situation, loader)
    lessons = [known for known in mine if not known.worked and not more_memory(situation, known)]
    if not lessons:  # it was only made to fit the memory that was free then
        return None
    cause = why(spec, situation.facts, lessons[0].parameters, error_of(lessons[0]))
    as_asked_then = ", as asked," if dict(lessons[0].parameters) == dict(asked) else ""
    attempt = Attempt(StepKind.REMEMBERED, loader, dict(worked.parameters))
    return changed(situation, attempt, {}, reason=f"Last time{as_asked_then} {cause}; this worked.")


def _remembered_loader(situation: Situation, loader: str) -> Attempt | None:
    """A loader that opened the file as asked after those before it had failed."""
    first = loaders(situation)[0].loader
    failed = known_failure(situation, as_asked(situation, first))
    if loader == first or failed is None or situation.tried:
        return None
    cause = why(situation.specs[first], situation.facts, situation.asked[first], error_of(failed))
    reason = f"Last time {cause}; {situation.specs[loader].title} opened it."
    return replace(as_asked(situation, loader, reason), kind=StepKind.REMEMBERED)


def error_of(known: Known) -> AppError:
    """The failure as an error again; a crash names its signal in its message."""
    signal = SIGNAL.search(known.message)
    facts = {"signal": signal[1]} if signal else {}
    return AppError.from_dict({"code": known.code, "message": known.message, "facts": facts})
