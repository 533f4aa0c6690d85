"""A trend as SVG: days from left to right, one line for each backend, and upright lines where something changed.

Pure functions. What a line is tells its mark as well as its colour; colours are the page's own (`record.css`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from datetime import UTC, datetime

from webui.planning.record_trend import Change, Figure, Line, Point, Trend
from webui.tabs.present import duration, escape, plural, size, speed

WIDTH, HEIGHT = 380, 172
LEFT, RIGHT, TOP, BOTTOM = 52, 10, 16, 20
SIZE = 3.2
DAY_SECONDS = 86400
MARKS = "●■◆▲▼"
TITLES: dict[Figure, str] = {
    "speed": "Speed of replies",
    "prompt": "Speed of reading prompts",
    "first token": "Time to the first token",
    "memory": "Memory at the end of replies",
    "load": "Time to load",
}
WORDS: dict[Figure, Callable[[float], str]] = {
    "speed": speed,
    "prompt": speed,
    "first token": duration,
    "memory": lambda value: size(int(value)),
    "load": duration,
}
MEBIBYTE = 1024 * 1024


def trend_html(trend: Trend) -> str:
    """The plot with its title, and under it the backends with their latest values."""
    legend = "".join(
        f'<span class="line-{place % len(MARKS)}"><span class="mark">{MARKS[place % len(MARKS)]}</span> '
        f"{escape(line.loader)} {escape(WORDS[trend.figure](line.points[-1].value))}</span>"
        for place, line in enumerate(trend.lines)
    )
    return (
        f'<figure class="trend" data-figure="{escape(trend.figure)}"><div class="trend-title">'
        f"{TITLES[trend.figure]}</div>{trend_svg(trend)}<figcaption>{legend}</figcaption></figure>"
    )


def trend_svg(trend: Trend) -> str:
    """The plot alone. The scale begins at zero."""
    most, step = _scale(max(point.high for line in trend.lines for point in line.points), trend.figure)

    def across(day: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * (day - trend.first) / max(1, trend.last - trend.first + 1)

    def up(value: float) -> float:
        return HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * value / most

    grid = "".join(
        f'<path class="grid" d="M{LEFT} {up(value):.1f}H{WIDTH - RIGHT}"/>'
        f'<text class="scale" x="{LEFT - 6}" y="{up(value) + 4:.1f}">{escape(_tick(value, trend.figure))}</text>'
        for value in (step * count for count in range(round(most / step) + 1))
    )
    lines = "".join(_line(line, place, trend.figure, across, up) for place, line in enumerate(trend.lines))
    return (
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(described(trend))}">'
        f"{grid}{_days(trend, across)}{_changes(trend.changes, across)}{lines}</svg>"
    )


def described(trend: Trend) -> str:
    """The plot in words."""
    words = WORDS[trend.figure]
    parts = [
        f"{line.loader} from {words(line.points[0].value)} to {words(line.points[-1].value)} "
        f"on {plural(len(line.points), 'day')}"
        for line in trend.lines
    ]
    changes = f"; {plural(len(trend.changes), 'change')}" if trend.changes else ""
    return f"{TITLES[trend.figure]} of {trend.model}: {'; '.join(parts)}{changes}."


def date_of(day: float) -> str:
    moment = datetime.fromtimestamp(day * DAY_SECONDS, UTC)
    return f"{moment.day} {moment:%b}"


def _scale(most: float, figure: Figure) -> tuple[float, float]:
    """A round value above `most`, and the step between lines, two to five of them."""
    unit = MEBIBYTE if figure == "memory" else 1.0
    rough = max(most / unit, 1e-3) / 3
    power = 10 ** math.floor(math.log10(rough))
    step = next(one * power for one in (1, 2, 2.5, 5, 10) if one * power >= rough)
    if figure == "memory":
        step = 2 ** math.ceil(math.log2(rough))
    return math.ceil(most / unit / step) * step * unit, step * unit


def _tick(value: float, figure: Figure) -> str:
    if figure == "memory":
        unit, name = (1024 * MEBIBYTE, "GiB") if value >= 1024 * MEBIBYTE else (MEBIBYTE, "MiB")
        return f"{value / unit:.3g} {name}" if value else "0"
    number = f"{value:.4g}"
    return f"{number} s" if figure in ("first token", "load") else number


def _days(trend: Trend, across: Callable[[float], float]) -> str:
    """The first day, the last one, and one between them."""
    shown = ((trend.first, "start"), ((trend.first + trend.last) // 2, "middle"), (trend.last, "end"))
    return "".join(
        f'<text class="day" x="{across(day + 0.5 * (place != 0)):.1f}" y="{HEIGHT - 5}" text-anchor="{anchor}">'
        f"{date_of(day)}</text>"
        for place, (day, anchor) in enumerate(shown)
        if place != 1 or trend.last - trend.first > 3
    )


def _changes(changes: Sequence[Change], across: Callable[[float], float]) -> str:
    return "".join(
        f'<g class="change"><title>{escape(f"{date_of(change.at / DAY_SECONDS)}: {change.said}")}</title>'
        f'<path d="M{across(change.at / DAY_SECONDS):.1f} {TOP}V{HEIGHT - BOTTOM}"/>'
        f'<text x="{across(change.at / DAY_SECONDS):.1f}" y="{TOP - 4}">{number}</text></g>'
        for number, change in enumerate(changes, 1)
    )


def _line(
    line: Line, place: int, figure: Figure, across: Callable[[float], float], up: Callable[[float], float]
) -> str:
    """Medians joined, with an upright line from the lower to the upper values of each day."""
    spots = [(across(point.day + 0.5), point) for point in line.points]
    path = "".join(f"{'L' if place_ else 'M'}{x:.1f} {up(one.value):.1f}" for place_, (x, one) in enumerate(spots))
    ranges = "".join(f"M{x:.1f} {up(one.low):.1f}V{up(one.high):.1f}" for x, one in spots if one.high > one.low)
    marks = "".join(_mark(x, up(one.value), one, line.loader, place, figure) for x, one in spots)
    kind = place % len(MARKS)
    return f'<g class="line-{kind}"><path class="range" d="{ranges}"/><path class="way" d="{path}"/>{marks}</g>'


def _mark(x: float, y: float, point: Point, loader: str, place: int, figure: Figure) -> str:
    words = WORDS[figure](point.value)
    title = f"<title>{escape(f'{date_of(point.day)}, {loader}: {words} in the median of {point.count}')}</title>"
    kind, s = place % len(MARKS), SIZE
    if kind == 0:
        return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{s - 0.6}">{title}</circle>'
    paths = {
        1: f"M{x - s + 0.8:.1f} {y - s + 0.8:.1f}h{2 * s - 1.6:.1f}v{2 * s - 1.6:.1f}h{1.6 - 2 * s:.1f}z",
        2: f"M{x:.1f} {y - s:.1f}l{s} {s}l{-s} {s}l{-s} {-s}z",
        3: f"M{x:.1f} {y - s:.1f}l{s} {2 * s}h{-2 * s}z",
        4: f"M{x:.1f} {y + s:.1f}l{s} {-2 * s}h{-2 * s}z",
    }
    return f'<path class="mark" d="{paths[kind]}">{title}</path>'
