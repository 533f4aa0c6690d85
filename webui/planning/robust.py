"""Statistics that a few odd values do not move: medians, their errors, ratios of like with like, and slopes."""

from __future__ import annotations

import math
import statistics
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

SAME = 0.02
"""Two measurements of the same thing differ by this share at least; a smaller spread is luck."""
FEWEST = 3
"""Values that a median needs to be worth comparing."""
SURE = 2.5
"""Standard errors by which a difference is more than noise."""
MOST_POINTS = 120
"""A slope is found from pairs; more points than this are thinned out."""


@dataclass(frozen=True, slots=True)
class Middle:
    """The median of `count` values; `error` is its standard error, as a share of it."""

    count: int
    value: float
    error: float


@dataclass(frozen=True, slots=True)
class Ratio:
    """How many times as large one group is as another, `error` being that of its logarithm.

    `order` is how many standard errors the ranks of its values lie above those of the other's. Where values fall into
    two heaps, as on a machine that slows down when hot, a median jumps from one to the other and ranks do not.
    """

    value: float
    error: float
    order: float

    @property
    def surely_less(self) -> bool:
        return math.log(self.value) + SURE * self.error < 0 and self.order < -SURE

    @property
    def surely_more(self) -> bool:
        return math.log(self.value) - SURE * self.error > 0 and self.order > SURE


@dataclass(frozen=True, slots=True)
class Slope:
    """`per_step`: by how much a value changes a step, in the median; `order`: Kendall's tau, 1 where it only rises."""

    per_step: float
    order: float


def middle(values: Sequence[float]) -> Middle | None:
    """`None` for too few values, or a median of nothing."""
    if len(values) < FEWEST:
        return None
    value = statistics.median(values)
    if value <= 0:
        return None
    spread = 1.4826 * statistics.median(abs(one - value) for one in values)
    return Middle(len(values), value, max(1.2533 * spread / math.sqrt(len(values)) / value, SAME))


def ratio_of(
    one: Mapping[Hashable, Sequence[float]], other: Mapping[Hashable, Sequence[float]], fewest: int
) -> Ratio | None:
    """How many times as large as `other` is `one`, comparing only classes that both have, each by its certainty.

    `None` where fewer than `fewest` values of either lie in such classes.
    """
    pairs = [(key, middle(one[key]), middle(other[key])) for key in one.keys() & other.keys()]
    both = [(mine, its) for _, mine, its in pairs if mine is not None and its is not None]
    if min(sum(mine.count for mine, _ in both), sum(its.count for _, its in both)) < fewest:
        return None
    weights = [1 / (mine.error**2 + its.error**2) for mine, its in both]
    logs = [math.log(mine.value / its.value) for mine, its in both]
    together = sum(weight * log for weight, log in zip(weights, logs, strict=True)) / sum(weights)
    ranked = [(one[key], other[key]) for key, mine, its in pairs if mine is not None and its is not None]
    return Ratio(math.exp(together), math.sqrt(1 / sum(weights)), _order(ranked))


def _order(groups: Sequence[tuple[Sequence[float], Sequence[float]]]) -> float:
    """Mann and Whitney's test over all classes together, in standard errors."""
    above, variance = 0.0, 0.0
    for mine, its in groups:
        higher = sum((left > right) - (left < right) for left in mine for right in its)
        above += higher / 2
        variance += len(mine) * len(its) * (len(mine) + len(its) + 1) / 12
    return above / math.sqrt(variance)


def slope(points: Sequence[tuple[float, float]]) -> Slope | None:
    """Theil and Sen's: the median of the slopes between all pairs. `None` for fewer than five points."""
    step = max(1, math.ceil(len(points) / MOST_POINTS))
    pairs = [(right, left) for left, right in combinations(points[::step], 2) if right[0] != left[0]]
    if len(points) < 5 or not pairs:
        return None
    slopes = [(right[1] - left[1]) / (right[0] - left[0]) for right, left in pairs]
    signs = sum((value > 0) - (value < 0) for value in slopes)
    return Slope(statistics.median(slopes), signs / len(slopes))


def upper(values: Sequence[float], share: float = 0.9) -> float:
    """The value that `share` of them do not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]
