"""Installations, repairs, roll-backs and trials that go on when the page is closed that started them, with their logs.

What is done and how is `webui.setup.installing`; this module keeps its task, its lines and its end, for every page
that looks. Two at once would write into the same environment, so a second is refused while one runs.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field

from webui.errors import AppError, Busy, Cancelled
from webui.setup.installing import LogLine, Work

LOG_LINES = 400
"""Lines kept of one installation: all of a pip run, the end of a compilation."""
BEING = {Work.INSTALL: "installed", Work.REPAIR: "repaired", Work.ROLL_BACK: "rolled back", Work.TEST: "tried"}


@dataclass(slots=True)
class Installation:
    """One run. `error` is set where it failed; `running` turns false at its end. Times are of the wall clock."""

    name: str
    work: Work = Work.INSTALL
    lines: deque[str] = field(default_factory=lambda: deque(maxlen=LOG_LINES))
    step: str = "starting"
    share: float | None = None
    running: bool = True
    error: AppError | None = None
    started_at: float = field(default_factory=time.time)
    written: int = 0
    """Lines there have been in all: tells a page whether there is anything new."""

    def add(self, line: LogLine) -> None:
        self.lines.append(line.text)
        self.written += 1
        self.share = line.share if line.share is not None else self.share
        self.step = line.text if line.step else self.step


class Installations:
    """Starts installations, ends them on request, and remembers the last one."""

    def __init__(self, do: Callable[[str, Work], AsyncIterator[LogLine]]) -> None:
        """`do` yields lines of output as it works, and raises an `AppError` where it fails."""
        self._do = do
        self._task: asyncio.Task[None] | None = None
        self.latest: Installation | None = None

    def start(self, name: str, work: Work = Work.INSTALL) -> Installation:
        """Begin to install `name`, or what else is asked, in the background; raises `Busy` while another one runs."""
        if self.latest is not None and self.latest.running:
            raise Busy(
                f"{self.latest.name} is being {BEING[self.latest.work]}; {name} has to wait until that is done.",
                hint="Start it again when the log says that the other is finished.",
            )
        self.latest = installation = Installation(name, work)
        self._task = asyncio.get_running_loop().create_task(self._run(installation), name=f"{work} {name}")
        return installation

    async def cancel(self) -> None:
        """End what is being installed; returns when it is gone."""
        if self._task is not None and not self._task.done():
            self._task.cancel()
        await self.wait()

    async def wait(self) -> None:
        """Return when nothing is being installed any more."""
        if self._task is not None:
            await asyncio.wait([self._task])

    async def _run(self, installation: Installation) -> None:
        try:
            async for line in self._do(installation.name, installation.work):
                installation.add(line)
        except AppError as error:
            installation.error = error
        except asyncio.CancelledError:
            installation.error = Cancelled(
                "It was cancelled.", hint="What was there before is as it was. Start it again at any time."
            )
            raise
        finally:
            installation.running = False
