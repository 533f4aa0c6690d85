"""What each failure means for the next step, as one table."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from webui.errors import (
    AppError,
    BrokenPackage,
    Cancelled,
    ContextTooLong,
    CorruptFile,
    DeviceOutOfMemory,
    EngineCrashed,
    EngineHung,
    HostOutOfMemory,
    IncompatibleDriver,
    InvalidSetting,
    ModelNotFound,
    PortTaken,
    TimedOut,
)
from webui.planning.rungs import (
    CPU,
    FEWER_LAYERS,
    MAPPED,
    SAFER,
    SAFER_ONCE,
    SMALLER_BATCH,
    SMALLER_CACHE,
    SMALLER_CONTEXT,
    Rung,
)

NOT_THE_ENGINE = frozenset({"SIGKILL", "SIGTERM", "SIGINT", "SIGHUP", "SIGXCPU", "SIGXFSZ"})
"""Signals by which the system or somebody ends a process; any other comes from the engine's own code."""


def _any(error: AppError) -> bool:
    return True


def native_crash(error: AppError) -> bool:
    """Whether the engine's own code brought its process down."""
    name = error.facts.get("signal")
    return isinstance(error, EngineCrashed) and bool(name) and name not in NOT_THE_ENGINE


def killed(error: AppError) -> bool:
    """Whether the system or somebody ended the process."""
    return isinstance(error, EngineCrashed) and error.facts.get("signal") in NOT_THE_ENGINE


def _wrong_cpu(error: AppError) -> bool:
    return error.facts.get("signal") == "SIGILL"


@dataclass(frozen=True, slots=True)
class Answer:
    """What a failure leads to: the rungs for the same loader in order, and then the next loader.

    `again`: the same is tried once more before that. `final`: nothing is tried at all. `when` narrows the class down.
    """

    error: type[AppError]
    ladder: tuple[Rung, ...] = ()
    again: bool = False
    final: bool = False
    when: Callable[[AppError], bool] = _any


ANSWERS = (
    Answer(CorruptFile, final=True),
    Answer(ModelNotFound, final=True),
    Answer(ContextTooLong, final=True),
    Answer(Cancelled, final=True),
    Answer(InvalidSetting, final=True),
    Answer(IncompatibleDriver, (CPU,)),
    Answer(BrokenPackage, (SAFER,), when=_wrong_cpu),
    Answer(EngineCrashed, (SAFER, CPU), when=native_crash),
    Answer(EngineCrashed, again=True, when=killed),
    Answer(EngineCrashed, (CPU,)),
    Answer(DeviceOutOfMemory, (FEWER_LAYERS, SMALLER_CACHE, SMALLER_CONTEXT, SMALLER_BATCH, CPU)),
    Answer(HostOutOfMemory, (MAPPED, SMALLER_CACHE, SMALLER_CONTEXT, SMALLER_BATCH)),
    Answer(EngineHung, (SAFER_ONCE,)),
    Answer(TimedOut, (SAFER_ONCE,)),
    Answer(PortTaken, again=True),
    Answer(AppError),
)
"""The first line that fits counts. A fault of the file or of the request is never carried to another device; what one
engine refuses, or is not installed for, another may well do; after a crash, flags are cheaper to give up than the GPU.
"""


def answer_to(error: AppError) -> Answer:
    """The line of the table for `error`."""
    return next(one for one in ANSWERS if isinstance(error, one.error) and one.when(error))
