"""The machine: memory and what is left of it, disks, and the clock."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from pathlib import Path

from webui.diagnostics.health.check import Check, HealthFacts, fine, names, problem, warning
from webui.hardware.facts import DiskFacts

GIB = 1 << 30
LOW_MEMORY = 1 * GIB
SMALL_MEMORY = 1 * GIB
"""Bytes below which memory is worth a word. Even a small model with its cache takes about 1 GiB."""
LOW_DISK, NO_DISK = 2 * GIB, 200 << 20
LOW_TEMPORARY, NO_TEMPORARY = 1 * GIB, 50 << 20
"""Temporary files are small, but installing a backend unpacks gigabytes there."""
STALLED = 10.0
"""Percent of a minute in which everything waited for memory: the machine does little but swap."""
SWAP_LEFT = 0.1
MINUTE, DAY = 60.0, 86_400.0
RELEASED = 1_790_000_000.0
"""A moment before this version was made: no clock that is right shows an earlier one."""
JUMP = 5 * MINUTE
AHEAD = DAY
KIND, NAME = "clock", "last"


def memory(facts: HealthFacts) -> Iterator[Check]:
    """Total and free memory, as much of it as this process may have."""
    found = facts.hardware.memory
    if not found.total:
        yield warning("Memory", "The memory's size could not be read.", "Look at it with the system's own tools.")
        return
    limited = " (limited by the container)" if found.limited else ""
    sentence = f"{found.available / GIB:.1f} GiB of {found.total / GIB:.1f} GiB are free{limited}."
    if found.limited and found.total < SMALL_MEMORY:
        yield problem(
            "Memory",
            f"The container may have {found.total / GIB:.2f} GiB of memory, too little for any model.",
            "Start it with more, for example: docker run --memory=8g …",
        )
    elif found.available < LOW_MEMORY:
        yield warning("Memory", sentence, "Close other programs, or unload the model, before loading another.")
    else:
        yield fine("Memory", sentence)


def swap(facts: HealthFacts) -> Iterator[Check]:
    """Whether memory is being moved to the disk and back, which makes replies crawl."""
    stalled, found = stall(facts.root), facts.hardware.memory
    advice = "Load a smaller model, a smaller context or fewer at once, or close other programs."
    if stalled is not None and stalled > STALLED:
        yield warning("Swap", f"In the last minute the machine waited for memory {stalled:.0f} % of the time.", advice)
    elif found.swap_total and found.swap_free is not None and found.available < LOW_MEMORY:
        if found.swap_free < found.swap_total * SWAP_LEFT:
            yield warning("Swap", "The swap space is nearly full, and so is the memory.", advice)
        else:
            yield fine("Swap", f"{found.swap_free / GIB:.1f} GiB of {found.swap_total / GIB:.1f} GiB are free.")
    else:
        yield fine("Swap", "Nothing waits for memory.")


def stall(root: Path) -> float | None:
    """Percent of the last minute in which all work waited for memory, as Linux counts it; `None` where it does not."""
    try:
        lines = (root / "proc/pressure/memory").read_text().splitlines()
    except OSError:
        return None
    for line in lines:
        kind, *pairs = line.split()
        if kind == "full":
            return next((float(pair.partition("=")[2]) for pair in pairs if pair.startswith("avg60=")), None)
    return None


def disks(facts: HealthFacts) -> Iterator[Check]:
    """The file systems that the app writes to, each once."""
    for place, found in facts.disks.items():
        if not found.total:
            yield warning(
                "Disk", f"Its size could not be read for {found.path}.", "Look at it with the system's tools."
            )
            continue
        yield _disk(place, found)


def _disk(place: str, found: DiskFacts) -> Check:
    temporary = place == "temporary files"
    low, none = (LOW_TEMPORARY, NO_TEMPORARY) if temporary else (LOW_DISK, NO_DISK)
    name = "Disk for temporary files" if temporary else "Disk" if place == "models" else f"Disk for {place}"
    sentence = f"{found.free / GIB:.1f} GiB are free for {place} in {found.path}."
    if found.free >= low:
        return fine(name, sentence)
    fix = {
        "models": "Free some space, or point --models-dir to another disk.",
        "temporary files": "Free some space, or set TMPDIR to a folder on another disk before the start.",
    }.get(place, "Free some space, or choose a home on another disk with GGUF_HOME.")
    return (problem if found.free < none else warning)(name, sentence, fix)


def clock(facts: HealthFacts) -> Iterator[Check]:
    """The time against the times of files, and against the time that has really passed since the last look."""
    now = facts.now
    if now < RELEASED:
        yield problem(
            "Clock",
            f"It shows {_day(now)}, which is before this version was made: certificates and sign-ins fail.",
            _set_clock(),
        )
        return
    late = [file for file in _own_files(facts) if _written(file) > now + AHEAD]
    if late:
        yield warning(
            "Clock",
            f"{len(late)} files in the app's home are dated in the future ({names([file.name for file in late])}): the "
            "clock is wrong, or was.",
            f"{_set_clock()}. If it is right now, correct the files' times",
            "correct-times",
        )
        return
    jumped = _jump(facts)
    if abs(jumped) > JUMP:
        yield warning(
            "Clock",
            f"It was set {'forward' if jumped > 0 else 'back'} by {abs(jumped) / MINUTE:.0f} minutes since the last "
            "look; what was measured meanwhile may be off.",
            "If it is right now, take it as it is",
            "accept-clock",
        )
        return
    note_clock(facts, only_first=True)
    yield fine("Clock", f"It shows {_day(now)}.")


def late_files(facts: HealthFacts) -> list[Path]:
    """Files of the app that are dated in the future."""
    return [file for file in _own_files(facts) if _written(file) > facts.now]


def note_clock(facts: HealthFacts, *, only_first: bool = False) -> None:
    """Remember what the clock shows beside the time since the machine was started."""
    boot = _boot(facts.root)
    if boot and not (only_first and facts.evidence.get(KIND, NAME, boot)):
        facts.evidence.put(KIND, NAME, boot, {"wall": facts.now, "since": _since_boot()})


def _jump(facts: HealthFacts) -> float:
    """Seconds by which the clock moved other than time did, since it was noted; 0 where nothing is known."""
    boot = _boot(facts.root)
    noted = facts.evidence.get(KIND, NAME, boot) if boot else None
    if noted is None:
        return 0.0
    return (facts.now - float(noted["wall"])) - (_since_boot() - float(noted["since"]))


def _own_files(facts: HealthFacts) -> Iterator[Path]:
    """What the app itself writes: files right in its home and in its folders for chats, logs and memory."""
    for folder in (facts.paths.home, facts.paths.chats, facts.paths.logs, facts.paths.cache):
        try:
            yield from (file for file in sorted(folder.iterdir()) if file.is_file())
        except OSError:  # not made yet, or closed to us, which is told elsewhere
            continue


def _written(file: Path) -> float:
    try:
        return file.stat().st_mtime
    except OSError:  # gone since it was listed
        return 0.0


def _boot(root: Path) -> str:
    """What tells one start of the machine from another; empty where nothing does."""
    try:
        return (root / "proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


def _since_boot() -> float:
    """Seconds since the start, sleep included where the system counts it."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) if sys.platform == "linux" else time.monotonic()


def _day(moment: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(moment))


def _set_clock() -> str:
    command = {"linux": "sudo timedatectl set-ntp true", "darwin": "sudo sntp -sS time.apple.com"}
    return f"Set the clock: {command.get(sys.platform, 'w32tm /resync')}"
