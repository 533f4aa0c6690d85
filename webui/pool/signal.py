"""A wake-up call that many tasks may wait for: no lost wake-ups, no queue, no subscribers to forget."""

from __future__ import annotations

import asyncio


class Signal:
    """`next()` is what the next `fire()` sets. Take it before looking at the state, wait on it afterwards:

    woken = signal.next()
    if nothing_new():
        await woken.wait()
    """

    def __init__(self) -> None:
        self._event = asyncio.Event()

    def next(self) -> asyncio.Event:
        return self._event

    def fire(self) -> None:
        fired, self._event = self._event, asyncio.Event()
        fired.set()
