"""The live monitor: one sampler for everybody who watches, and the last minutes in a ring.

It costs nothing while nobody watches. Whoever does holds a subscription (`watching`), or asks again and again and is
taken to watch until some seconds after (`stay_awake`), as pages do.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
import time
from collections import deque
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

from webui.hardware.sampling import Sample, Sampler

log = logging.getLogger(__name__)

SECONDS = 1.0
KEPT = 300
"""Samples: five minutes."""


@dataclass(frozen=True, slots=True)
class Window:
    """Samples with their numbers: the first of `samples` has number `first`. Numbers hold for one `epoch` only."""

    epoch: str
    first: int
    samples: tuple[Sample, ...]


class Monitor:
    """All methods belong to one event loop. `sampler` makes the sampler when somebody begins to watch, in a thread;
    `workers` gives the processes whose share is told apart, `speed` the tokens per second of what is being written.
    """

    def __init__(
        self,
        sampler: Callable[[], Sampler],
        workers: Callable[[], Collection[int]] = tuple,
        speed: Callable[[], float | None] = lambda: None,
        *,
        seconds: float = SECONDS,
        kept: int = KEPT,
    ) -> None:
        self._make, self._workers, self._speed, self._seconds = sampler, workers, speed, seconds
        self._ring: deque[Sample] = deque(maxlen=kept)
        self._epoch = secrets.token_hex(4)
        self._next = 0
        self._watchers = 0
        self._awake_until = float("-inf")
        self._task: asyncio.Task[None] | None = None

    @property
    def running(self) -> bool:
        return self._task is not None and not self._task.done()

    @contextlib.contextmanager
    def watching(self) -> Iterator[None]:
        """Samples are taken as long as this is open."""
        self._watchers += 1
        self._begin()
        try:
            yield
        finally:
            self._watchers -= 1

    def stay_awake(self, seconds: float) -> None:
        """Take samples for at least so long from now."""
        self._awake_until = max(self._awake_until, time.monotonic() + seconds)
        self._begin()

    def since(self, number: int = 0) -> Window:
        """The samples that are kept, from `number` on; a negative one counts from the end."""
        first = self._next - len(self._ring)
        start = max(first, self._next + number if number < 0 else number)
        taken = [self._ring[place] for place in range(start - first, len(self._ring))]
        return Window(self._epoch, min(start, self._next), tuple(taken))

    def sampled_since(self, at: float) -> tuple[Sample, ...]:
        """The samples that are kept and were taken after `at` (wall clock)."""
        return tuple(sample for sample in self._ring if sample.at >= at)

    async def close(self) -> None:
        """End at once, whoever watches."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    def _begin(self) -> None:
        if not self.running:
            self._task = asyncio.get_running_loop().create_task(self._run())

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        # A thread of its own, so that what is asked of the sampler happens one after the other, its end last.
        with ThreadPoolExecutor(1, "monitor") as thread:
            sampler: Sampler | None = None
            try:
                sampler = await loop.run_in_executor(thread, self._make)
                await loop.run_in_executor(thread, sampler.open)
                while self._watchers > 0 or time.monotonic() < self._awake_until:
                    began = time.monotonic()
                    sample = await loop.run_in_executor(thread, sampler.sample, tuple(self._workers()))
                    self._ring.append(replace(sample, speed=self._speed()))
                    self._next += 1
                    await asyncio.sleep(max(0.0, began + self._seconds - time.monotonic()))
            except Exception:
                log.exception("The monitor ended")  # a fault of the machine's costs its picture and nothing else
            finally:
                if sampler is not None:
                    await asyncio.shield(loop.run_in_executor(thread, sampler.close))
