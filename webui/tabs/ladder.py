"""How a load is told: one line for each step of its ladder while it is climbed, and the whole story folded afterwards.

Pure functions from the pool's records to HTML. A step that runs carries the seconds it has taken so far; the page goes
on counting them by itself.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from webui.errors import Cancelled
from webui.loaders.contract import LoaderSpec
from webui.loaders.parameters import controls
from webui.planning.recovery import StepKind
from webui.pool import LoadStory, Rung
from webui.tabs.present import (
    MARKS,
    Tone,
    duration,
    escape,
    evidence_html,
    fold_html,
    moment,
    one_sentence,
    plural,
    running_html,
    verdict_html,
)

Loaders = Mapping[str, LoaderSpec]
Outcome = Literal["running", "loaded", "failed", "cancelled"]

RUNG_MARKS = {"running": "…", "worked": MARKS["ok"], "failed": MARKS["problem"], "skipped": "–"}
TONES: Mapping[Outcome, Tone] = {"running": "plain", "loaded": "ok", "failed": "problem", "cancelled": "plain"}
VALUE_LENGTH = 60


def ladder_html(rungs: Sequence[Rung], now: float | None, *, loaders: Loaders, progress: str = "") -> str:
    """The steps in order. `now` is on the wall clock; without it a running step shows no time.

    `progress` is HTML that says how far the running step is.
    """
    if not rungs:
        return ""
    items = "".join(_rung_html(rung, now, loaders, progress if rung.state == "running" else "") for rung in rungs)
    return f'<ol class="ladder">{items}</ol>'


def outcome_of(rungs: Sequence[Rung]) -> Outcome:
    """How the load ended, from its steps alone: bringing the model before it back is not what was asked for."""
    if any(rung.state == "running" for rung in rungs):
        return "running"
    if any(isinstance(rung.error, Cancelled) for rung in rungs):
        return "cancelled"
    worked = any(rung.state == "worked" and rung.attempt.kind is not StepKind.PREVIOUS_MODEL for rung in rungs)
    return "loaded" if worked else "failed"


def last_load_html(rungs: Sequence[Rung], *, loaders: Loaders) -> str:
    """The ladder of the load that has ended, folded behind its outcome."""
    if not rungs:
        return ""
    outcome = outcome_of(rungs)
    worked = [rung for rung in rungs if rung.state == "worked" and rung.attempt.kind is not StepKind.PREVIOUS_MODEL]
    loader = worked[-1].attempt.loader if worked else ""
    seconds = sum(rung.seconds or 0.0 for rung in rungs)
    head = verdict_html(TONES[outcome], _outcome_words(outcome, loader, rungs, seconds, loaders))
    return fold_html(head, ladder_html(rungs, None, loaders=loaders), key="last-load", kind="story")


def story_html(story: LoadStory, *, loaders: Loaders) -> str:
    """One load or restart of the history, folded behind when it was, of which model, and how it ended."""
    tone: Tone = "warning" if story.outcome == "loaded" and story.degraded is not None else TONES[story.outcome]
    restart = "Restarted: " if story.cause == "restart" else ""
    words = restart + _outcome_words(story.outcome, story.loader, story.rungs, story.seconds, loaders)
    head = (
        f'<span class="story-when">{escape(moment(story.at))}</span> '
        f'<span class="story-model">{escape(story.model)}</span> {verdict_html(tone, words)}'
    )
    lines = [f'<p class="story-degraded">{escape(story.degraded.sentence)}</p>'] if story.degraded is not None else []
    if story.error is not None:
        lines.append(f'<p class="story-error">{escape(one_sentence(story.error))}</p>')
    lines.append(ladder_html(story.rungs, None, loaders=loaders))
    key = f"{story.at}-{story.path}"
    return fold_html(head, "".join(lines), key=key, kind=f"story {story.outcome}")


def title_of(loader: str, loaders: Loaders) -> str:
    """The loader's title; of one that is gone, its name."""
    spec = loaders.get(loader)
    return spec.title if spec is not None else loader


def changes_words(loader: str, changes: Mapping[str, Any], loaders: Loaders) -> str:
    """`GPU layers 12, Cache type q8_0`: the parameters that differ from what was asked, as the page names them."""
    spec = loaders.get(loader)
    labels = {field.name: field.control.label for field in controls(spec.parameters)} if spec is not None else {}
    return ", ".join(f"{labels.get(name, name)} {_value_words(value)}" for name, value in changes.items())


def _value_words(value: Any) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    if value is None or value == "":
        return "automatic"
    text = f"{value:,}" if isinstance(value, int) else str(value)
    return text if len(text) <= VALUE_LENGTH else f"{text[:VALUE_LENGTH]}…"


def _rung_html(rung: Rung, now: float | None, loaders: Loaders, progress: str) -> str:
    attempt, error = rung.attempt, rung.error
    kind = str(attempt.kind)
    what = " · ".join(filter(None, (kind[:1].upper() + kind[1:], title_of(attempt.loader, loaders))))
    changes = changes_words(attempt.loader, attempt.changes, loaders)
    reason = "" if attempt.reason.rstrip(".").lower() == kind else attempt.reason
    lines = [("reason", reason), ("changes", f"Changed: {changes}" if changes else "")]
    lines.append(("given-up", f"Given up: {attempt.given_up}" if attempt.given_up else ""))
    lines.append(("error", one_sentence(error) if error is not None else ""))
    text = "".join(f'<div class="rung-{name}">{escape(words)}</div>' for name, words in lines if words)
    evidence = evidence_html(error.evidence, key=f"{rung.began_at}") if error is not None else ""
    return (
        f'<li class="rung {rung.state}" data-kind="{escape(kind)}" data-loader="{escape(attempt.loader)}">'
        f'<div class="rung-head"><span class="mark" aria-hidden="true">{RUNG_MARKS[rung.state]}</span>'
        f'<span class="rung-what">{escape(what)}<span class="sr-only">: {rung.state}</span></span>'
        f'<span class="figures">{_seconds_html(rung, now)}</span></div>{text}{progress}{evidence}</li>'
    )


def _seconds_html(rung: Rung, now: float | None) -> str:
    if rung.state == "running":
        return running_html(now - rung.began_at) if now is not None else ""
    return "" if rung.seconds is None or rung.state == "skipped" else duration(rung.seconds)


def _outcome_words(outcome: Outcome, loader: str, rungs: Sequence[Rung], seconds: float, loaders: Loaders) -> str:
    tried = [rung for rung in rungs if rung.state != "skipped" and rung.attempt.kind is not StepKind.PREVIOUS_MODEL]
    if not tried:
        steps = "before anything was tried"
    elif outcome == "loaded" and len(tried) < 2:
        steps = "at the first try"
    else:
        steps = f"after {plural(len(tried), 'step')}"
    words = {
        "running": "loading",
        "loaded": f"loaded with {title_of(loader, loaders)} {steps}",
        "failed": f"failed {steps}",
        "cancelled": f"cancelled {steps}",
    }
    return f"{words[outcome]}, {duration(seconds)}"
