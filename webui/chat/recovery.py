"""What became of an engine that died in the middle of a reply, in one sentence for the transcript."""

from __future__ import annotations

import asyncio
from contextlib import aclosing

from webui.errors import AppError, EngineCrashed, EngineGarbled, EngineHung
from webui.planning.recovery import StepKind
from webui.pool import Pool, PoolState, PoolStatus

WAIT_SECONDS = 1800.0
"""A restart that takes longer than this is told nobody; the page's top line shows it anyway."""


def died(error: AppError) -> bool:
    """Whether the engine's process ended with this error, so that it has to be started again."""
    return isinstance(error, EngineCrashed | EngineGarbled | EngineHung) or "signal" in error.facts


async def recovery_of(pool: Pool, dead: int | None) -> str:
    """Wait until the model whose worker had the process id `dead` is there again, or lost; "" if nobody can say."""
    try:
        async with asyncio.timeout(WAIT_SECONDS), aclosing(pool.watch()) as statuses:
            async for status in statuses:
                sentence = recovery_sentence(status, dead)
                if sentence is not None:
                    return sentence
    except TimeoutError:
        pass
    return ""


def recovery_sentence(status: PoolStatus, dead: int | None) -> str | None:
    """The sentence for `status`, or `None` while it is not decided."""
    if status.state is PoolState.EMPTY:
        return ""
    if status.state is PoolState.FAILED:
        return "The engine could not be started again: the model is not loaded any more."
    if status.state is not PoolState.READY or status.pid in (None, dead):
        return None
    worked = next((rung for rung in reversed(status.ladder) if rung.state == "worked"), None)
    if worked is None or worked.attempt.kind is StepKind.RESTART:
        return "The engine was started again with the same settings."
    if worked.attempt.kind in (StepKind.ASKED, StepKind.PREVIOUS_MODEL):
        return ""  # another load came in between, which the page shows by itself
    given_up = f": {worked.attempt.given_up.rstrip('.')}" if worked.attempt.given_up else ""
    return f"The engine was started again with {worked.attempt.kind.value}{given_up}."
