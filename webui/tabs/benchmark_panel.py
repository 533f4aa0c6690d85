"""What the Hardware tab says of benchmarks: how far one is, what it found, what has changed, and those that are kept.

Pure functions to HTML; the wiring is in `webui.tabs.hardware_benchmark`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from webui.diagnostics.benchmark_comparison import (
    FIRST_TOKEN,
    LOAD,
    PEAK_MEMORY,
    PROMPT,
    SPEED,
    Comparison,
    Difference,
    compare,
)
from webui.diagnostics.benchmark_results import BenchmarkRun, DepthResult, Figure, LoaderResult
from webui.diagnostics.benchmark_store import Saved
from webui.diagnostics.benchmarks import Running
from webui.errors import Cancelled
from webui.tabs.bars import Bar, Bars, bars_svg
from webui.tabs.present import (
    duration,
    empty_html,
    escape,
    failure_html,
    list_html,
    moment,
    number,
    one_sentence,
    percent,
    plural,
    progress_html,
    size,
    speed,
)

RUNS_LISTED = 30
HEADS = ("Loader", "Depth", "Prompt", "Prompt speed", "First token", "Generation", "Memory", "Peak memory", "Load")
STATES = {"running": "running", "stopped": "stopped early", "failed": "failed", "done": ""}
VERDICT_WORDS = {"better": "better", "worse": "worse", "noise": "within noise", "unknown": "too few runs to tell"}
VERDICT_MARKS = {"better": "▲", "worse": "▼", "noise": "≈", "unknown": "?"}

ROWS_SCRIPT = """
element.addEventListener('click', (event) => {
  const button = event.target.closest('button[data-do]');
  if (!button) return;
  const row = button.closest('[data-run]');
  switch (button.dataset.do) {
    case 'ask': row.classList.add('asking'); row.querySelector('[data-do=keep]').focus(); break;
    case 'keep': row.classList.remove('asking'); row.querySelector('[data-do=open]').focus(); break;
    default: trigger('select', {do: button.dataset.do, run: row.dataset.run});
  }
});
"""
"""Runs in the browser: asks in the row itself before it deletes, and reports what was decided."""


def progress_of(active: Running | None) -> str:
    """How far the benchmark is, or why it ended early; nothing where there is nothing to say."""
    if active is None:
        return ""
    notes = list_html(active.notes, tone="warning")
    if active.running:
        step = "stopping" if active.stopping and not active.restoring else active.step
        left = active.seconds_left
        about = f" · about {duration(max(1, round(left)))} left" if left is not None and not active.stopping else ""
        return f"{progress_html(f'{step}{about}', active.share, active.seconds)}{notes}"
    if active.error is None:
        stopped = active.run is None or active.run.state == "stopped"
        return (empty_html("The benchmark was stopped.") if stopped else "") + notes
    if isinstance(active.error, Cancelled):
        return list_html([one_sentence(active.error)], tone="warning") + notes
    return failure_html(active.error, title="The benchmark failed") + notes


def result_html(run: BenchmarkRun | None, before: Saved | None = None) -> str:
    """One benchmark as plots and table, with what has changed since `before`."""
    if run is None:
        return empty_html("Nothing has been measured yet.")
    found = compare(run, before.run) if before is not None else None
    head = f"<h3>{escape(run.model)}</h3><p class='aside'>{escape(_circumstances(run))}</p>"
    if not run.results:
        return f'<div class="benchmark">{head}</div>'
    return (
        f'<div class="benchmark" data-shown="{escape(run.id)}">{head}{_remarks(run)}'
        f"{_comparison_html(found, before)}{_plots(run, before.run if before is not None else None)}"
        f"{_table(run, found)}</div>"
    )


def _circumstances(run: BenchmarkRun) -> str:
    parts = [
        moment(run.at),
        f"median of {plural(run.runs, 'run')}",
        f"replies of {plural(run.reply_tokens, 'token')}",
        *([", ".join(f"{name} = {value}" for name, value in run.parameters.items())] if run.parameters else []),
        run.machine,
        STATES[run.state],
    ]
    return " · ".join(filter(None, parts))


def _remarks(run: BenchmarkRun) -> str:
    notes = [f"{result.loader}: {note}" for result in run.results for note in result.notes]
    if run.disturbed:
        notes.insert(0, "Other replies were written meanwhile: the figures are too low.")
    notes += [f"{one.loader}: {one_sentence(one.failure)}" for one in run.results if one.failure is not None]
    return list_html(notes, tone="warning")


# --- table and plots -----------------------------------------------------------------------------------------------


def _table(run: BenchmarkRun, found: Comparison | None) -> str:
    heads = "".join(f'<th scope="col">{escape(head)}</th>' for head in HEADS)
    bodies = "".join(f"<tbody>{_rows(result, found)}</tbody>" for result in run.results if result.depths)
    if not bodies:
        return ""
    table = f'<table class="workers benchmark-table"><thead><tr>{heads}</tr></thead>{bodies}</table>'
    return f'<div class="scroll">{table}</div>'


def _rows(result: LoaderResult, found: Comparison | None) -> str:
    rows = ""
    for place, one in enumerate(result.depths):
        name = result.loader
        first = f'<th scope="rowgroup" rowspan="{len(result.depths)}">{escape(name)}</th>' if place == 0 else ""
        if one.first_token is None:
            cells = f'<td colspan="5" class="unknown">{escape(one.problem or "not measured yet")}</td>'
        else:
            cells = "".join(
                _cell(text, found.at(name, one.depth, what) if found is not None else None)
                for text, what in (
                    (_prompt_words(one), ""),
                    (_speed_words(one.prompt_speed), PROMPT),
                    (duration(one.first_token.median), FIRST_TOKEN),
                    (_speed_words(one.speed), SPEED),
                    (size(one.memory_bytes), ""),
                )
            )
        last = ""
        if place == 0:
            load = duration(result.load.median if result.load is not None else None)
            for text, what in ((size(result.peak_memory_bytes), PEAK_MEMORY), (load, LOAD)):
                last += _cell(text, found.at(name, None, what) if found is not None else None, len(result.depths))
        rows += f"<tr>{first}<td>{number(one.depth)}</td>{cells}{last}</tr>"
    return rows


def _cell(text: str, change: Difference | None, rows: int = 1) -> str:
    span = f' rowspan="{rows}"' if rows > 1 else ""
    changed = f"<br>{_change_html(change)}" if change is not None else ""
    return f"<td{span}>{escape(text)}{changed}</td>"


def _change_html(change: Difference) -> str:
    noise = "" if change.noise is None else f" ±{percent(change.noise)}"
    return (
        f'<span class="change {change.verdict}" title="{escape(VERDICT_WORDS[change.verdict])}">'
        f'<span class="mark">{VERDICT_MARKS[change.verdict]}</span> {change.change * 100:+.1f} %{escape(noise)}</span>'
    )


def _prompt_words(one: DepthResult) -> str:
    low, high = min(one.prompt_tokens), max(one.prompt_tokens)
    return f"{number(low)} tokens" if low == high else f"{number(low)}–{number(high)} tokens"


def _speed_words(found: Figure | None) -> str:
    if found is None:
        return speed(None)
    return speed(found.median) if found.spread is None else f"{speed(found.median)} ±{found.spread * 100:.1f} %"


def _plots(run: BenchmarkRun, before: BenchmarkRun | None) -> str:
    """Prompt and generation speed by depth, every loader a bar."""
    figures = ""
    for title, of in (
        ("Prompt speed", lambda one: one.prompt_speed),
        ("Generation speed", lambda one: one.speed),
    ):
        groups = []
        for depth in run.depths:
            bars = []
            for result in run.results:
                found = _figure(result, depth, of)
                if found is None:
                    continue
                earlier = _figure(before.result(result.loader), depth, of) if before is not None else None
                bars.append(
                    Bar(
                        result.loader,
                        found.median,
                        speed(found.median),
                        found.lowest,
                        found.highest,
                        earlier.median if earlier is not None else None,
                    )
                )
            heading = f"{number(depth)} tokens deep" if depth else "short prompt"
            groups.append(Bars(heading, tuple(bars)))
        if drawn := bars_svg(title, groups):
            figures += f'<figure class="bars-figure"><figcaption>{title}</figcaption>{drawn}</figure>'
    return f'<div class="bars-figures">{figures}</div>' if figures else ""


# --- comparison ----------------------------------------------------------------------------------------------------


def _comparison_html(found: Comparison | None, before: Saved | None) -> str:
    if found is None or before is None:
        return ""
    name = before.baseline or moment(before.run.at)
    none = "Nothing differs by more than the noise." if found.differences else "Nothing was measured both times."
    return (
        f'<section class="comparison"><h4>Compared with {escape(name)}</h4>'
        f"{list_html(found.warnings, tone='warning')}"
        f"{list_html(_beyond(found)) or empty_html(none)}"
        f"{list_html([*found.remarks, *found.missing])}</section>"
    )


def _beyond(found: Comparison) -> list[str]:
    """What differs by more than the noise: one sentence for each figure of each loader."""
    changes: dict[tuple[str, str, str], list[str]] = {}
    for one in found.beyond_noise:
        at = "" if one.depth is None else f" at depth {number(one.depth)}"
        changes.setdefault((one.loader, one.what, one.verdict), []).append(f"{one.change * 100:+.1f} %{at}")
    return [
        f"{loader}: {what} {VERDICT_WORDS[verdict]} by more than the noise, {', '.join(told)}."
        for (loader, what, verdict), told in changes.items()
    ]


# --- the list ------------------------------------------------------------------------------------------------------


def title_of(saved: Saved) -> str:
    """What a kept benchmark is called in lists: `baseline before · tiny`, `21 Nov 14:03:09 · tiny`."""
    name = f"baseline {saved.baseline}" if saved.baseline else moment(saved.run.at)
    return f"{name} · {saved.run.model}"


def list_of_runs_html(saved: Sequence[Saved], shown: str) -> str:
    """Baselines and runs, newest first; `shown` is the key of the one that is shown."""
    if not saved:
        return empty_html("Benchmarks are kept here.")
    listed = [one for one in saved if one.baseline] + [one for one in saved if not one.baseline][:RUNS_LISTED]
    rest = len(saved) - len(listed)
    more = f"<p class='aside'>{plural(rest, 'older run')} not shown.</p>" if rest else ""
    return f'<ul class="benchmark-runs">{"".join(_row(one, shown) for one in listed)}</ul>{more}'


def _row(one: Saved, shown: str) -> str:
    title = escape(title_of(one))
    loaders = ", ".join(result.loader for result in one.run.results)
    facts = " · ".join(filter(None, (loaders, _best(one.run), STATES[one.run.state])))
    here = ' aria-current="true"' if one.key == shown else ""
    return (
        f'<li data-run="{escape(one.key)}"><button type="button" data-do="open"{here}>{title}</button>'
        f'<span class="row-facts">{escape(facts)}</span>'
        f'<button type="button" class="icon" data-do="ask" aria-label="Delete {title}">Delete …</button>'
        '<span class="ask"><button type="button" data-do="delete">Delete</button>'
        '<button type="button" data-do="keep">Keep</button></span></li>'
    )


def _best(run: BenchmarkRun) -> str:
    speeds = [found.speed.median for one in run.results for found in one.measured[:1] if found.speed is not None]
    return speed(max(speeds)) if speeds else ""


def _figure(result: LoaderResult | None, depth: int, of: Callable[[DepthResult], Figure | None]) -> Figure | None:
    """The figure of one loader at one depth, where it was measured."""
    depths = result.depths if result is not None else ()
    return next((of(one) for one in depths if one.depth == depth), None)
