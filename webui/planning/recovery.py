"""What to try next when a load or a running model has failed: the ladder, as pure functions.

    as asked → safer engine flags → fewer GPU layers → smaller cache → smaller context → CPU → next suitable loader

What a failure means for the next step is the table `ANSWERS`. The pool climbs the ladder and shows each step; the last
rung, bringing back the model that was there before, is the pool's own.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

from webui.errors import AppError, DeviceOutOfMemory, HostOutOfMemory
from webui.planning.answers import Answer, answer_to, killed, native_crash
from webui.planning.attempts import as_asked, changed, kept_small, loaders, need_of
from webui.planning.degraded import degradation
from webui.planning.fitting import fitted, too_large
from webui.planning.remembered import error_of, known_failure, remembered
from webui.planning.selection import Candidate
from webui.planning.steps import (
    Attempt,
    Better,
    Bounds,
    Degraded,
    GiveUp,
    Known,
    Situation,
    StepKind,
    Tried,
)
from webui.planning.story import give_up
from webui.planning.words import sentence, why

__all__ = [
    "Attempt",
    "Better",
    "Bounds",
    "Degraded",
    "GiveUp",
    "Known",
    "Situation",
    "StepKind",
    "Tried",
    "degradation",
    "next_attempt",
    "restart_attempt",
]

RESTARTS = 3
"""How often a model whose worker dies is started again before it is given up."""


def next_attempt(situation: Situation) -> Attempt | GiveUp:
    """The first attempt, or the one after the failure of `situation.tried[-1]`."""
    if not situation.tried:
        ways = [attempt for candidate in loaders(situation) for attempt in _beginnings(situation, candidate, None)]
        ways += [step for candidate in loaders(situation) for step in _beyond(situation, candidate)]
        if not situation.fallback:
            ways = ways[:1]
        chosen = _choose(situation, ways)
        return chosen or GiveUp(too_large(situation, ways))
    last = situation.tried[-1]
    if last.error is None:
        raise ValueError("the last attempt has worked: see restart_attempt")
    answer = answer_to(last.error)
    if answer.final:
        return give_up(situation, last=True)
    if not situation.fallback:
        return give_up(situation)
    if len(situation.tried) >= situation.bounds.steps:
        return give_up(situation, f"Given up after {len(situation.tried)} attempts")
    if situation.elapsed_seconds >= situation.bounds.seconds:
        return give_up(situation, f"Given up after {situation.elapsed_seconds / 60:.0f} minutes")
    return _choose(situation, list(_after(situation, last, answer))) or give_up(situation)


def restart_attempt(situation: Situation, death: AppError, deaths: int) -> Attempt | GiveUp:
    """How to start a running model again whose worker has died for the `deaths`th time within the window.

    `situation.tried[-1]` is the attempt that had worked. The same again, unless its own code crashed or memory ran out,
    or it died before: then the next step of the ladder, if there is one.
    """
    worked = situation.tried[-1].attempt
    answer = answer_to(death)
    failed = Tried(worked, death)
    now = replace(situation, tried=(*situation.tried[:-1], failed))
    if deaths > RESTARTS:
        return give_up(now, f"It ended {deaths} times within minutes and is not started again", last=True, told=True)
    if answer.final:
        return give_up(now, last=True, told=True)
    memory = isinstance(death, DeviceOutOfMemory | HostOutOfMemory)
    if situation.fallback and (memory or native_crash(death) or (deaths > 1 and not killed(death))):
        ladder = list(_climb(now, failed, answer))
        if memory or deaths > 1:
            ladder += list(_elsewhere(now, failed))
        chosen = _choose(now, ladder)
        if chosen is not None:
            return chosen
    if memory:
        return give_up(now, last=True, told=True)
    return replace(worked, kind=StepKind.RESTART, reason=sentence(f"{_why(now, failed)}; started again as it was"))


# --- what could be next -----------------------------------------------------------------------------------------------


def _after(situation: Situation, last: Tried, answer: Answer) -> Iterator[Attempt]:
    """Every step that could follow, the best first; which of them may be taken is decided in `_choose`."""
    same = sum(one.attempt.parameters == last.attempt.parameters for one in _of(situation, last.attempt.loader))
    if answer.again and same < 2:
        reason = sentence(f"{_why(situation, last)}; once more")
        yield replace(last.attempt, kind=StepKind.RESTART, reason=reason)
    yield from _climb(situation, last, answer)
    yield from _elsewhere(situation, last)


def _climb(situation: Situation, last: Tried, answer: Answer) -> Iterator[Attempt]:
    """Steps with the same loader. Where the engine refuses what we changed, the ladder goes on from before that."""
    loader = last.attempt.loader
    yield from _steps(situation, last, answer)
    if last.attempt.changes and not answer.ladder:
        for earlier in reversed(_of(situation, loader)):
            if earlier.error is not None and answer_to(earlier.error).ladder:
                yield from _steps(situation, earlier, answer_to(earlier.error))
                break
    if any(one.attempt.kind is StepKind.REMEMBERED for one in _of(situation, loader)):
        yield as_asked(situation, loader, sentence(f"{_why(situation, last)}, and that had worked; tried as asked"))


def _steps(situation: Situation, last: Tried, answer: Answer) -> Iterator[Attempt]:
    spec = situation.specs[last.attempt.loader]
    for rung in answer.ladder:
        for updates, how in rung.variants(situation, spec, last.attempt.parameters):
            reason = sentence(f"{_why(situation, last)}; now {how}")
            yield changed(situation, last.attempt, updates, kind=rung.kind, reason=reason)


def _elsewhere(situation: Situation, last: Tried) -> Iterator[Attempt]:
    """The loaders that were not tried yet, each from its beginning."""
    used = {one.attempt.loader for one in situation.tried}
    others = [candidate for candidate in loaders(situation) if candidate.loader not in used]
    for candidate in others:
        yield from _beginnings(situation, candidate, last)
    for candidate in others:
        yield from _beyond(situation, candidate)


def _beginnings(situation: Situation, candidate: Candidate, last: Tried | None) -> Iterator[Attempt]:
    """How to begin with a loader: what worked with it last time, and what is asked."""
    known = remembered(situation, candidate.loader)
    if known is not None:
        yield known
    if last is None and candidate is loaders(situation)[0]:
        yield as_asked(situation, candidate.loader, "As asked.")
        return
    cause = _why(situation, last) if last is not None else _why_not_the_first(situation)
    reason = sentence(f"{cause}; {_introduced(situation, candidate)}")
    attempt = replace(as_asked(situation, candidate.loader, reason), kind=StepKind.NEXT_LOADER)
    yield changed(situation, attempt, kept_small(situation, candidate.loader))


def _beyond(situation: Situation, candidate: Candidate) -> Iterator[Attempt]:
    """The ladder of a loader whose request is known to fail, as though it had failed just now."""
    attempt = as_asked(situation, candidate.loader)
    failure = known_failure(situation, attempt)
    if failure is None:
        return
    error = error_of(failure)
    for step in _steps(situation, Tried(attempt, error), answer_to(error)):
        yield replace(step, reason=f"Last time {step.reason[:1].lower()}{step.reason[1:]}")


# --- what may be next -------------------------------------------------------------------------------------------------


def _choose(situation: Situation, ways: Iterable[Attempt]) -> Attempt | None:
    """The first that may be taken and is not known to fail; where there is none, the first that may be taken."""
    allowed = [fit for way in ways if (fit := fitted(situation, way)) is not None and _may(situation, fit)]
    for attempt in allowed:
        if not situation.fallback or known_failure(situation, attempt) is None:
            return attempt
    if not allowed:
        return None
    known = known_failure(situation, allowed[0])
    past = f" It failed last time as well ({known.message.rstrip('.')}), and nothing else is left." if known else ""
    return replace(allowed[0], reason=allowed[0].reason + past)


def _may(situation: Situation, attempt: Attempt) -> bool:
    """Not the same again, and after an end of memory never as much again."""
    need = need_of(situation, attempt)
    for one in situation.tried:
        if one.error is None:
            continue
        same = one.attempt.loader == attempt.loader and one.attempt.parameters == attempt.parameters
        if same and attempt.kind is not StepKind.RESTART:
            return False
        if isinstance(one.error, HostOutOfMemory) and not need.less_than(need_of(situation, one.attempt)):
            return False
        full = need_of(situation, one.attempt, gpu=True).device
        if isinstance(one.error, DeviceOutOfMemory) and 0 < full <= need_of(situation, attempt, gpu=True).device:
            return False
    return True


# --- small parts ------------------------------------------------------------------------------------------------------


def _of(situation: Situation, loader: str) -> list[Tried]:
    return [one for one in situation.tried if one.attempt.loader == loader]


def _why(situation: Situation, tried: Tried) -> str:
    if tried.error is None:
        raise ValueError("only a failure has a reason")
    spec = situation.specs[tried.attempt.loader]
    return why(spec, situation.facts, tried.attempt.parameters, tried.error)


def _why_not_the_first(situation: Situation) -> str:
    """Why a load begins with another loader than the best one."""
    first = loaders(situation)[0].loader
    spec, asked = situation.specs[first], situation.asked[first]
    failure = known_failure(situation, as_asked(situation, first))
    if failure is None:
        return f"{spec.title} would need more memory than is free"
    return f"last time {why(spec, situation.facts, asked, error_of(failure))}"


def _introduced(situation: Situation, candidate: Candidate) -> str:
    title = situation.specs[candidate.loader].title
    return f"{title} opens it by converting it, slower and larger" if candidate.converts else f"{title} is next"
