"""What the right side of the Model tab says: the chosen file, the loaders' verdicts, the state of the pool.

Pure functions from facts to HTML and to which buttons make sense; the wiring is in `webui.tabs.model`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from webui.errors import AppError, Cancelled
from webui.loaders.contract import LoaderSpec
from webui.models.facts import ModelFacts
from webui.models.inspect import model_id
from webui.planning.selection import Candidate
from webui.pool import PoolState, PoolStatus
from webui.tabs.present import (
    duration,
    empty_html,
    escape,
    facts_html,
    failure_html,
    list_html,
    model_rows,
    number,
    progress_html,
    size,
    verdict_html,
)


@dataclass(frozen=True, slots=True)
class Buttons:
    """Which of the actions are offered, and what the first of them is called."""

    load: str
    can_load: bool
    can_cancel: bool
    can_unload: bool


def chosen_html(facts: ModelFacts | None, error: AppError | None) -> str:
    """The facts of the chosen file at a glance, or why it cannot be read."""
    if error is not None:
        return failure_html(error, title="This model cannot be opened")
    if facts is None:
        return empty_html("Choose a model on the left to see what it is and how it would run.")
    return (
        f'<div class="chosen"><h3>{escape(model_id(facts))}</h3>'
        f'<div class="chosen-path">{escape(facts.path)}</div>{facts_html(model_rows(facts))}</div>'
    )


def candidates_html(candidates: Sequence[Candidate], loaders: Mapping[str, LoaderSpec]) -> str:
    """Every loader with its verdict: first the one auto takes and why, then each other one and why not."""
    if not candidates:
        return ""
    best = next((candidate.loader for candidate in candidates if candidate.suitable), "")
    rows = "".join(_candidate(candidate, loaders, first=candidate.loader == best) for candidate in candidates)
    none = "" if best else '<p class="sentences problem">No loader can run this file here; the reasons are below.</p>'
    return f'{none}<ul class="candidates">{rows}</ul>'


def _candidate(candidate: Candidate, loaders: Mapping[str, LoaderSpec], *, first: bool) -> str:
    spec = loaders.get(candidate.loader)
    title = spec.title if spec is not None else candidate.loader
    reason = "; ".join(filter(None, (candidate.reason.rstrip("."), candidate.chosen_because)))
    mark = '<span class="badge">auto</span>' if first else ""
    return (
        f'<li class="{"suitable" if candidate.suitable else "impossible"}" data-loader="{escape(candidate.loader)}">'
        f'<span class="candidate-name">{escape(title)}{mark}</span>'
        f"{verdict_html('ok' if candidate.suitable else 'problem', reason)}</li>"
    )


def buttons(status: PoolStatus, facts: ModelFacts | None) -> Buttons:
    """Which actions make sense for the chosen model in this state of the pool."""
    loading = status.state is PoolState.LOADING
    loaded = status.model is not None and status.facts is not None
    again = loaded and facts is not None and status.facts is not None and status.facts.path == facts.path
    label = "Load again" if again else "Swap" if loaded else "Load"
    return Buttons(label, facts is not None and not loading, loading, loaded and not loading)


def status_html(status: PoolStatus, now: float) -> str:
    """What the pool is doing: the steps of a load, what is loaded, and what failed last."""
    parts = []
    if status.state is PoolState.LOADING:
        seconds = now - status.started_at if status.started_at is not None else None
        parts.append(progress_html(status.step or "starting", status.share, seconds))
    elif status.model is not None and status.facts is not None:
        parts.append(_loaded(status))
    if status.failure is not None and status.state is not PoolState.LOADING:
        parts.append(_failure(status))
    parts.append(list_html(status.notes, tone="warning"))
    return "".join(parts)


def _loaded(status: PoolStatus) -> str:
    model, facts = status.model, status.facts
    if model is None or facts is None:
        return ""
    rows = [
        ("Device", model.device),
        ("Loader", status.loader or model.engine),
        ("Engine", f"{model.engine} {model.engine_version}".strip()),
        ("Context", f"{number(model.context_size)} tokens"),
        ("Jobs at once", number(model.slots)),
        ("Loaded in", duration(status.load_seconds)),
        ("Memory", size(status.memory_bytes)),
    ]
    return (
        f'<div class="loaded">{verdict_html("ok", f"{model_id(facts)} is loaded")}'
        f"{facts_html(rows)}{list_html(model.notes, tone='warning')}</div>"
    )


def _failure(status: PoolStatus) -> str:
    error = status.failure
    if error is None:
        return ""
    if isinstance(error, Cancelled):
        return f'<p class="empty">{escape(error.message)}</p>'
    stays = status.state is PoolState.READY and status.facts is not None
    title = f"Loading failed; {model_id(status.facts)} stays loaded" if stays and status.facts else "Loading failed"
    return failure_html(error, title=title)
