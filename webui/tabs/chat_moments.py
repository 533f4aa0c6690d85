"""When there is something new to show of a reply."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator

from webui.pool import Job

WAITING_SECONDS = 1.0
"""How often somebody who waits is told what for: a job knows its place, not what the model is doing meanwhile."""


async def moments(job: Job, per_second: float) -> AsyncGenerator[Job, None]:
    """The job at each of its updates, and until its first text every now and then besides."""
    updates = job.updates(per_second)
    upcoming = asyncio.ensure_future(anext(updates))
    try:
        while True:
            done, _ = await asyncio.wait({upcoming}, timeout=None if job.text else WAITING_SECONDS)
            if done:
                try:
                    upcoming.result()
                except StopAsyncIteration:
                    return
                upcoming = asyncio.ensure_future(anext(updates))
            yield job
    finally:
        upcoming.cancel()
        with contextlib.suppress(asyncio.CancelledError, StopAsyncIteration):
            await upcoming
        await updates.aclose()


async def first_text(job: Job, seconds: float) -> None:
    """Wait for the first text as long as nobody notices: drawn with the question, it is on the page sooner."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            async for now in job.updates(1 / seconds):
                if now.text:
                    return
