"""What an engine's processes really hold: memory of their own, and the pages of the model's files that are in memory.

Read from /proc/…/smaps, where the two are told apart; elsewhere only their sum is known.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import psutil

KIB = 1024


@dataclass(frozen=True, slots=True)
class Held:
    """Bytes. `own` cannot be taken back; `mapped` are pages of files, which the system may drop."""

    own: int
    mapped: int = 0

    @property
    def total(self) -> int:
        return self.own + self.mapped


def held_memory(pids: Iterable[int], files: Iterable[Path]) -> Held | None:
    """What the processes hold together, of files only those in `files`. `None` when none of them lives.

    Takes about a millisecond for each 100 MiB that they hold.
    """
    named = frozenset(str(file.resolve()) for file in files)
    found = []
    for pid in pids:
        with contextlib.suppress(psutil.Error, OSError):
            found.append(_of_process(pid, named))
    return Held(sum(one.own for one in found), sum(one.mapped for one in found)) if found else None


def _of_process(pid: int, files: frozenset[str]) -> Held:
    if sys.platform != "linux":
        return Held(int(psutil.Process(pid).memory_info().rss))
    own = mapped = 0
    of_file = False
    with open(f"/proc/{pid}/smaps", encoding="utf-8", errors="replace") as maps:  # noqa: PTH123
        for line in maps:
            name, _, rest = line.partition(" ")
            if not name.endswith(":"):  # a new range: addresses, rights, offset, device, inode, file
                fields = rest.split(None, 4)
                of_file = len(fields) > 4 and fields[4].rstrip("\n") in files
            elif name == "Anonymous:":
                own += int(rest.split()[0]) * KIB
            elif of_file and name == "Rss:":
                mapped += int(rest.split()[0]) * KIB
    return Held(own, mapped)
