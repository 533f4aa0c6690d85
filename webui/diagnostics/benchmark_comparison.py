"""Two benchmarks side by side: what is faster, what is slower, and what may be chance.

Each figure was measured several times on both sides. A difference of medians counts only where it is larger than the
noise: half of what lies between the lowest and the highest value, of both sides together. With fewer than `FEWEST`
values on a side nothing can be said of noise, and so nothing of the difference.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from webui.diagnostics.benchmark_results import BenchmarkRun, DepthResult, Figure, LoaderResult

Verdict = Literal["better", "worse", "noise", "unknown"]

FEWEST = 3
LEAST_NOISE = 0.01
"""However alike the runs of one side are, machines are not more constant than this from day to day."""
SAME_LENGTH = 0.05
"""How much the prompts of both sides may differ in length, as a share."""


@dataclass(frozen=True, slots=True)
class Difference:
    """One figure of one loader, now and before. `depth` is `None` for what does not depend on it.

    `change` is (now − before) / before, `noise` a share likewise. More is better, except of seconds and bytes.
    """

    loader: str
    depth: int | None
    what: str
    now: float
    before: float
    change: float
    noise: float | None
    verdict: Verdict


@dataclass(frozen=True, slots=True)
class Comparison:
    """`warnings` say what makes the two incomparable, `remarks` what may explain a difference."""

    now: str
    before: str
    warnings: tuple[str, ...]
    remarks: tuple[str, ...]
    differences: tuple[Difference, ...]
    missing: tuple[str, ...] = ()

    @property
    def beyond_noise(self) -> tuple[Difference, ...]:
        return tuple(one for one in self.differences if one.verdict in ("better", "worse"))

    def at(self, loader: str, depth: int | None, what: str) -> Difference | None:
        same = (one for one in self.differences if (one.loader, one.depth, one.what) == (loader, depth, what))
        return next(same, None)


PROMPT = "prompt speed"
SPEED = "generation speed"
FIRST_TOKEN = "first token"
LOAD = "load time"
PEAK_MEMORY = "peak memory"
LESS_IS_BETTER = frozenset({FIRST_TOKEN, LOAD, PEAK_MEMORY})


def compare(now: BenchmarkRun, before: BenchmarkRun) -> Comparison:
    """`now` against `before`, loader by loader and depth by depth, as far as both were measured."""
    differences: list[Difference] = []
    missing: list[str] = []
    for result in now.results:
        earlier = before.result(result.loader)
        if earlier is None or not earlier.measured:
            missing.append(f"{result.loader} was not measured before.")
        elif result.measured:
            differences += _of_loader(result, earlier)
    missing += [
        f"{earlier.loader} was measured before, and is not now."
        for earlier in before.results
        if earlier.measured and not any(one.loader == earlier.loader and one.measured for one in now.results)
    ]
    return Comparison(
        now.id,
        before.id,
        tuple(_warnings(now, before)),
        tuple(_remarks(now, before)),
        tuple(differences),
        tuple(missing),
    )


def _of_loader(now: LoaderResult, before: LoaderResult) -> Iterator[Difference]:
    yield from _difference(now.loader, None, LOAD, now.load, before.load)
    same = [one.depth for one in now.measured] == [one.depth for one in before.measured]
    if now.peak_memory_bytes and before.peak_memory_bytes and same:
        ours, theirs = now.peak_memory_bytes, before.peak_memory_bytes
        change = (ours - theirs) / theirs
        verdict: Verdict = "noise" if abs(change) <= LEAST_NOISE else "worse" if change > 0 else "better"
        yield Difference(now.loader, None, PEAK_MEMORY, ours, theirs, change, LEAST_NOISE, verdict)
    earlier = {one.depth: one for one in before.measured}
    for found in now.measured:
        if (other := earlier.get(found.depth)) is None:
            continue
        for what, ours_of, theirs_of in (
            (PROMPT, found.prompt_speed, other.prompt_speed),
            (FIRST_TOKEN, found.first_token, other.first_token),
            (SPEED, found.speed, other.speed),
        ):
            yield from _difference(now.loader, found.depth, what, ours_of, theirs_of)


def _difference(
    loader: str, depth: int | None, what: str, now: Figure | None, before: Figure | None
) -> Iterator[Difference]:
    if now is None or before is None or before.median <= 0:
        return
    change = (now.median - before.median) / before.median
    noise = noise_of(now, before)
    yield Difference(loader, depth, what, now.median, before.median, change, noise, _verdict(what, change, noise))


def noise_of(now: Figure, before: Figure) -> float | None:
    """The noise of both sides together, as a share of the earlier median; `None` where there are too few values."""
    if min(len(now.values), len(before.values)) < FEWEST or before.median <= 0:
        return None
    halves = (now.highest - now.lowest + before.highest - before.lowest) / 2
    return max(LEAST_NOISE, halves / before.median)


def _verdict(what: str, change: float, noise: float | None) -> Verdict:
    if noise is None:
        return "unknown"
    if abs(change) <= noise:
        return "noise"
    return "better" if (change < 0) == (what in LESS_IS_BETTER) else "worse"


def _warnings(now: BenchmarkRun, before: BenchmarkRun) -> Iterator[str]:
    if now.machine != before.machine:
        yield f"They ran on different machines: {before.machine} before, {now.machine} now."
    if (now.model, now.file_bytes) != (before.model, before.file_bytes):
        yield (
            f"They ran different files: {before.model} ({before.file_bytes:,} bytes) before, "
            f"{now.model} ({now.file_bytes:,} bytes) now."
        )
    for run, when in ((before, "The earlier one"), (now, "This one")):
        if run.disturbed:
            yield f"{when} was disturbed: other replies were written meanwhile."
        if run.state in ("stopped", "failed"):
            yield f"{when} did not come to its end."
    for ours, theirs in _depths_of_both(now, before):
        if _lengths_differ(ours, theirs):
            yield (
                f"The prompts at depth {ours.depth:,} differ in length: {_middle(theirs):,} tokens before, "
                f"{_middle(ours):,} now."
            )


def _remarks(now: BenchmarkRun, before: BenchmarkRun) -> Iterator[str]:
    if now.reply_tokens != before.reply_tokens:
        yield f"Replies had up to {before.reply_tokens:,} tokens before, {now.reply_tokens:,} now."
    if now.depths != before.depths:
        depths = [", ".join(f"{depth:,}" for depth in run.depths) for run in (before, now)]
        yield f"The depths were {depths[0]} before, {depths[1]} now: memory cannot be compared."
    if now.app_version != before.app_version:
        yield f"The app was version {before.app_version} before, {now.app_version} now."
    for result in now.results:
        earlier = before.result(result.loader)
        if earlier is None or not (result.measured and earlier.measured):
            continue
        ours, theirs = (f"{one.engine} {one.engine_version}".strip() for one in (result, earlier))
        if ours != theirs:
            yield f"{result.loader} ran {theirs} before, {ours} now."
        if result.device != earlier.device:
            yield f"{result.loader} ran on {earlier.device} before, on {result.device} now."
        changed = sorted(
            name
            for name in {*result.parameters, *earlier.parameters}
            if result.parameters.get(name) != earlier.parameters.get(name)
        )
        for name in changed:
            yield (
                f"{result.loader} had {name} = {earlier.parameters.get(name)} before, "
                f"{result.parameters.get(name)} now."
            )


def _depths_of_both(now: BenchmarkRun, before: BenchmarkRun) -> Iterator[tuple[DepthResult, DepthResult]]:
    """One pair for each depth: that of the first loader which was measured there both times."""
    seen: set[int] = set()
    for result in now.results:
        earlier = {one.depth: one for one in (before.result(result.loader) or LoaderResult(result.loader)).measured}
        for found in result.measured:
            if found.depth in earlier and found.depth not in seen:
                seen.add(found.depth)
                yield found, earlier[found.depth]


def _lengths_differ(ours: DepthResult, theirs: DepthResult) -> bool:
    return abs(_middle(ours) - _middle(theirs)) > SAME_LENGTH * max(1, _middle(theirs))


def _middle(found: DepthResult) -> int:
    return sorted(found.prompt_tokens)[len(found.prompt_tokens) // 2] if found.prompt_tokens else 0
