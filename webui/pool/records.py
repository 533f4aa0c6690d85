"""Stories and failures as plain JSON types, bounded in size: what the history keeps.

A record holds what was tried and how it ended, and nothing of what people wrote. Reading one back gives an equal value
without the exception's traceback, so that a kept failure keeps no frame alive.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from webui.errors import AppError
from webui.planning.recovery import Attempt, Better, Degraded, StepKind
from webui.pool.status import Failure, LoadStory, Rung

MOST_TEXT = 2000
MOST_LINE = 300
"""Characters kept of a sentence, and of a line of evidence or a fact."""
MOST_ITEMS = 40
DEEPEST = 3


def story_to_dict(story: LoadStory) -> dict[str, Any]:
    """A load or restart; `story_from_dict` is the inverse."""
    return {
        "model": _text(story.model),
        "path": _text(story.path),
        "asked_loader": story.asked_loader,
        "cause": story.cause,
        "at": story.at,
        "seconds": story.seconds,
        "rungs": [rung_to_dict(rung) for rung in story.rungs[-MOST_ITEMS:]],
        "outcome": story.outcome,
        "loader": story.loader,
        "error": error_to_dict(story.error),
        "degraded": degraded_to_dict(story.degraded),
    }


def story_from_dict(data: Mapping[str, Any]) -> LoadStory:
    """Raises `KeyError`, `TypeError` or `ValueError` for anything that `story_to_dict` does not give."""
    return LoadStory(
        model=data["model"],
        path=data["path"],
        asked_loader=data["asked_loader"],
        cause=data["cause"],
        at=float(data["at"]),
        seconds=float(data["seconds"]),
        rungs=tuple(_rung(item) for item in data["rungs"]),
        outcome=data["outcome"],
        loader=data["loader"],
        error=_error(data["error"]),
        degraded=_degraded(data["degraded"]),
    )


def failure_to_dict(failure: Failure) -> dict[str, Any]:
    """Something that went wrong; `failure_from_dict` is the inverse."""
    return {
        "phase": failure.phase,
        "loader": failure.loader,
        "model": _text(failure.model),
        "error": error_to_dict(failure.error),
        "at": failure.at,
    }


def failure_from_dict(data: Mapping[str, Any]) -> Failure:
    """Raises `KeyError`, `TypeError` or `ValueError` for anything that `failure_to_dict` does not give."""
    return Failure(
        data["phase"], data["loader"], data["model"], AppError.from_dict(data["error"]), at=float(data["at"])
    )


def rung_to_dict(rung: Rung) -> dict[str, Any]:
    """One step of a ladder."""
    attempt = rung.attempt
    return {
        "kind": attempt.kind.value,
        "loader": attempt.loader,
        "parameters": _bounded(dict(attempt.parameters)),
        "changes": _bounded(dict(attempt.changes)),
        "reason": _text(attempt.reason),
        "given_up": _text(attempt.given_up),
        "state": rung.state,
        "began_at": rung.began_at,
        "seconds": rung.seconds,
        "error": error_to_dict(rung.error),
    }


def rung_summary(rung: Rung) -> dict[str, Any]:
    """One step in a few words, for whoever asks how a load goes. The seconds of a running one are those so far."""
    seconds = rung.seconds if rung.seconds is not None else max(0.0, time.time() - rung.began_at)
    return {
        "step": rung.attempt.kind.value,
        "loader": rung.attempt.loader,
        "state": rung.state,
        "seconds": round(seconds, 3),
        "code": rung.error.code if rung.error else None,
    }


def degraded_to_dict(degraded: Degraded | None) -> dict[str, Any] | None:
    """What a model had to do without, and what would do better."""
    if degraded is None:
        return None
    better = [
        {"label": _text(one.label), "loader": one.loader, "parameters": _bounded(dict(one.parameters))}
        for one in degraded.better[:MOST_ITEMS]
    ]
    return {"sentence": _text(degraded.sentence), "better": better}


def error_to_dict(error: AppError | None) -> dict[str, Any] | None:
    """`AppError.to_dict`, cut to size."""
    if error is None:
        return None
    data = error.to_dict()
    data |= {name: _text(data[name]) for name in ("message", "cause", "hint")}
    return {**data, "evidence": [line[:MOST_LINE] for line in data["evidence"]], "facts": _bounded(data["facts"])}


def _rung(data: Mapping[str, Any]) -> Rung:
    attempt = Attempt(
        kind=StepKind(data["kind"]),
        loader=data["loader"],
        parameters=dict(data["parameters"]),
        changes=dict(data["changes"]),
        reason=data["reason"],
        given_up=data["given_up"],
    )
    return Rung(attempt, data["state"], float(data["began_at"]), data["seconds"], _error(data["error"]))


def _degraded(data: Mapping[str, Any] | None) -> Degraded | None:
    if data is None:
        return None
    better = (Better(one["label"], one["loader"], dict(one["parameters"])) for one in data["better"])
    return Degraded(data["sentence"], tuple(better))


def _error(data: Mapping[str, Any] | None) -> AppError | None:
    return None if data is None else AppError.from_dict(data)


def _text(text: str) -> str:
    return text if len(text) <= MOST_TEXT else text[: MOST_TEXT - 1] + "…"


def _bounded(value: Any, depth: int = DEEPEST) -> Any:
    """`value` as JSON types, cut to size; what is none of them, or nested too deep, becomes text."""
    if value is None or isinstance(value, bool | int | float):
        return value
    if depth and isinstance(value, Mapping):
        return {str(key)[:MOST_LINE]: _bounded(item, depth - 1) for key, item in list(value.items())[: MOST_ITEMS * 3]}
    if depth and isinstance(value, list | tuple):
        return [_bounded(item, depth - 1) for item in value[:MOST_ITEMS]]
    return str(value)[:MOST_LINE]
