"""Turns what pip prints into steps and a share that a person can watch. Standard library only."""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

ReportStep = Callable[[str, "float | None"], None]


@dataclass(frozen=True, slots=True)
class Phases:
    """Where the phases of an installation end on the way from 0 to 1. The last, installing, ends at 1."""

    found: float
    fetched: float
    compiled: float


READY_WHEELS = Phases(0.15, 0.75, 0.75)
COMPILING = Phases(0.03, 0.08, 0.92)
"""With something to compile, that is nearly all of the time."""

TICK_SECONDS = 0.5

_COLLECTING = re.compile(r"^\s*(?:Collecting|Requirement already satisfied:|Processing)\s+(\S+)")
_FETCHING = re.compile(r"^\s*(Downloading|Using cached|Saved)\s+(\S+?)(?:\s+\(([\d.]+)\s*([kMG]?B|bytes)\))?$")
_BUILDING = re.compile(r"^\s*Building wheel for (\S+).*: started")
_BUILD_STEP = re.compile(r"^\s*\[(\d+)/(\d+)\]\s+(.*)")
_INSTALLING = re.compile(r"^Installing collected packages: (.*)")
_UNITS = {"B": 1, "bytes": 1, "kB": 1_000, "MB": 1_000_000, "GB": 1_000_000_000}


class Meter:
    """Derives the step and the share from pip's lines and, between them, from what arrives on the disk."""

    def __init__(self, report: ReportStep, expected: int, scratch: Path, library: Path | None, phases: Phases) -> None:
        self._report = report
        self._expected = expected
        self._phases = phases
        self._scratch = scratch
        self._collected = self._fetched = 0
        self._text = "asking the package index"
        self._share = 0.0
        self._file_bytes = 0.0
        self._bytes_before = 0
        self._library = library
        self._installing = self._there_before = 0
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._tick, name="pip-progress", daemon=True)

    def start(self) -> None:
        self._report(self._text, 0.0)
        self._thread.start()

    def stop(self) -> None:
        self._ended.set()
        self._thread.join()

    def read(self, line: str) -> None:
        """Take one line of pip's output into account."""
        with self._lock:
            if match := _FETCHING.match(line):
                self._fetch(match)
            elif match := _COLLECTING.match(line):
                self._collected += 1
                name = match[1].replace("\\", "/").rpartition("/")[2]
                name = name.partition("-")[0] if name.endswith((".whl", ".tar.gz")) else name.partition("==")[0]
                self._advance(f"finding {name}", self._phases.found * min(self._collected / self._expected, 1.0))
            elif match := _BUILD_STEP.match(line):
                done, total = int(match[1]), max(int(match[2]), 1)
                part = done / total
                share = self._phases.fetched + (self._phases.compiled - self._phases.fetched) * part
                self._advance(f"compiling, step {done} of {total}", share)
            elif match := _BUILDING.match(line):
                self._advance(f"compiling {match[1]} (this takes some minutes)", self._share)
            elif match := _INSTALLING.match(line):
                self._installing = len(match[1].split(", "))
                self._there_before = _packages_in(self._library)
                self._advance(f"installing {self._installing} packages", self._phases.compiled)
            elif line.startswith("Successfully installed"):
                self._advance("installed", 1.0)

    def _fetch(self, match: re.Match[str]) -> None:
        name = match[2].rpartition("/")[2]
        if name.endswith(".metadata"):
            return
        self._fetched += 1
        self._file_bytes = float(match[3]) * _UNITS[match[4]] if match[1] == "Downloading" and match[3] else 0.0
        self._bytes_before = _bytes_in(self._scratch)
        size = f" ({match[3]} {match[4]})" if match[3] else ""
        self._advance(f"fetching {name.partition('-')[0]}{size}", self._fetch_share(self._fetched - 1))

    def _fetch_share(self, files: float) -> float:
        found, fetched = self._phases.found, self._phases.fetched
        return found + (fetched - found) * min(files / self._expected, 1.0)

    def _advance(self, text: str, share: float) -> None:
        self._text = text
        self._share = max(self._share, min(share, 1.0))  # never backwards: several packages pass through each phase
        self._report(self._text, self._share)

    def _tick(self) -> None:
        while not self._ended.wait(TICK_SECONDS):
            with self._lock:
                if self._text.startswith("fetching") and self._file_bytes:
                    part = min((_bytes_in(self._scratch) - self._bytes_before) / self._file_bytes, 1.0)
                    self._share = max(self._share, self._fetch_share(self._fetched - 1 + max(part, 0.0)))
                elif self._installing and self._library is not None:
                    part = min((_packages_in(self._library) - self._there_before) / self._installing, 1.0)
                    done = self._phases.compiled
                    self._share = max(self._share, done + (1 - done) * part)
                self._report(self._text, self._share)


def _packages_in(library: Path | None) -> int:
    return 0 if library is None else sum(1 for _ in library.glob("*.dist-info"))


def _bytes_in(folder: Path) -> int:
    total = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            try:
                total += (Path(parent) / name).stat().st_size
            except FileNotFoundError:  # pip moves files while we look
                continue
    return total
