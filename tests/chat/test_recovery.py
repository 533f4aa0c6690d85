"""What the transcript says of an engine that died: one sentence, once it is known."""

from __future__ import annotations

import pytest

from webui.chat.recovery import died, recovery_sentence
from webui.errors import AppError, ContextTooLong, EngineCrashed, EngineHung, EngineRefused, HostOutOfMemory
from webui.planning.recovery import Attempt, StepKind
from webui.pool import PoolState, PoolStatus, Rung


def climbed(*kinds: StepKind, given_up: str = "") -> tuple[Rung, ...]:
    """A ladder whose last step worked."""
    states = ["failed"] * (len(kinds) - 1) + ["worked"]
    return tuple(
        Rung(Attempt(kind, "toy", {}, given_up=given_up), state, 0.0)  # type: ignore[arg-type]
        for kind, state in zip(kinds, states, strict=True)
    )


@pytest.mark.parametrize(
    ("status", "said"),
    [
        (PoolStatus(PoolState.LOADING), None),
        (PoolStatus(PoolState.READY, pid=7), None),  # nobody has noticed yet
        (PoolStatus(PoolState.READY), None),
        (PoolStatus(PoolState.EMPTY), ""),
        (PoolStatus(PoolState.FAILED), "could not be started again"),
        (PoolStatus(PoolState.READY, pid=8), "with the same settings"),
        (PoolStatus(PoolState.READY, pid=8, ladder=climbed(StepKind.RESTART)), "with the same settings"),
        (PoolStatus(PoolState.READY, pid=8, ladder=climbed(StepKind.SAFER_FLAGS)), "with safer engine flags."),
        (
            PoolStatus(
                PoolState.READY,
                pid=8,
                ladder=climbed(StepKind.RESTART, StepKind.SMALLER_CONTEXT, given_up="half the context."),
            ),
            "with smaller context: half the context.",
        ),
        (PoolStatus(PoolState.READY, pid=8, ladder=climbed(StepKind.ASKED)), ""),
    ],
)
def test_the_sentence_follows_from_the_status(status: PoolStatus, said: str | None) -> None:
    sentence = recovery_sentence(status, dead=7)
    assert sentence == said if not said else said in (sentence or "")


@pytest.mark.parametrize(
    ("error", "dead"),
    [
        (EngineCrashed("x", signal="SIGSEGV"), True),
        (EngineHung("x"), True),
        (HostOutOfMemory("x", signal="SIGKILL"), True),
        (HostOutOfMemory("x"), False),
        (EngineRefused("x"), False),
        (ContextTooLong("x"), False),
    ],
)
def test_only_a_death_is_followed_by_a_restart(error: AppError, dead: bool) -> None:
    assert died(error) is dead
