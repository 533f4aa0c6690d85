"""A question and the first words of its answer, in a request of the page's that waits for nothing else.

A question reaches the server and a reply the page through Gradio's events, each of which takes some frames. What people
feel is the first word, so the page asks in a request of its own, which the event that follows finds under way. A page
knows its own key, which cannot be guessed and comes with the page itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections import OrderedDict
from collections.abc import Awaitable, Callable

from webui.errors import NotFound
from webui.pool import Job

KEPT_PAGES = 1000
WAIT_SECONDS = 60.0

Ask = Callable[[str], "Awaitable[Job | None]"]
"""Asks the text on behalf of a page; None if it may not be asked now."""


class FirstWords:
    """One place for each open page; the oldest are forgotten. All methods belong to the pool's event loop."""

    def __init__(self) -> None:
        self._pages: OrderedDict[str, Ask] = OrderedDict()

    def open(self, ask: Ask) -> str:
        """The key of a new page, whose questions go to `ask`."""
        key = secrets.token_urlsafe(16)
        self._pages[key] = ask
        while len(self._pages) > KEPT_PAGES:
            self._pages.popitem(last=False)
        return key

    async def ask(self, key: str, text: str) -> str:
        """Ask `text` and return the first piece of the reply, "" if none comes within a minute. Raises `NotFound`."""
        ask = self._pages.get(key)
        if ask is None:
            raise NotFound("There is no such page.", hint="Reload the page.")
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(WAIT_SECONDS):
                job = await ask(text)
                return await _first(job) if job is not None else ""
        return ""


async def _first(job: Job) -> str:
    async for piece in job.pieces():
        if piece.strip():
            # Markup, such as an opened reasoning, is for the page's own drawing.
            return "" if piece.lstrip().startswith("<") else piece
    return ""
