"""Replies as measurements: what people get anyway tells how fast a loader is here."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable

from webui.loaders.contract import Finished
from webui.pool.measurements import Measurements, Speed
from webui.pool.residency import Residency

log = logging.getLogger(__name__)

LEAST_TOKENS = 32
"""A shorter reply, or prompt, measures the fixed cost of a request instead of the speed."""
PAUSE_SECONDS = 30.0
"""Between two replies that are kept: each costs a file, written in a thread."""


class ReplySpeeds:
    """Keeps the speed of a reply now and then. All methods belong to the pool's event loop."""

    def __init__(self, measurements: Measurements, clock: Callable[[], float] = time.monotonic) -> None:
        self._measurements = measurements
        self._clock = clock
        self._latest: dict[Residency, float] = {}
        self._keeping: set[asyncio.Task[None]] = set()

    def note(self, residency: Residency, finished: Finished) -> None:
        """`residency` has written a reply and did nothing else meanwhile."""
        tokens, seconds = finished.completion_tokens - 1, finished.generation_seconds
        last = self._latest.get(residency, float("-inf"))
        if tokens < LEAST_TOKENS or seconds <= 0 or self._keeping or self._clock() - last < PAUSE_SECONDS:
            return
        self._latest = {residency: self._clock()}
        task = asyncio.create_task(asyncio.to_thread(self._keep, residency, finished))
        self._keeping.add(task)
        task.add_done_callback(self._kept)

    async def close(self) -> None:
        """Return when nothing is being written any more."""
        if self._keeping:
            await asyncio.wait(self._keeping)

    def _keep(self, residency: Residency, finished: Finished) -> None:
        spec, parameters, worker = residency.spec, residency.parameters, residency.worker
        if spec is None or parameters is None or worker is None:
            return  # it died with its last word
        values = parameters.model_dump(mode="json")
        read = finished.prompt_tokens - finished.cached_tokens
        long = read >= LEAST_TOKENS and finished.prompt_seconds > 0
        speed = Speed(
            spec.name,
            values,
            (finished.completion_tokens - 1) / finished.generation_seconds,
            prompt_tokens_per_second=read / finished.prompt_seconds if long else None,
            load_seconds=residency.load_seconds,
            memory_bytes=worker.memory_bytes(),
            depth=finished.prompt_tokens,
            measured_at=time.time(),
            source="reply",
        )
        self._measurements.add(residency.facts, spec.availability(residency.facts, values).version, speed)

    def _kept(self, task: asyncio.Task[None]) -> None:
        self._keeping.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("The speed of a reply could not be kept", exc_info=error)
