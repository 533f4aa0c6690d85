"""Bars side by side as SVG, drawn on the server: pure functions from figures to markup.

Names stand before the bars and values behind them, so that nothing has to be told by its colour alone. A bar begins at
zero. A thin line shows from where to where its runs went, an upright mark where an earlier figure stood. Colours are
the page's own (`panels.css`), light and dark.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from webui.tabs.present import escape

WIDTH = 380
NAME_WIDTH = 138
VALUE_WIDTH = 98
ROW = 19
BAR = 11
HEAD = 21
ROOM = WIDTH - NAME_WIDTH - VALUE_WIDTH


@dataclass(frozen=True, slots=True)
class Bar:
    """`text` is the value as people read it. `low` and `high` are the bounds of its runs, `before` an earlier value."""

    name: str
    value: float
    text: str
    low: float | None = None
    high: float | None = None
    before: float | None = None


@dataclass(frozen=True, slots=True)
class Bars:
    """Bars under one heading."""

    heading: str
    bars: tuple[Bar, ...]


def bars_svg(title: str, groups: Sequence[Bars]) -> str:
    """The groups one below the other on one scale; the longest bar of each is set apart. Nothing for no bars."""
    groups = [group for group in groups if group.bars]
    if not groups:
        return ""
    most = max(max(bar.value, bar.high or 0.0, bar.before or 0.0) for group in groups for bar in group.bars)
    top, drawn = 0, []
    for group in groups:
        drawn.append(f'<text class="bars-head" x="0" y="{top + HEAD - 7}">{escape(group.heading)}</text>')
        top += HEAD
        longest = max(bar.value for bar in group.bars)
        for bar in group.bars:
            drawn.append(_bar_svg(bar, group.heading, top, most or 1.0, best=bar.value == longest))
            top += ROW
    return (
        f'<svg class="bars" viewBox="0 0 {WIDTH} {top}" role="img" aria-label="{escape(described(title, groups))}">'
        f"{''.join(drawn)}</svg>"
    )


def described(title: str, groups: Sequence[Bars]) -> str:
    """The whole plot in words."""
    told = (f"{group.heading}: {', '.join(f'{bar.name} {bar.text}' for bar in group.bars)}" for group in groups)
    return f"{title}. {'. '.join(told)}."


def _bar_svg(bar: Bar, heading: str, top: int, most: float, *, best: bool) -> str:
    middle = top + ROW / 2
    end = NAME_WIDTH + _length(bar.value, most)
    parts = [
        f"<title>{escape(f'{bar.name}, {heading}: {bar.text}')}</title>",
        f'<text class="bars-name" x="{NAME_WIDTH - 8}" y="{middle + 4}">{escape(bar.name)}</text>',
        f'<rect x="{NAME_WIDTH}" y="{middle - BAR / 2}" width="{end - NAME_WIDTH:.1f}" height="{BAR}" rx="2"/>',
    ]
    behind = end
    if bar.low is not None and bar.high is not None and bar.high > bar.low:
        left, right = (NAME_WIDTH + _length(value, most) for value in (bar.low, bar.high))
        parts.append(f'<path class="bars-range" d="M{left:.1f} {middle}H{right:.1f}"/>')
        behind = max(behind, right)
    if bar.before is not None:
        at = NAME_WIDTH + _length(bar.before, most)
        parts.append(f'<path class="bars-before" d="M{at:.1f} {middle - BAR / 2 - 2}V{middle + BAR / 2 + 2}"/>')
        behind = max(behind, at)
    parts.append(f'<text class="bars-value" x="{behind + 6:.1f}" y="{middle + 4}">{escape(bar.text)}</text>')
    return f'<g class="bar{" best" if best else ""}">{"".join(parts)}</g>'


def _length(value: float, most: float) -> float:
    return ROOM * max(0.0, min(1.0, value / most))
