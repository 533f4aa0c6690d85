"""Progress and errors on a terminal, with the standard library only: the first start has nothing else yet.

On a terminal one line is rewritten in place; into a file or a pipe a line is written when the work moves on noticeably.
"""

from __future__ import annotations

import shutil
import sys
import time
from typing import TextIO

from webui.errors import AppError

BAR_CELLS = 24
REDRAW_SECONDS = 0.1
PLAIN_PERCENT = 10
"""Without a terminal: how far the work must get before another line is written."""


class TerminalProgress:
    """Shows `share` (0 … 1, None where unknown) and what is being done. Call `finish` or `stop` at the end."""

    def __init__(self, title: str, stream: TextIO | None = None) -> None:
        self.title = title
        self.stream = stream or sys.stderr
        self.live = self.stream.isatty()
        self._drawn = 0.0
        self._plain_steps = -1
        self._plain_phases: set[str] = set()

    def __call__(self, text: str, share: float | None) -> None:
        """Report the step `text` and the share of the whole that is done."""
        if self.live:
            self._redraw(text, share)
        else:
            self._line(text, share)

    def note(self, sentence: str) -> None:
        """A sentence that stays, above the progress line."""
        self._clear()
        self.stream.write(sentence + "\n")
        self.stream.flush()

    def finish(self, sentence: str) -> None:
        """The work is done: one closing sentence instead of the progress line."""
        self.note(f"{self.title}: {sentence}")

    def stop(self) -> None:
        """The work ended otherwise: take the progress line away."""
        self._clear()

    def _redraw(self, text: str, share: float | None) -> None:
        now = time.monotonic()
        if now - self._drawn < REDRAW_SECONDS:
            return
        self._drawn = now
        if share is None:
            bar = f"[{' ' * BAR_CELLS}]     "
        else:
            filled = int(min(max(share, 0.0), 1.0) * BAR_CELLS)
            bar = f"[{'#' * filled}{' ' * (BAR_CELLS - filled)}] {share * 100:3.0f}%"
        width = shutil.get_terminal_size().columns - 1
        self.stream.write(f"\r{f'{self.title} {bar} {text}'[:width]:<{width}}")
        self.stream.flush()

    def _line(self, text: str, share: float | None) -> None:
        phase = text.partition(" ")[0]
        steps = self._plain_steps if share is None else round(share * 100) // PLAIN_PERCENT
        if steps <= self._plain_steps and phase in self._plain_phases:
            return
        self._plain_phases.add(phase)
        self._plain_steps = steps
        percent = "" if share is None else f"{share * 100:.0f}% "
        self.stream.write(f"{self.title}: {percent}{text}\n")
        self.stream.flush()

    def _clear(self) -> None:
        if self.live:
            self.stream.write("\r" + " " * (shutil.get_terminal_size().columns - 1) + "\r")


def write_error(error: AppError, stream: TextIO | None = None) -> None:
    """One line of what happened and why, one line of what to do."""
    stream = stream or sys.stderr
    cause = f" ({error.cause})" if error.cause else ""
    stream.write(f"Error: {error.message}{cause}\n")
    if error.hint:
        stream.write(f"Hint: {error.hint}\n")
    stream.flush()
