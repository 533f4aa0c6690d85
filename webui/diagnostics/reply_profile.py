"""Where the time of one reply went: from the question to the last word on the screen, as spans on one line of time.

Nothing is measured for it that is not measured of every reply. The engine's share is its own figure; all else is seen
from the app.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any

from webui.pool.jobs import Job

TEMPLATE, QUEUE, PROMPT, FIRST_TOKEN, TOKENS, RENDERING = (
    "template",
    "queue",
    "prompt",
    "first token",
    "tokens",
    "rendering",
)
"""The spans, in the order they begin."""
PAUSE = 4.0
"""A token that took so many times the usual is worth a word."""


@dataclass(frozen=True, slots=True)
class Span:
    """Seconds from the question. `about` says in a few words what happened in it."""

    name: str
    start: float
    end: float
    about: str

    @property
    def seconds(self) -> float:
        return self.end - self.start


@dataclass(frozen=True, slots=True)
class ReplyProfile:
    """One reply. `first_token_seconds` and `total_seconds` count from the question, with the making of the prompt.

    `usual_token_seconds` is the median between two tokens, `slowest_token_seconds` the longest.
    """

    loader: str
    state: str
    spans: tuple[Span, ...]
    first_token_seconds: float | None
    total_seconds: float
    prompt_tokens: int | None
    cached_tokens: int | None
    completion_tokens: int
    tokens_per_second: float | None
    usual_token_seconds: float | None
    slowest_token_seconds: float | None

    def span(self, name: str) -> Span | None:
        return next((span for span in self.spans if span.name == name), None)

    @property
    def remark(self) -> str:
        """What took longer than it should have, in one sentence; empty where nothing did."""
        usual, slowest = self.usual_token_seconds, self.slowest_token_seconds
        queue = self.span(QUEUE)
        if queue is not None and queue.seconds > self.total_seconds / 3:
            return "It mostly waited for its turn: other replies were being written."
        if usual and slowest is not None and slowest > PAUSE * usual and slowest > 0.2:
            return (
                f"One token took {slowest:.1f} s, where {usual * 1000:.0f} ms are usual: something held the engine up."
            )
        return ""

    def to_dict(self) -> dict[str, Any]:
        return {**asdict(self), "remark": self.remark}


def profile_of(job: Job) -> ReplyProfile:
    """The profile of `job` as far as it has come; whole once it has ended."""
    before = job.prepared_seconds or 0.0
    finished = job.finished
    times = list(job.arrivals)
    gaps = [later - earlier for earlier, later in pairwise(times)]
    spans = tuple(_spans(job, before, times))
    ends = [span.end for span in spans]
    return ReplyProfile(
        loader=job.loader,
        state=job.state.value,
        spans=spans,
        first_token_seconds=None if job.first_token_seconds is None else before + job.first_token_seconds,
        total_seconds=max([before + (job.total_seconds or 0.0), *ends]),
        prompt_tokens=finished.prompt_tokens if finished is not None else None,
        cached_tokens=finished.cached_tokens if finished is not None else None,
        completion_tokens=finished.completion_tokens if finished is not None else job.tokens,
        tokens_per_second=job.tokens_per_second,
        usual_token_seconds=statistics.median(gaps) if gaps else None,
        slowest_token_seconds=max(gaps, default=None),
    )


def _spans(job: Job, before: float, times: list[float]) -> Iterator[Span]:
    if job.prepared_seconds is not None:
        yield Span(TEMPLATE, 0.0, before, "the messages became one text, and it was made sure that it fits")
    started = job.started_seconds
    if started is None:
        if job.total_seconds is not None:
            yield Span(QUEUE, before, before + job.total_seconds, "it waited, and never began")
        return
    yield Span(QUEUE, before, before + started, "it waited for its turn")
    if job.first_token_seconds is None:
        if job.total_seconds is not None:
            yield Span(PROMPT, before + started, before + job.total_seconds, "the prompt was being read")
        return
    first = before + job.first_token_seconds
    finished = job.finished
    # The engine's own figure, where it fits in: a reply that went to another engine has but the last one's.
    own = finished.prompt_seconds if finished is not None else job.first_token_seconds - started
    read = min(first, before + started + own)
    told = f"{finished.prompt_tokens:,} tokens read, {finished.cached_tokens:,} of them remembered" if finished else ""
    yield Span(PROMPT, before + started, read, told or "the prompt was read")
    yield Span(FIRST_TOKEN, read, first, "on its way to the engine and back")
    if len(times) > 1:
        yield Span(TOKENS, first, before + times[-1], f"{job.tokens:,} tokens written")
    if job.shown_until is not None:
        busy = f"{job.shown_seconds * 1000:.0f} ms of work, beside the writing"
        yield Span(RENDERING, first, max(first, before + job.shown_until), busy)
