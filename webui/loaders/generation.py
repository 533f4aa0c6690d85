"""One reply of a worker, as the pool sees it: events to iterate over, and a cancel."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator
from dataclasses import asdict
from typing import TYPE_CHECKING

from webui.loaders.channel import Garbled, read_end
from webui.loaders.contract import Chunk, Finished, GenerationRequest

if TYPE_CHECKING:
    from webui.loaders.supervisor import WorkerProcess

MOST_CHARACTERS = 64 * 1024 * 1024
CHARACTERS_PER_TOKEN = 256
SPARE_TOKENS = 256
"""A reply of more text than this, per token asked for and as a whole, is not one."""


class Generation:
    """One generation of a worker: its events, and a `cancel` of its own."""

    def __init__(self, worker: WorkerProcess, request: GenerationRequest) -> None:
        self._worker = worker
        self._request = request
        self._id = worker.new_id()
        self._cancelled = False

    async def events(self) -> AsyncGenerator[Chunk | Finished, None]:
        """Chunks as they come, then one `Finished`; an `AppError` is raised if the engine or the worker fails."""
        if self._cancelled:
            yield Finished("cancelled", 0, 0, 0.0, 0.0)
            return
        fields = {**asdict(self._request), "sampling": self._request.sampling.model_dump(mode="json")}
        message = {"op": "generate", "request": fields}
        complete = False
        room = self._most_characters()
        try:
            with self._worker.checking():
                async with contextlib.aclosing(self._worker.ask(message, self._id)) as answers:
                    async for answer in answers:
                        if answer["kind"] == "result":
                            complete = True
                            yield read_end(answer["value"])
                            return
                        if answer["kind"] != "chunk":
                            raise Garbled(f"a {answer['kind']} while it was to write")
                        room -= len(answer["text"])
                        if room < 0:
                            raise Garbled("more text than was asked for")
                        yield Chunk(answer["text"], answer["tokens"])
        finally:
            if not complete:
                self.cancel()

    def _most_characters(self) -> int:
        asked = self._request.sampling.max_tokens
        return MOST_CHARACTERS if asked < 0 else (asked + SPARE_TOKENS) * CHARACTERS_PER_TOKEN

    def cancel(self) -> None:
        """Ask the worker to end it; its `Finished` follows within a token's time."""
        self._cancelled = True
        self._worker.send({"id": self._id, "op": "cancel"})
