"""Advice on speed: another backend is faster, replies became slower, first words are late, a GPU is idle."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any

from webui.planning.record import Conditions, Record, ReplyRecord
from webui.planning.record_rules import (
    DAY_SECONDS,
    LATELY,
    WEEKS,
    Act,
    Here,
    RecordAdvice,
    alone,
    day,
    in_use,
    occasions,
    recent,
    speeds,
    told,
)
from webui.planning.robust import Ratio, ratio_of

FEWEST = 6
"""Replies on either side of a comparison."""
FASTER = 1.15
SLOWER = 0.87
DRIFTED = 0.8
DRIFT_DAYS = 5.0
WORTH = 1.1
"""A typical exchange, prompt and all, has to be as many times as fast."""
LATE_SECONDS = 4.0
LONG_PROMPT = 1000
WAITED_SECONDS = 2.0
IDLE_PERCENT = 10.0
FIELDS = ("version", "driver", "settings", "device")


def faster_backend(record: Record, here: Here) -> Iterator[RecordAdvice]:
    """A backend that was measured with the model is faster than the one that is used."""
    by_model: defaultdict[str, list[ReplyRecord]] = defaultdict(list)
    for one in alone(recent(record.replies, here, WEEKS)):
        by_model[one.under.model].append(one)
    for model, replies in by_model.items():
        used = replies[-1].under.loader
        mine = _as_now([one for one in replies if one.under.loader == used])
        found: list[tuple[Ratio, str, list[ReplyRecord]]] = []
        for other in sorted({one.under.loader for one in replies} & here.ready - {used}):
            its = _as_now([one for one in replies if one.under.loader == other])
            ratio = ratio_of(speeds(its), speeds(mine), FEWEST)
            if ratio is None or its[-1].under.driver != mine[-1].under.driver or _fails(record, here, model, other):
                continue
            if ratio.value >= FASTER and ratio.surely_more and _exchange(mine) >= WORTH * _exchange(its):
                found.append((ratio, other, its))
        if found:
            ratio, other, its = max(found, key=lambda one: one[0].value)
            yield RecordAdvice(
                "faster-backend",
                model,
                used,
                f"{other} is {ratio.value:.1f} × as fast as {used} for {model} here.",
                (told(other, its), told(used, mine), "compared at like depths of the context"),
                Act("prefer", model, other),
                ratio.value,
                about=other,
            )


def slower_since(record: Record, here: Here) -> Iterator[RecordAdvice]:
    """Speed fell when the engine, the driver, a setting or the device changed."""
    for (model, loader), replies in in_use(record, here, WEEKS).items():
        for before, after in _changes(alone(replies)):
            ratio = ratio_of(speeds(after), speeds(before), FEWEST)
            if ratio is None or ratio.value > SLOWER or not ratio.surely_less:
                continue
            if min(occasions(before), occasions(after)) >= 2:
                yield _slower(model, loader, before, after, ratio, record.settings)


def drifting(record: Record, here: Here) -> Iterator[RecordAdvice]:
    """Replies of the last days are slower, and nothing that is known has changed."""
    for (model, loader), replies in in_use(record, here, WEEKS).items():
        same = _as_now(alone(replies))
        since = here.now - DRIFT_DAYS * DAY_SECONDS
        before, after = [one for one in same if one.at < since], [one for one in same if one.at >= since]
        ratio = ratio_of(speeds(after), speeds(before), FEWEST)
        if ratio is None or ratio.value > DRIFTED or not ratio.surely_less:
            continue
        if min(occasions(before), occasions(after)) >= 2:
            yield RecordAdvice(
                "drifting",
                model,
                loader,
                f"{model} became {_percent(1 - ratio.value)} slower with {loader}, and no version, driver or setting "
                "changed: something else uses the machine, or it runs hot.",
                (told("before", before), told("lately", after)),
                Act("check"),
                1 / ratio.value,
            )


def late_first_token(record: Record, here: Here) -> Iterator[RecordAdvice]:
    """The first words take long because long prompts are read slowly."""
    for (model, loader), replies in in_use(record, here, LATELY).items():
        known = [one for one in alone(replies) if one.first_token is not None and one.prompt_speed]
        if len(known) < FEWEST:
            continue
        waits = [(one.first_token or 0.0) - one.queued for one in known]
        reading = [one.read / one.prompt_speed for one in known if one.prompt_speed]
        wait, read = statistics.median(waits), statistics.median(one.read for one in known)
        if wait < LATE_SECONDS or read < LONG_PROMPT or statistics.median(reading) < 0.6 * wait:
            continue
        speed = statistics.median(one.prompt_speed for one in known if one.prompt_speed)
        cached = 1 - sum(one.read for one in known) / max(1, sum(one.prompt_tokens for one in known))
        yield RecordAdvice(
            "late-first-token",
            model,
            loader,
            f"The first words of {model} take {wait:.1f} s: prompts are long. Larger batches or more layers on the GPU "
            "read them faster; a smaller context keeps them short.",
            (
                f"{read:,.0f} tokens of prompt read at {speed:,.0f} tokens/s, in the median of {len(known)} replies",
                f"{_percent(cached)} of the prompts came from the cache",
            ),
            Act("tune", model, loader),
            wait,
        )


def waiting_in_line(record: Record, here: Here) -> Iterator[RecordAdvice]:
    """Replies wait for others to end, and the engine could write several at once."""
    for (model, loader), replies in in_use(record, here, LATELY).items():
        waits = [one.queued for one in replies]
        waited = [one for one in waits if one >= WAITED_SECONDS]
        if len(waits) < 10 or len(waited) < len(waits) / 2 or any(one.shared for one in replies):
            continue
        others = sorted(here.ready & here.with_slots - {loader})
        act = Act("load", model, loader, {"slots": 4}) if loader in here.with_slots else None
        if act is None and others:
            act = Act("prefer", model, others[0])
        yield RecordAdvice(
            "waiting-in-line",
            model,
            loader,
            f"Requests to {model} wait {statistics.median(waits):.1f} s for their turn: it writes one reply at a time.",
            (f"{len(waited)} of {len(waits)} replies waited for {WAITED_SECONDS:.0f} s or more",),
            act,
            statistics.median(waits),
        )


def idle_gpu(record: Record, here: Here) -> Iterator[RecordAdvice]:
    """There is a GPU, and the model is computed elsewhere."""
    if not here.gpu:
        return
    for (model, loader), replies in in_use(record, here, LATELY).items():
        same = _as_now(alone(replies))
        sampled = [one.gpu_use for one in same if one.gpu_use is not None]
        on_cpu = len(same) >= FEWEST and same[-1].under.device == "cpu"
        idle = len(sampled) >= FEWEST and statistics.median(sampled) < IDLE_PERCENT
        if not on_cpu and not idle:
            continue
        others = sorted(here.ready & here.on_gpu & here.suitable.get(model, here.ready) - {loader})
        act = Act("repair", loader=loader)
        if loader in here.on_gpu:
            act = Act("load", model, loader, {"gpu_layers": -1})
        elif others:
            act = Act("prefer", model, others[0])
        evidence = [told(f"{loader} on {same[-1].under.device or 'an unknown device'}", same)] if same else []
        if sampled:
            evidence.append(f"GPU use {statistics.median(sampled):.0f} % in the median of {len(sampled)} replies")
        yield RecordAdvice(
            "idle-gpu", model, loader, f"The GPU is idle while {loader} writes with {model}.", tuple(evidence), act
        )


def _as_now(replies: Sequence[ReplyRecord]) -> list[ReplyRecord]:
    """Those under the conditions of the last one, as far as they change speed."""
    return [one for one in replies if _speed_key(one.under) == _speed_key(replies[-1].under)]


def _speed_key(under: Conditions) -> tuple[Any, ...]:
    return tuple(getattr(under, name) for name in FIELDS)


def _changes(replies: Sequence[ReplyRecord]) -> Iterator[tuple[list[ReplyRecord], list[ReplyRecord]]]:
    """For each change that still holds: the replies of the stretch before it, and of the one behind it; where that is
    too short to tell anything, all since.
    """
    stretches = [list(group) for _key, group in groupby(replies, lambda one: _speed_key(one.under))]
    for place in range(1, len(stretches)):
        before, behind = stretches[place - 1], stretches[place]
        old, new, now = (_speed_key(one.under) for one in (before[-1], behind[0], replies[-1]))
        if any(one != two and two != three for one, two, three in zip(old, new, now, strict=True)):
            continue
        enough = len(behind) >= FEWEST and occasions(behind) >= 2
        yield before, behind if enough else [one for stretch in stretches[place:] for one in stretch]


def _slower(
    model: str,
    loader: str,
    before: Sequence[ReplyRecord],
    after: Sequence[ReplyRecord],
    ratio: Ratio,
    settings: Mapping[str, Mapping[str, Any]],
) -> RecordAdvice:
    old, new = before[-1].under, after[0].under
    changed = [name for name in FIELDS if getattr(old, name) != getattr(new, name)]
    act = Act("tune", model, loader) if "settings" in changed else Act("benchmark", model, loader)
    if "device" in changed:
        act = Act("restart", model, loader)
    said = " and ".join(_change(name, old, new, loader, settings) for name in changed)
    return RecordAdvice(
        "slower-since",
        model,
        loader,
        f"Speed of {model} fell {_percent(1 - ratio.value)} since {said}.",
        (
            told("before", before),
            told("since", after),
            f"changed on {day(after[0].at)}; compared at like depths of the context",
        ),
        act,
        1 / ratio.value,
        about=",".join(changed),
    )


def _change(name: str, old: Conditions, new: Conditions, loader: str, settings: Mapping[str, Mapping[str, Any]]) -> str:
    one, two = getattr(old, name) or "unknown", getattr(new, name) or "unknown"
    if name == "settings":
        return f"the settings changed ({differences(settings.get(one, {}), settings.get(two, {}))})"
    if name == "device":
        return f"it runs on {two} and no longer on {one}"
    return f"{loader} changed from {one} to {two}" if name == "version" else f"the driver changed from {one} to {two}"


def differences(one: Mapping[str, Any], other: Mapping[str, Any]) -> str:
    """`threads 8 → 4, flash_attention on → off`; "which is not kept" where nothing is known."""
    names = [name for name in one.keys() & other.keys() if one[name] != other[name]]
    shown = [f"{name} {_shown(one[name])} → {_shown(other[name])}" for name in sorted(names)]
    return ", ".join(shown[:4]) + (f" and {len(shown) - 4} more" if len(shown) > 4 else "") or "not kept which"


def _shown(value: Any) -> str:
    return ("on" if value else "off") if isinstance(value, bool) else str(value) or "none"


def _exchange(replies: Iterable[ReplyRecord]) -> float:
    """Seconds of reading 500 tokens and writing 200, by medians; without the reading where that is not known."""
    known = list(replies)
    prompts = [one.prompt_speed for one in known if one.prompt_speed]
    reading = 500 / statistics.median(prompts) if len(prompts) >= 3 else 0.0
    return reading + 200 / statistics.median(one.speed for one in known if one.speed)


def _fails(record: Record, here: Here, model: str, loader: str) -> bool:
    loads = [one for one in recent(record.loads, here, WEEKS) if (one.under.model, one.under.loader) == (model, loader)]
    failed = sum(one.outcome == "failed" for one in loads)
    return bool(failed > len(loads) / 4)


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"
