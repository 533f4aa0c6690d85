"""What the pool says of itself: one snapshot for the page's top line, `/health` and the command line."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Literal

from webui.errors import AppError, Busy, NotLoaded
from webui.loaders.contract import LoadedModel
from webui.models.facts import ModelFacts
from webui.planning.recovery import Attempt, Degraded
from webui.planning.selection import Candidate


class PoolState(StrEnum):
    EMPTY = "empty"
    LOADING = "loading"
    READY = "ready"
    FAILED = "failed"


RunningJobs = Literal["finish", "hand over"]
Outcome = Literal["loaded", "failed", "cancelled"]
Cause = Literal["load", "restart"]


@dataclass(frozen=True, slots=True)
class LoadRequest:
    """What to load: `loader` by name or "auto"; `parameters` only where they differ from the configured ones.

    `running` says what becomes of the replies that the model before it is writing: they finish there, or the new
    model takes them over where they stand. With `afresh`, what earlier loads of this file taught is left aside: the
    first attempt is exactly what is asked for.
    """

    facts: ModelFacts
    loader: str = "auto"
    parameters: dict[str, Any] = field(default_factory=dict)
    running: RunningJobs = "finish"
    afresh: bool = False


@dataclass(frozen=True, slots=True)
class Rung:
    """One step of a load or a restart, as it is shown: what was tried, why, how it ended, how long it took.

    `state` is "running", "worked", "failed" or "skipped"; `began_at` is on the wall clock. `seconds` is `None` while
    it runs. A step that was not a load of a worker (unloading the model before it, bringing it back) has no error of
    its own when it works.
    """

    attempt: Attempt
    state: Literal["running", "worked", "failed", "skipped"]
    began_at: float
    seconds: float | None = None
    error: AppError | None = None


@dataclass(frozen=True, slots=True)
class LoadStory:
    """A load or a restart from its first step to its end, for the history. `seconds` is the whole of it."""

    model: str
    path: str
    asked_loader: str
    cause: Cause
    at: float
    seconds: float
    rungs: tuple[Rung, ...]
    outcome: Outcome
    loader: str = ""
    error: AppError | None = None
    degraded: Degraded | None = None


@dataclass(frozen=True, slots=True)
class Failure:
    """Something that went wrong. `phase` is start, load, canary, reply, idle, restart, restore or unload."""

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
    is READY all the same when the model before it is still there. `ladder` holds the steps of the load that is on, or
    of the last one; `degraded` says what the loaded model had to do without. `asked` is what that load was asked for
    (`None` before any), so that it can be asked for again. `set_aside` says what the machine is left to for a while,
    where it is. `finishing` counts the replies that the model before this
    one is still writing after a swap.
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
    ladder: tuple[Rung, ...] = ()
    degraded: Degraded | None = None
    asked: LoadRequest | None = None
    set_aside: str = ""
    finishing: int = 0
    candidates: tuple[Candidate, ...] = ()
    running: int = 0
    queued: int = 0
    pid: int | None = None
    memory_bytes: int | None = None
    used_tokens: int | None = None
    tokens_per_second: float | None = None
    first_token_seconds: float | None = None


def absence(status: PoolStatus) -> AppError:
    """Why there is no model to answer."""
    if status.set_aside:
        return Busy(status.set_aside, hint="Ask again when that is done.")
    return NotLoaded("No model is loaded.", cause=status.failure.message if status.failure is not None else "")
