"""Advice on what fails, and on what was never tried."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

from webui.planning.record import LoadRecord, Record
from webui.planning.record_advice_memory import failing_at_context
from webui.planning.record_rules import (
    LATELY,
    WEEKS,
    Act,
    Here,
    RecordAdvice,
    between,
    codes,
    in_use,
    loads_of,
    recent,
    replies_of,
)

FEWEST_LOADS = 4
FEWEST_REPLIES = 8
OFTEN = 0.25
MOSTLY = 0.7
WELL_USED = 50
WELL_USED_DAYS = 5
NOT_ITS_FAULT = frozenset({"context_too_long", "cancelled", "busy", "template_failed", "not_loaded"})
"""Ends of a reply that say nothing of the backend."""


def backend_never_works(record: Record, here: Here) -> Iterator[RecordAdvice]:
    """Nothing loads with a backend any more, whatever the model."""
    for loader, loads in _by_loader(record, here).items():
        models = {one.under.model for one in loads}
        if not _dead(loads):
            continue
        yield RecordAdvice(
            "backend-never-works",
            "",
            loader,
            f"Nothing loads with {loader}: {len(loads)} of {len(loads)} attempts failed.",
            (f"{codes(loads)}; {between(loads)}", f"models: {', '.join(sorted(models)[:5])}"),
            Act("repair", loader=loader),
            float(len(loads)),
            weight=3,
        )


def model_never_loads(record: Record, here: Here) -> Iterator[RecordAdvice]:
    """A model mostly fails to load with one backend, for which it is tried again and again."""
    dead = {loader for loader, loads in _by_loader(record, here).items() if _dead(loads)}
    at_context = {(one.model, one.loader) for one in failing_at_context(record, here)}
    grouped = loads_of(record, here, WEEKS)
    for (model, loader), loads in grouped.items():
        failed = sum(one.outcome == "failed" for one in loads)
        lately = all(one.outcome == "failed" for one in loads[-2:])
        if loader in dead or (model, loader) in at_context:
            continue
        if len(loads) < FEWEST_LOADS or failed < MOSTLY * len(loads) or not lately:
            continue
        works = [
            other
            for (its, other), tried in grouped.items()
            if its == model and other in here.ready - {loader} and tried[-1].outcome == "worked"
        ]
        evidence = [f"{codes(loads)}; {between(loads)}"]
        if works:
            evidence.append(f"it loads with {works[0]}")
        yield RecordAdvice(
            "model-never-loads",
            model,
            loader,
            f"{model} fails {failed} of {len(loads)} loads with {loader}.",
            tuple(evidence),
            Act("prefer", model, works[0]) if works else Act("check"),
            float(failed),
            weight=3,
        )


def replies_fail(record: Record, here: Here) -> Iterator[RecordAdvice]:
    """Replies of a model end with an error again and again."""
    grouped = replies_of(record, here, LATELY)
    for (model, loader), replies in in_use(record, here, LATELY).items():
        failed = [one for one in replies if one.outcome == "failed" and one.code not in NOT_ITS_FAULT]
        if len(replies) < FEWEST_REPLIES or len(failed) < max(3, OFTEN * len(replies)):
            continue
        if not any(one.outcome == "failed" for one in replies[-FEWEST_REPLIES:]):
            continue
        works = [
            other
            for (its, other), written in grouped.items()
            if its == model
            and other in here.ready - {loader}
            and len(written) >= FEWEST_LOADS
            and not any(one.outcome == "failed" for one in written)
        ]
        evidence = [f"{codes(failed)}; {between(failed)}"]
        if works:
            evidence.append(f"{works[0]} wrote {len(grouped[model, works[0]])} replies without an error")
        yield RecordAdvice(
            "replies-fail",
            model,
            loader,
            f"{len(failed)} of {len(replies)} replies of {model} with {loader} ended with an error.",
            tuple(evidence),
            Act("prefer", model, works[0]) if works else Act("check"),
            float(len(failed)),
            weight=3,
        )


def backend_never_used(record: Record, here: Here) -> Iterator[RecordAdvice]:
    """A backend is installed that could run the model that is used most, and was never measured with it."""
    grouped = replies_of(record, here, WEEKS)
    by_model: defaultdict[str, int] = defaultdict(int)
    for (model, _loader), replies in grouped.items():
        by_model[model] += len(replies)
    if not by_model:
        return
    model = max(by_model, key=lambda name: (by_model[name], name))
    days = {int(one.at // 86400) for one in recent(record.replies, here, WEEKS) if one.under.model == model}
    if by_model[model] < WELL_USED or len(days) < WELL_USED_DAYS:
        return
    tried = {one.under.loader for kind in (record.loads, record.replies, record.days) for one in kind}
    for loader in sorted(here.suitable.get(model, frozenset()) & here.ready - tried):
        yield RecordAdvice(
            "backend-never-used",
            model,
            loader,
            f"{loader} is installed and was never used: whether it is faster for {model} is not known.",
            (f"{by_model[model]} replies of {model} in {len(days)} days, all with other backends",),
            Act("benchmark", model, loader),
            weight=1,
        )


def _by_loader(record: Record, here: Here) -> dict[str, list[LoadRecord]]:
    found: defaultdict[str, list[LoadRecord]] = defaultdict(list)
    for one in recent(record.loads, here, WEEKS):
        found[one.under.loader].append(one)
    return dict(found)


def _dead(loads: list[LoadRecord]) -> bool:
    """Every attempt failed, with several models or for want of a sound installation."""
    if len(loads) < FEWEST_LOADS or any(one.outcome == "worked" for one in loads):
        return False
    installation = all(one.category == "installation" for one in loads)
    return installation or len({one.under.model for one in loads}) >= 2
