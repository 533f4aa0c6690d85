"""Settings compared by their speeds: what a trial gives, a race of several, and the last one against the default."""

from __future__ import annotations

import math
import statistics
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

from webui.planning.tunables import Setting

TYPICAL_PROMPT = 200
TYPICAL_REPLY = 200
"""Tokens of the exchange whose time is compared: the new part of a conversation's prompt, and a reply."""
LEAST_GAIN = 0.02
"""What is not faster by this much is not worth leaving the usual settings for."""
LEAST_ROUNDS, FIRST_ROUNDS, ALL_ROUNDS = 3, 5, 9
"""Rounds of the last race: those that decide a plain one, those that decide a clear one, and the most there are."""
PLAIN_GAIN = 0.08
"""Who is faster by this much in every round has plainly won."""


@dataclass(frozen=True, slots=True)
class Trial:
    """One measurement asked for. `about` says what for."""

    number: int
    setting: Setting
    about: str


@dataclass(frozen=True, slots=True)
class Result:
    """What a trial gave: tokens per second of the reply and of the prompt; or, in `failure`, why it gave nothing.

    `seconds` is the time the trial took in all, loading included.
    """

    reply: float = 0.0
    prompt: float | None = None
    seconds: float = 0.0
    failure: str = ""

    @property
    def wait(self) -> float:
        return wait_seconds(self.reply, self.prompt)


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the search found. `setting` is to be used; where that is `default`, nothing was faster beyond noise.

    `gain` is how many times faster it is than the default (the median of the last race's rounds); `before` and `after`
    are the medians of both in these rounds. `decided` is false where the time was too short to tell.
    """

    default: Setting
    setting: Setting
    gain: float = 1.0
    before: Result | None = None
    after: Result | None = None
    decided: bool = True

    @property
    def improved(self) -> bool:
        return self.setting != self.default


@dataclass(slots=True)
class Seen:
    """A trial with its result. `ratio` is its speed over that of the first of its round, where both are known."""

    trial: Trial
    result: Result
    ratio: float | None = None


def wait_seconds(reply: float, prompt: float | None) -> float:
    """How long a typical exchange takes at these speeds (tokens per second); without a prompt's speed, its reply."""
    if reply <= 0 or (prompt is not None and prompt <= 0):
        return math.inf
    return TYPICAL_REPLY / reply + (TYPICAL_PROMPT / prompt if prompt is not None else 0.0)


@dataclass(slots=True)
class Race:
    """One race: who is measured against `first` still, and by round the logarithms of their speed over its speed."""

    first: Setting
    running: list[Setting]
    logs: dict[Setting, list[float]] = field(default_factory=lambda: defaultdict(list))

    def means(self) -> dict[Setting, float]:
        return {setting: statistics.fmean(logs) for setting, logs in self.logs.items()}

    def winner(self, margin: float) -> Setting:
        """One that is faster than the first by more than `margin`, else the first."""
        means = self.means()
        best = max(means, key=lambda setting: means[setting], default=self.first)
        return best if means.get(best, 0.0) > margin else self.first


@dataclass(slots=True)
class Duel:
    """The last race: how many times faster the found setting was than the default, measured before and after it."""

    ratios: list[float] = field(default_factory=list)
    before: list[Result] = field(default_factory=list)
    after: list[Result] = field(default_factory=list)

    def add(self, opened: Result, found: Result, closed: Result) -> None:
        self.ratios.append(math.sqrt(opened.wait * closed.wait) / found.wait)
        self.before += [opened, closed]
        self.after.append(found)

    @property
    def plain(self) -> bool:
        """Whether it is so much faster that few rounds tell."""
        return len(self.ratios) >= LEAST_ROUNDS and min(self.ratios) > 1 + PLAIN_GAIN

    @property
    def clear(self) -> bool:
        """Whether further rounds could hardly change the answer."""
        if len(self.ratios) < FIRST_ROUNDS:
            return self.plain
        faster = sum(ratio > 1 + LEAST_GAIN for ratio in self.ratios)
        return faster == len(self.ratios) or faster <= len(self.ratios) // 4

    def verdict(self, default: Setting, found: Setting) -> Verdict:
        """Whether `found` is faster than `default` beyond noise."""
        before, after = medians(self.before), medians(self.after)
        if len(self.ratios) < FIRST_ROUNDS and not self.plain:
            return Verdict(default, default, 1.0, before, before, decided=False)
        gain = statistics.median(self.ratios)
        # Faster in all of five rounds, in all but one of nine: by chance alone that is rare.
        slower = sum(ratio <= 1 for ratio in self.ratios)
        if gain < 1 + LEAST_GAIN or slower > (len(self.ratios) - 1) // FIRST_ROUNDS:
            return Verdict(default, default, 1.0, before, before)
        return Verdict(default, found, gain, before, after)


def medians(results: Sequence[Result]) -> Result | None:
    """The median of each speed by itself."""
    if not results:
        return None
    prompts = [one.prompt for one in results if one.prompt is not None]
    return Result(statistics.median(one.reply for one in results), statistics.median(prompts) if prompts else None)
