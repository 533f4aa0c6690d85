"""What the operating system says a process is doing: for one that no longer answers for itself.

Per thread: its name, its state, what it waits for in the kernel, and whether it used the processor meanwhile, which
tells a spinning thread from a waiting one.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import psutil

STATE_SECONDS = 0.5
"""The time between the two looks that tell a thread that computes from one that waits."""

SPINNING_SHARE = 0.2
"""A thread that used this share of the time between two looks was at work."""

MOST_THREADS = 24
"""Threads that are described one by one, the busiest first."""

_STATES = {
    "R": "running",
    "S": "waiting",
    "D": "waiting for a device",
    "T": "stopped by a signal",
    "t": "stopped by a debugger",
    "Z": "ended",
    "X": "ended",
    "I": "idle",
}
_STATE_FIELD, _USER_FIELD, _SYSTEM_FIELD = 0, 11, 12
"""Places in /proc/…/stat, counted after the name, which may hold anything."""
_TICKS = 100.0
"""The kernel tells processor time in hundredths of a second, whatever its own clock."""


@dataclass(frozen=True, slots=True)
class Look:
    """One thread at one moment. `seconds` is the processor time it has used so far."""

    name: str
    state: str
    waits_for: str
    seconds: float


async def watch(pids: list[int], *, dumps_stacks: bool) -> list[str]:
    """Look at the processes for half a second and say in lines what they do.

    With `dumps_stacks`, the first of them prints its Python stacks when it gets SIGUSR1, and is asked to.
    """
    before = look(pids)
    if sys.platform != "win32" and dumps_stacks:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pids[0], signal.SIGUSR1)
    await asyncio.sleep(STATE_SECONDS)
    return describe(before, look(pids), STATE_SECONDS)


def look(pids: Iterable[int]) -> dict[tuple[int, int], Look]:
    """(process, thread) → what it does. Processes that have ended are left out."""
    seen: dict[tuple[int, int], Look] = {}
    for pid in pids:
        if sys.platform == "linux":
            for folder in _entries(Path(f"/proc/{pid}/task")):
                if (found := _look_at(folder)) is not None:
                    seen[pid, int(folder.name)] = found
        elif (whole := _look_at_whole(pid)) is not None:
            seen[pid, pid] = whole
    return seen


def describe(before: dict[tuple[int, int], Look], after: dict[tuple[int, int], Look], seconds: float) -> list[str]:
    """One line for each process and for each of its threads, from two looks that lie `seconds` apart."""
    lines = []
    for pid in dict.fromkeys(process for process, _ in after):
        used = {
            thread: max(0.0, now.seconds - before[process, thread].seconds) / seconds
            for (process, thread), now in after.items()
            if process == pid and (process, thread) in before
        }
        busy = sum(used.values())
        stopped = all(after[pid, thread].state.startswith("stopped") for thread in used)
        doing = "stopped" if stopped and used else "spinning" if busy >= SPINNING_SHARE else "waiting"
        lines.append(f"state of process {pid}: {doing}, {len(used)} threads, {busy:.0%} of a processor")
        for thread in sorted(used, key=lambda each: -used[each])[:MOST_THREADS]:
            now = after[pid, thread]
            waits = f" in {now.waits_for}" if now.waits_for else ""
            lines.append(f"  thread {thread} {now.name}: {now.state}{waits}, {used[thread]:.0%}")
    return lines


def _entries(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except OSError:
        return []


def _look_at(folder: Path) -> Look | None:
    try:
        head, _, tail = (folder / "stat").read_text(encoding="utf-8", errors="replace").rpartition(")")
    except OSError:
        return None
    fields = tail.split()
    return Look(
        name=head.partition("(")[2],
        state=_STATES.get(fields[_STATE_FIELD], fields[_STATE_FIELD]),
        waits_for=_wait_channel(folder),
        seconds=(int(fields[_USER_FIELD]) + int(fields[_SYSTEM_FIELD])) / _TICKS,
    )


def _wait_channel(folder: Path) -> str:
    """The kernel's function a thread waits in, where it tells."""
    try:
        name = (folder / "wchan").read_text(encoding="ascii", errors="replace").strip()
    except OSError:
        return ""
    return "" if name == "0" else name


def _look_at_whole(pid: int) -> Look | None:
    try:
        process = psutil.Process(pid)
        times = process.cpu_times()
        return Look(process.name(), process.status(), "", times.user + times.system)
    except psutil.Error:
        return None
