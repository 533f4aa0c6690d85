"""Noticing that the settings files were changed by somebody else while the app runs."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path

SECONDS_BETWEEN_LOOKS = 2.0

Mark = tuple[int, int, int]


class FileWatch:
    """Knows `files` as they are when it is made. A look is one call to the system for each of them."""

    def __init__(self, files: Sequence[Path]) -> None:
        self._files = tuple(files)
        self._seen = self._look()

    async def follow(self, changed: Callable[[], object], seconds: float = SECONDS_BETWEEN_LOOKS) -> None:
        """Call `changed`, in a thread, whenever one of the files is another than before. Runs until it is cancelled."""
        while True:
            now = await asyncio.to_thread(self._look)
            if now != self._seen:
                self._seen = now
                await asyncio.to_thread(changed)
            await asyncio.sleep(seconds)

    def _look(self) -> list[Mark | None]:
        return [_mark(file) for file in self._files]


def _mark(file: Path) -> Mark | None:
    try:
        found = file.stat()
    except OSError:  # not there, or not to be seen
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino
