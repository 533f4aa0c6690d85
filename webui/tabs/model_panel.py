"""What the right side of the Model tab says: the chosen file, the loaders' verdicts, the state of the pool.

Pure functions from facts to HTML and to which buttons make sense; the wiring is in `webui.tabs.model`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from webui.errors import AppError, Cancelled
from webui.loaders.contract import LoadedModel, LoaderSpec
from webui.models.facts import ModelFacts
from webui.models.inspect import model_id
from webui.planning.selection import Candidate
from webui.pool import PoolState, PoolStatus
from webui.tabs.degraded import banner_html
from webui.tabs.ladder import ladder_html, last_load_html
from webui.tabs.offers import remedies_html
from webui.tabs.present import (
    compared,
    duration,
    empty_html,
    escape,
    facts_html,
    failure_html,
    list_html,
    model_rows,
    number,
    place,
    plural,
    progress_html,
    size,
    verdict_html,
)
from webui.tabs.status import remarks


@dataclass(frozen=True, slots=True)
class Buttons:
    """Which of the actions are offered, and what the first of them is called.

    `ask_running`: replies are being written, and a swap has to know what becomes of them.
    """

    load: str
    can_load: bool
    can_cancel: bool
    can_unload: bool
    ask_running: bool = False


def chosen_html(facts: ModelFacts | None, error: AppError | None) -> str:
    """The facts of the chosen file at a glance, or why it cannot be read."""
    if error is not None:
        return failure_html(error, title="This model cannot be opened")
    if facts is None:
        return empty_html("Choose a model on the left to see what it is and how it would run.")
    return (
        f'<div class="chosen"><h3>{escape(model_id(facts))}</h3>'
        f'<div class="chosen-path">{escape(place(facts.path))}</div>{facts_html(model_rows(facts))}</div>'
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
    writing = loaded and not loading and status.running > 0
    return Buttons(label, facts is not None and not loading, loading, loaded and not loading, writing)


def status_html(
    status: PoolStatus, now: float | None, loaders: Mapping[str, LoaderSpec], taken: tuple[int, int] | None = None
) -> str:
    """What the pool is doing: the ladder of a load while it is climbed; otherwise what is loaded and what failed last.

    `now` is on the wall clock; without it nothing that runs shows its time. `taken` are the bytes that were planned and
    those that were measured of the model that is loaded.
    """
    if status.state is PoolState.LOADING:
        return _loading(status, now, loaders)
    failed = "" if status.failure is None else _failure(status, status.failure, loaders)
    parts = [banner_html(status, place="model"), failed]
    if status.model is not None and status.facts is not None:
        parts.append(_loaded(status, status.model, status.facts, taken))
    parts.append(list_html(remarks(status), tone="warning"))
    if status.finishing:
        parts.append(
            _aside(f"{plural(status.finishing, 'reply', 'replies')} of the model before it still being written.")
        )
    parts.append(last_load_html(status.ladder, loaders=loaders))
    return "".join(parts)


def _loading(status: PoolStatus, now: float | None, loaders: Mapping[str, LoaderSpec]) -> str:
    restart = status.incoming is None and bool(status.ladder)
    asked = status.asked.facts if status.asked is not None else None
    coming = status.incoming or (status.facts if restart else asked or status.facts)
    name = model_id(coming) if coming is not None else "the model"
    parts = [f'<div class="loading-title">{"Restarting" if restart else "Loading"} {escape(name)}</div>']
    if status.model is not None and status.facts is not None and not restart:
        parts.append(_aside(_meanwhile(status, status.facts)))
    running = any(rung.state == "running" for rung in status.ladder)
    since = now - status.started_at if now is not None and status.started_at is not None and not running else None
    progress = progress_html(status.step or "starting", status.share, since)
    parts.append(ladder_html(status.ladder, now, loaders=loaders, progress=progress))
    return "".join(parts) + ("" if running else progress)


def _meanwhile(status: PoolStatus, facts: ModelFacts) -> str:
    """What becomes of the model that is there, and of the replies that it is writing."""
    if not status.running:
        return f"{model_id(facts)} answers until the new model does."
    replies = plural(status.running, "reply", "replies")
    if status.asked is not None and status.asked.running == "hand over":
        return f"{model_id(facts)} is writing {replies}, which the new model will go on with."
    return f"{model_id(facts)} is finishing {replies}."


def _aside(text: str) -> str:
    return f'<p class="aside">{escape(text)}</p>'


def _loaded(status: PoolStatus, model: LoadedModel, facts: ModelFacts, taken: tuple[int, int] | None) -> str:
    rows = [
        ("Device", model.device),
        ("Loader", status.loader or model.engine),
        ("Engine", f"{model.engine} {model.engine_version}".strip()),
        ("Context", f"{number(model.context_size)} tokens"),
        ("Jobs at once", number(model.slots)),
        ("Loaded in", duration(status.load_seconds)),
        ("Memory", compared(*taken) if taken is not None else size(status.memory_bytes)),
    ]
    return f'<div class="loaded">{verdict_html("ok", f"{model_id(facts)} is loaded")}{facts_html(rows)}</div>'


def _failure(status: PoolStatus, error: AppError, loaders: Mapping[str, LoaderSpec]) -> str:
    if isinstance(error, Cancelled):
        return f'<p class="empty">{escape(error.message)}</p>'
    return failure_html(
        error,
        title=_failure_title(status),
        actions=remedies_html(status, error, place="model", loaders=loaders),
    )


def _failure_title(status: PoolStatus) -> str:
    """What failed, and what of it is still there."""
    if status.state is PoolState.FAILED and status.facts is not None:
        return f"{model_id(status.facts)} was lost"
    failed = f"Loading {model_id(status.asked.facts)} failed" if status.asked is not None else "Loading failed"
    return f"{failed}; {model_id(status.facts)} stays loaded" if status.facts is not None else failed
