"""What the pool says of itself: one snapshot for the page's top line, `/health` and the command line."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from webui.errors import AppError
from webui.loaders.contract import LoadedModel
from webui.models.facts import ModelFacts
from webui.planning.selection import Candidate


class PoolState(StrEnum):
    EMPTY = "empty"
    LOADING = "loading"
    READY = "ready"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class LoadRequest:
    """What to load: `loader` by name or "auto"; `parameters` only where they differ from the configured ones."""

    facts: ModelFacts
    loader: str = "auto"
    parameters: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Failure:
    """Something that went wrong, for the Diagnostics tab. `phase` is load, reply or idle."""

    phase: str
    loader: str
    model: str
    error: AppError
    at: float = field(default_factory=time.time)


@dataclass(frozen=True, slots=True)
class WorkerFacts:
    """One worker process. `since` is seconds on the wall clock."""

    pid: int
    loader: str
    model: str
    state: str
    memory_bytes: int | None
    since: float


@dataclass(frozen=True, slots=True)
class PoolStatus:
    """The pool at one moment.

    While a swap is on, everything but `state`, `step`, `share`, `incoming` and `started_at` is of the model that still
    answers. `started_at` is when that load began, otherwise when the model's worker started (wall clock, seconds).
    `share` is 0 … 1 or `None` where it is not known. `failure` is that of the last load, if it failed; the state
    is READY all the same when the model before it is still there.
    """

    state: PoolState
    facts: ModelFacts | None = None
    incoming: ModelFacts | None = None
    loader: str | None = None
    model: LoadedModel | None = None
    parameters: dict[str, Any] = field(default_factory=dict)
    step: str = ""
    share: float | None = None
    started_at: float | None = None
    load_seconds: float | None = None
    failure: AppError | None = None
    notes: tuple[str, ...] = ()
    candidates: tuple[Candidate, ...] = ()
    running: int = 0
    queued: int = 0
    pid: int | None = None
    memory_bytes: int | None = None
    used_tokens: int | None = None
    tokens_per_second: float | None = None
    first_token_seconds: float | None = None
