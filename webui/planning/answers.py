"""What each failure means for the next step, as one table."""

from __future__ import annotations

import signal
from collections.abc import Callable
from dataclasses import dataclass

from webui.errors import (
    AppError,
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

NOT_THE_ENGINE = frozenset({"SIGKILL", "SIGTERM", "SIGINT", "SIGHUP"})
"""Signals that somebody else sends; any other comes from the engine's own code."""
NATIVE_STATUS = range(0xC0000000, 0xD0000000)
"""Exit statuses by which Windows names what are signals elsewhere."""


def _any(error: AppError) -> bool:
    return True


def native_crash(error: AppError) -> bool:
    """Whether the engine's own code brought its process down."""
    if not isinstance(error, EngineCrashed):
        return False
    name, status = _signal(error), error.facts.get("exit_status")
    if name is not None:
        return name not in NOT_THE_ENGINE
    return isinstance(status, int) and status & 0xFFFFFFFF in NATIVE_STATUS


def killed(error: AppError) -> bool:
    """Whether somebody else ended the process."""
    return isinstance(error, EngineCrashed) and _signal(error) in NOT_THE_ENGINE


def _signal(error: AppError) -> str | None:
    """The signal's name; a server that ran under a guard has it in its exit status, as 128 + N."""
    status = error.facts.get("exit_status")
    if "signal" in error.facts or not isinstance(status, int) or not 128 < status < 192:
        return error.facts.get("signal")
    try:
        return signal.Signals(status - 128).name
    except ValueError:
        return None


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
