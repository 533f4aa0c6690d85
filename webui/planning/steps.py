"""The words of recovery: attempts, how they ended, what is known of earlier ones, and what is decided from them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from webui.errors import AppError
from webui.loaders.contract import LoaderSpec
from webui.models.facts import ModelFacts
from webui.planning.selection import Candidate


class StepKind(StrEnum):
    """The rungs, by what a person reads."""

    ASKED = "as asked"
    REMEMBERED = "what worked last time"
    SAFER_FLAGS = "safer engine flags"
    LEANER_FLAGS = "leaner engine flags"
    FEWER_LAYERS = "fewer GPU layers"
    SMALLER_CACHE = "smaller cache"
    SMALLER_CONTEXT = "smaller context"
    CPU = "CPU only"
    NEXT_LOADER = "next loader"
    RESTART = "restart"
    PREVIOUS_MODEL = "the model before it"


@dataclass(frozen=True, slots=True)
class Attempt:
    """One way to load a model.

    `parameters` are the loader's full values as JSON types, `changes` those of them that differ from what was asked.
    `reason` is one sentence why this step is taken; `given_up` says what it costs the user (empty: nothing).
    """

    kind: StepKind
    loader: str
    parameters: Mapping[str, Any]
    changes: Mapping[str, Any] = field(default_factory=dict)
    reason: str = ""
    given_up: str = ""


@dataclass(frozen=True, slots=True)
class Tried:
    """An attempt and how it ended; `error` is `None` for the one that worked (and later died, for a restart)."""

    attempt: Attempt
    error: AppError | None
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Known:
    """How an attempt with this file, machine and engine version ended at an earlier time.

    `code` and `message` are of the error, empty where it worked. `host_available` and `device_available` are the free
    bytes at that time (`None`: unknown), so that an attempt that ran out of memory is worth trying again with more.
    `asked` are the parameters the user had asked for then.
    """

    loader: str
    asked: Mapping[str, Any]
    parameters: Mapping[str, Any]
    worked: bool
    code: str = ""
    message: str = ""
    host_available: int | None = None
    device_available: int | None = None
    at: float = 0.0


@dataclass(frozen=True, slots=True)
class Bounds:
    """How far a load may climb: attempts in all, and seconds from its start."""

    steps: int = 12
    seconds: float = 1800.0


@dataclass(frozen=True, slots=True)
class Situation:
    """Everything the decision is made from.

    `candidates` are the suitable loaders, best first; `asked` maps each of their names to the full parameters as the
    user and the configuration want them. `host_available` is the memory a worker may take, `device_available` the free
    memory of the GPUs together (bytes; 0: there is none, `None`: unknown), `device_total` all that they have. `forced`
    keeps to the first candidate's loader; `fallback` off stops at the first failure.
    """

    facts: ModelFacts
    specs: Mapping[str, LoaderSpec]
    candidates: Sequence[Candidate]
    asked: Mapping[str, Mapping[str, Any]]
    tried: Sequence[Tried] = ()
    known: Sequence[Known] = ()
    host_available: int | None = None
    device_available: int | None = None
    device_total: int | None = None
    forced: bool = False
    fallback: bool = True
    elapsed_seconds: float = 0.0
    bounds: Bounds = Bounds()


@dataclass(frozen=True, slots=True)
class GiveUp:
    """Nothing is left to try; `error` is what the user is told: the cause that matters most, and the whole story."""

    error: AppError


@dataclass(frozen=True, slots=True)
class Better:
    """What the button beside a degraded model does: load again with `loader` and `parameters`."""

    label: str
    loader: str
    parameters: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Degraded:
    """A model that runs with less than was asked for: one sentence with the reason, and what would do better."""

    sentence: str
    better: tuple[Better, ...] = ()
