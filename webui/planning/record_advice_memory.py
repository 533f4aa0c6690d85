"""Advice on memory: it grows, it will run out, loads fail at a context, a context is too large or too small."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence

from webui.planning.record import LoadRecord, Record, ReplyRecord
from webui.planning.record_forecast import growth_with_depth
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
    occasions,
    recent,
)
from webui.planning.robust import slope
from webui.planning.words import size

MIB = 1024 * 1024
WARM_UP = 3
"""Replies in which an engine takes what it needs for good."""
FEWEST_REPLIES = 10
LEAST_PER_REPLY = MIB / 2
LEAST_IN_ALL = 48 * MIB
ORDERLY = 0.5
FEWEST_LOADS = 3
FULL_SHARE = 0.9
"""What is free may be filled up to here before the next long prompt."""
SHORT_OF_MEMORY = frozenset(
    {"device_out_of_memory", "host_out_of_memory", "engine_crashed", "timed_out", "engine_hung"}
)
LARGE_CONTEXT = 16384
SMALLEST_CONTEXT = 2048
LARGE_SHARE = 0.5


def growing_memory(record: Record, here: Here) -> Iterator[RecordAdvice]:
    """The loaded model's worker holds more after each reply, and not because its context is longer than before."""
    if here.loaded is None:
        return
    loaded = here.loaded
    life = [one for one in recent(record.replies, here, WEEKS) if one.life == loaded.life]
    deepest, kept = 0, []
    for place, one in enumerate(life):
        if one.memory and one.depth <= deepest and place >= WARM_UP:
            kept.append((float(place), float(one.memory)))
        deepest = max(deepest, one.depth)
    found = slope(kept) if len(kept) >= FEWEST_REPLIES else None
    if found is None or found.order < ORDERLY or found.per_step < LEAST_PER_REPLY:
        return
    if found.per_step * (kept[-1][0] - kept[0][0]) < LEAST_IN_ALL:
        return
    evidence = [f"{size(int(kept[0][1]))} to {size(int(kept[-1][1]))} over {len(life)} replies, {between(life)}"]
    if here.free is not None:
        evidence.append(f"{size(here.free)} are free: enough for about {here.free / found.per_step:,.0f} replies more")
    yield RecordAdvice(
        "growing-memory",
        loaded.model,
        loaded.loader,
        f"Memory of {loaded.loader} grows {found.per_step / MIB:.1f} MiB with each reply: starting its worker again is "
        "advised.",
        tuple(evidence),
        Act("restart", loaded.model, loaded.loader),
        found.per_step / MIB,
        weight=3,
    )


def filling_context(record: Record, here: Here) -> Iterator[RecordAdvice]:
    """The loaded model takes memory as its context fills, and there is not enough for the rest of it."""
    if here.loaded is None or here.free is None or not here.loaded.context:
        return
    loaded = here.loaded
    growing = growth_with_depth([one for one in recent(record.replies, here, WEEKS) if one.life == loaded.life])
    if growing is None:
        return
    rest = max(0, loaded.context - growing.deepest)
    enough = int(here.free * FULL_SHARE / growing.per_token)
    if enough >= rest:
        return
    reach = growing.deepest + enough
    yield RecordAdvice(
        "filling-context",
        loaded.model,
        loaded.loader,
        f"Memory may run out at about {reach:,} of the {loaded.context:,} tokens of context of {loaded.model}.",
        (
            f"{growing.per_token / 1024:.0f} KiB more for each token, in {growing.seen} replies of up to "
            f"{growing.deepest:,} tokens",
            f"{size(here.free)} are free, the rest of the context would take {size(int(rest * growing.per_token))}",
        ),
        Act("load", loaded.model, loaded.loader, {"context_size": _rounded(reach)}),
        rest / max(1, enough),
        weight=3,
    )


def failing_at_context(record: Record, here: Here) -> Iterator[RecordAdvice]:
    """A model often fails to load with a context, and loads with a smaller one."""
    for (model, loader), loads in loads_of(record, here, WEEKS).items():
        by_context: defaultdict[int, list[LoadRecord]] = defaultdict(list)
        for one in loads:
            by_context[one.under.context].append(one)
        for context, tried in sorted(by_context.items()):
            failed = [one for one in tried if one.code in SHORT_OF_MEMORY]
            if context <= SMALLEST_CONTEXT or len(tried) < FEWEST_LOADS or 2 * len(failed) < len(tried):
                continue
            if all(one.outcome == "worked" for one in tried[-2:]):
                continue
            smaller = [
                (other, its)
                for other, its in by_context.items()
                if 0 < other < context and its[-1].outcome == "worked" and _share(its) < 0.25
            ]
            if len(failed) < 2 or (not smaller and len(failed) < FEWEST_LOADS):
                continue
            works = max(smaller)[0] if smaller else 0
            evidence = [f"{codes(tried)}; {between(tried)}"]
            if works:
                worked = sum(one.outcome == "worked" for one in by_context[works])
                evidence.append(f"with {works:,} tokens {worked} of {len(by_context[works])} worked")
            yield RecordAdvice(
                "failing-at-context",
                model,
                loader,
                f"{model} fails {len(failed)} of {len(tried)} loads at {context:,} tokens of context with {loader}.",
                tuple(evidence),
                Act("load", model, loader, {"context_size": works or context // 2}),
                float(len(failed)),
                weight=3,
                about=str(context),
            )


def context_too_short(record: Record, here: Here) -> Iterator[RecordAdvice]:
    """Prompts do not fit the context again and again."""
    for (model, loader), replies in in_use(record, here, LATELY).items():
        same = [one for one in replies if one.under.context == replies[-1].under.context]
        refused = [one for one in same if one.code == "context_too_long"]
        context = replies[-1].under.context
        if len(refused) >= 3 and len(refused) >= len(same) / 20 and context:
            yield RecordAdvice(
                "context-too-short",
                model,
                loader,
                f"Prompts for {model} are longer than its context of {context:,} tokens.",
                (f"{len(refused)} of {len(same)} replies were refused for it, {between(refused)}",),
                Act("load", model, loader, {"context_size": 2 * context}),
                float(len(refused)),
                about=str(context),
            )


def context_unused(record: Record, here: Here) -> Iterator[RecordAdvice]:
    """A model that fills much of the memory has a context that nobody uses."""
    if here.memory is None:
        return
    for (model, loader), replies in in_use(record, here, WEEKS).items():
        context = replies[-1].under.context
        same = [one for one in replies if one.under.context == context and one.memory]
        if context < LARGE_CONTEXT or len(same) < 30 or occasions(same) < 3:
            continue
        deepest = max(one.depth for one in same)
        held = _largest(same)
        if deepest * 8 > context or held < LARGE_SHARE * here.memory:
            continue
        yield RecordAdvice(
            "context-unused",
            model,
            loader,
            f"{model} has a context of {context:,} tokens and never used more than {deepest:,}.",
            (
                f"the longest of {len(same)} replies, {between(same)}",
                f"it holds {size(held)} of {size(here.memory)}; a smaller context takes less",
            ),
            Act("load", model, loader, {"context_size": max(SMALLEST_CONTEXT, _power(2 * deepest))}),
            context / max(1, deepest),
            weight=1,
            about=str(context),
        )


def _share(loads: Sequence[LoadRecord]) -> float:
    return sum(one.outcome == "failed" for one in loads) / len(loads)


def _largest(replies: Sequence[ReplyRecord]) -> int:
    return max(one.memory or 0 for one in replies)


def _power(count: int) -> int:
    """The next power of two."""
    return 1 << (count - 1).bit_length()


def _rounded(count: int) -> int:
    """Down to whole 256 tokens."""
    return max(512, count // 256 * 256)
