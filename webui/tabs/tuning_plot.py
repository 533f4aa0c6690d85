"""The search for the best settings as a page shows it: how far it is, each trial as a point, and what was gained.

Pure functions to HTML and SVG. Colours are the page's own (`panels.css`), light and dark; what a point is tells its
shape as well.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from webui.diagnostics.tuning import TuningRun, gained, words_of
from webui.errors import Cancelled
from webui.models.inspect import model_id
from webui.planning.races import Seen, medians
from webui.planning.tunables import Setting
from webui.pool.tuned import TunedSetting
from webui.tabs.present import escape, failure_html, fold_html, plural, progress_html

WIDTH, HEIGHT = 600, 170
LEFT, RIGHT, TOP, BOTTOM = 52, 8, 8, 22
LEAST_SPAN = 0.2
ROOM = 0.06
"""Share of the span that is left free above and below."""
LEGEND = "○ usual settings ● others ◆ chosen ✗ failed. Higher is faster, later is to the right."


@dataclass(frozen=True, slots=True)
class Point:
    """A trial: how many times as fast as the first with the usual settings; `speed` is `None` where it failed."""

    words: str
    kind: str
    speed: float | None


def run_html(run: TuningRun, now: float) -> str:
    """A run while it is on and after its end. `now` is on the wall clock."""
    name = escape(model_id(run.wanted.facts))
    if run.running:
        head = f'<div class="loading-title">Looking for the best settings of {name}</div>'
        head += progress_html(run.step, run.share or None, now - run.started_at)
    elif run.error is not None:
        tone = "plain" if isinstance(run.error, Cancelled) else "problem"
        head = (
            f'<p class="empty" role="status">{escape(run.error.message)}</p>'
            if tone == "plain"
            else failure_html(run.error, title=f"The best settings of {name} were not found")
        )
    else:
        head = f'<p class="done" role="status">{escape(answer(run))}</p>'
    return f'<div class="tuning" data-state="{run.state}">{head}{plot_svg(points(run))}{_trials_html(run)}</div>'


def answer(run: TuningRun) -> str:
    """What a run that has ended found, in one sentence."""
    if run.dismissed:
        return "The usual settings are kept."
    if run.verdict is not None and not run.verdict.decided:
        return "The time was too short to be sure of anything: allow more of it."
    return gained(run.found) if run.found is not None else "Nothing was found."


def note_html(found: TunedSetting | None) -> str:
    """What stands above the controls where they begin with what was found."""
    if found is None or not found.parameters:
        return ""
    return f'<p class="aside tuned">Found by measuring here: {escape(gained(found))}.</p>'


def points(run: TuningRun) -> list[Point]:
    """The trials in their order, measured by the first of the usual settings that worked."""
    base = next((seen.result.wait for seen in run.trials if _works(seen) and seen.trial.setting == run.default), None)
    base = base or next((seen.result.wait for seen in run.trials if _works(seen)), None)
    chosen = run.verdict.setting if run.verdict is not None and run.verdict.improved else None
    return [
        Point(
            words_of(seen.trial.setting),
            _kind(seen.trial.setting, run.default, chosen),
            base / seen.result.wait if base and _works(seen) else None,
        )
        for seen in run.trials
    ]


def _works(seen: Seen) -> bool:
    return not seen.result.failure and math.isfinite(seen.result.wait)


def _kind(setting: Setting, default: Setting | None, chosen: Setting | None) -> str:
    return "chosen" if setting == chosen else "usual" if setting == default else "other"


def plot_svg(shown: Sequence[Point]) -> str:
    """Every trial as a point: to the right as time goes on, higher where it is faster. Nothing for no trials."""
    speeds = [point.speed for point in shown if point.speed is not None]
    if not speeds:
        return ""
    low, high = min(*speeds, 1.0), max(*speeds, 1.0)
    span = max(high - low, LEAST_SPAN)
    low, high = low - ROOM * span, high + ROOM * span

    def across(place: int) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * (place + 0.5) / len(shown)

    def up(speed: float) -> float:
        return TOP + (HEIGHT - TOP - BOTTOM) * (high - speed) / (high - low)

    marks = "".join(_mark(point, across(place), up(point.speed or low)) for place, point in enumerate(shown))
    lines = "".join(
        f'<line class="{"even" if speed == 1.0 else "grid"}" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{up(speed):.1f}" '
        f'y2="{up(speed):.1f}"/><text x="{LEFT - 6}" y="{up(speed) + 4:.1f}" text-anchor="end">{speed:.2g} ×</text>'
        for speed in _ticks(low, high)
    )
    return (
        f'<figure class="tuning-plot"><svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
        f'aria-label="{escape(described(shown))}">{lines}{marks}</svg><figcaption>{LEGEND}</figcaption></figure>'
    )


def described(shown: Sequence[Point]) -> str:
    """The plot in words."""
    worked = [point for point in shown if point.speed is not None]
    best = max(worked, key=lambda point: point.speed or 0.0, default=None)
    failed = len(shown) - len(worked)
    parts = [f"Speed of {plural(len(shown), 'trial')}, measured by the first with the usual settings"]
    if best is not None:
        parts.append(f"the fastest was {best.words} with {best.speed:.2f} times")
    if failed:
        parts.append(f"{failed} failed")
    return "; ".join(parts) + "."


def _ticks(low: float, high: float) -> list[float]:
    """1 and some round values around it."""
    step = next(one for one in (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, math.inf) if (high - low) / one <= 5)
    if math.isinf(step):
        return [1.0]
    first, last = math.ceil((low - 1) / step), math.floor((high - 1) / step)
    return [round(1 + step * count, 3) for count in range(first, last + 1)]


def _mark(point: Point, x: float, y: float) -> str:
    said = "failed" if point.speed is None else f"{point.speed:.2f} ×"
    title = f"<title>{escape(f'{point.words}: {said}')}</title>"
    if point.speed is None:
        bottom = HEIGHT - BOTTOM / 2
        path = f"M{x - 4:.1f} {bottom - 4:.1f}l8 8m0 -8l-8 8"
        return f'<path class="failed" d="{path}">{title}</path>'
    if point.kind == "chosen":
        return f'<path class="chosen" d="M{x:.1f} {y - 6:.1f}l6 6l-6 6l-6 -6z">{title}</path>'
    return f'<circle class="{point.kind}" cx="{x:.1f}" cy="{y:.1f}" r="4">{title}</circle>'


def _trials_html(run: TuningRun) -> str:
    """The settings that were tried, with the medians of their trials, folded."""
    by_setting: dict[Setting, list[Seen]] = {}
    for seen in run.trials:
        by_setting.setdefault(seen.trial.setting, []).append(seen)
    if not by_setting:
        return ""
    rows = "".join(_row(setting, trials) for setting, trials in by_setting.items())
    table = (
        '<div class="scroll"><table class="workers"><thead><tr><th>Setting</th><th>Trials</th><th>Reply</th>'
        f"<th>Prompt</th><th></th></tr></thead><tbody>{rows}</tbody></table></div>"
    )
    return fold_html(f"{plural(len(run.trials), 'trial')} in numbers", table, key="tuning-trials", kind="story")


def _row(setting: Setting, trials: Sequence[Seen]) -> str:
    middle = medians([seen.result for seen in trials if not seen.result.failure])
    failure = next((seen.result.failure for seen in trials if seen.result.failure), "")
    reply = f"{middle.reply:.1f} tokens/s" if middle is not None else ""
    prompt = f"{middle.prompt:.0f} tokens/s" if middle is not None and middle.prompt is not None else ""
    cells = (words_of(setting), str(len(trials)), reply, prompt, failure)
    return "<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in cells) + "</tr>"
