"""Who may use how much of a KV cache that several jobs share.

llama.cpp's server lets each slot grow until the common cache is full, and then ends every reply that is being written,
whoever filled it. So each job reserves here what it can come to need, prompt and longest reply, before it starts, and
waits its turn while others hold it.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager

WAKE_SECONDS = 0.05
"""How often a waiting job looks whether it was cancelled."""


class ContextBudget:
    """`size` tokens, given out in the order in which they were asked for."""

    def __init__(self, size: int) -> None:
        self.size = size
        self._free = size
        self._changed = threading.Condition()
        self._waiting: deque[object] = deque()

    @contextmanager
    def reserve(self, tokens: int, cancelled: threading.Event) -> Iterator[bool]:
        """Hold `tokens` (at most all there are) for the block; the block gets False if it was cancelled before.

        A later job that would fit does not overtake one that waits: a long reply would otherwise never get its turn.
        """
        wanted = min(tokens, self.size)
        held = self._take(wanted, cancelled)
        try:
            yield held
        finally:
            if held:
                self._give_back(wanted)

    def _take(self, wanted: int, cancelled: threading.Event) -> bool:
        ticket = object()
        with self._changed:
            self._waiting.append(ticket)
            try:
                while self._waiting[0] is not ticket or self._free < wanted:
                    if cancelled.is_set():
                        return False
                    self._changed.wait(WAKE_SECONDS)
                self._free -= wanted
                return True
            finally:
                self._waiting.remove(ticket)
                self._changed.notify_all()

    def _give_back(self, tokens: int) -> None:
        with self._changed:
            self._free += tokens
            self._changed.notify_all()
