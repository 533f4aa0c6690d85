"""How `run` tells the steps of a load: the lines, and that they come while it goes on."""

from __future__ import annotations

import asyncio
import io
import sys
from collections.abc import AsyncGenerator
from typing import Any

import pytest

from webui.cli.ladder import LadderTeller, ladder_lines, shown
from webui.errors import AppError, DeviceOutOfMemory, EngineCrashed, MissingPackage
from webui.loaders import LOADERS
from webui.planning.recovery import Attempt, Degraded, StepKind
from webui.pool.signal import Signal
from webui.pool.status import PoolState, PoolStatus, Rung

CRASH = EngineCrashed("xllamacpp crashed (SIGSEGV).", cause="its process was ended by SIGSEGV")
FULL = DeviceOutOfMemory("The GPU's memory does not suffice.")


def rung(
    kind: StepKind,
    loader: str,
    error: AppError | None = None,
    state: str = "",
    seconds: float | None = 1.25,
    **changes: Any,
) -> Rung:
    attempt = Attempt(kind, loader, {}, changes, "why", "speed")
    return Rung(attempt, state or ("failed" if error else "worked"), 0.0, seconds, error)  # type: ignore[arg-type]


LADDER = (
    rung(StepKind.ASKED, "xllamacpp", CRASH),
    rung(StepKind.SAFER_FLAGS, "xllamacpp", FULL, flash_attention="off"),
    rung(
        StepKind.NEXT_LOADER, "llamafile", MissingPackage("llamafile is not installed."), state="skipped", seconds=None
    ),
    rung(StepKind.NEXT_LOADER, "llama-cpp-python", state="running", seconds=None),
)
LINES = [
    "✗ xllamacpp: crashed (SIGSEGV), 1.25 s → trying: safer engine flags: flash_attention=off",
    "✗ xllamacpp: The GPU's memory does not suffice, 1.25 s → trying: next loader (llamafile)",
    "– llamafile: not tried: is not installed",
]


def test_a_load_that_works_as_it_was_asked_leaves_no_line() -> None:
    assert ladder_lines([rung(StepKind.ASKED, "xllamacpp")], LOADERS, over=True) == []
    assert ladder_lines([], LOADERS, over=True) == []


def test_each_step_says_what_failed_and_what_comes_next() -> None:
    assert ladder_lines(LADDER, LOADERS, over=False) == LINES
    worked = (*LADDER[:3], rung(StepKind.NEXT_LOADER, "llama-cpp-python", seconds=0.5))
    assert ladder_lines(worked, LOADERS, over=True) == [*LINES, "✓ llama-cpp-python: next loader, 500 ms"]


def test_the_last_step_waits_for_the_next_or_for_the_end() -> None:
    assert ladder_lines(LADDER[:1], LOADERS, over=False) == []
    assert ladder_lines(LADDER[:1], LOADERS, over=True) == ["✗ xllamacpp: crashed (SIGSEGV), 1.25 s"]


def test_a_step_in_the_json() -> None:
    assert shown(LADDER[1]) == {
        "step": "safer engine flags",
        "loader": "xllamacpp",
        "state": "failed",
        "seconds": 1.25,
        "code": "device_out_of_memory",
        "message": "The GPU's memory does not suffice.",
        "reason": "why",
        "changes": {"flash_attention": "off"},
        "given_up": "speed",
    }


class StandIn:
    """A pool of which only the status is asked."""

    def __init__(self) -> None:
        self.status = PoolStatus(PoolState.LOADING, step="reading the file", share=0.5)
        self.signal = Signal()

    async def watch(self) -> AsyncGenerator[PoolStatus, None]:
        while True:
            woken = self.signal.next()
            yield self.status
            await woken.wait()

    def show(self, **changes: Any) -> None:
        self.status = PoolStatus(PoolState.LOADING, step="reading the file", share=0.5, **changes)
        self.signal.fire()


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("stream", [io.StringIO, Terminal])
async def test_lines_come_while_the_load_goes_on_and_stay(
    stream: type[io.StringIO], monkeypatch: pytest.MonkeyPatch
) -> None:
    error = stream()
    monkeypatch.setattr(sys, "stderr", error)
    pool = StandIn()

    async def written(text: str) -> None:
        while text not in error.getvalue():
            await asyncio.sleep(0.001)

    async with LadderTeller(pool, "tiny", LOADERS):  # type: ignore[arg-type]
        for count in (2, 3, 4):
            pool.show(ladder=LADDER[:count])
            await asyncio.wait_for(written(LINES[count - 2] + "\n"), 5)
        pool.show(
            ladder=(*LADDER[:3], rung(StepKind.NEXT_LOADER, "llama-cpp-python")),
            degraded=Degraded("Runs with another."),
        )
    lines = [line.rpartition("\r")[2] for line in error.getvalue().split("\n")]
    assert [line.strip() for line in lines if line.strip()] == [
        *LINES,
        "✓ llama-cpp-python: next loader, 1.25 s",
        "Runs with another.",
    ]
    assert ("reading the file" in error.getvalue()) == error.isatty(), "progress is for terminals"
