"""A job is one generation. It lives on the server: pages and API calls watch it, and none of them owns it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
import uuid
from array import array
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterator
from dataclasses import replace
from enum import StrEnum
from typing import Any

from webui.errors import AppError, Cancelled, NotLoaded
from webui.loaders.contract import Chunk, Finished, GenerationRequest, LoadedModel
from webui.models.facts import ModelFacts
from webui.pool.signal import Signal
from webui.pool.tasks import as_app_error

log = logging.getLogger(__name__)

Remake = Callable[[ModelFacts, LoadedModel, str], Coroutine[Any, Any, GenerationRequest]]
"""Makes, for another model, the request that goes on after the text a job has so far."""


class JobState(StrEnum):
    QUEUED = "queued"
    PROMPT = "prompt"  # the engine reads the prompt
    GENERATING = "generating"
    DONE = "done"
    CANCELLED = "cancelled"
    FAILED = "failed"


FINAL = frozenset({JobState.DONE, JobState.CANCELLED, JobState.FAILED})


class Job:
    """One generation: its state, the text so far, its counts and times, and its own cancel.

    `owner` is who asked (a conversation's id, or an API client). Times are seconds; `created_at` is on the wall
    clock, durations are measured on the monotonic one. All methods belong to the pool's event loop.

    `made_for` is the model whose template made the request's prompt (`None`: plain text, good for any model, or with
    `remake` a prompt that is made anew in any case). A job that is handed over to another model goes on where its text
    ends, with the request that `remake` makes. `loader` names the backend that has it, or had it last. `shared` tells
    that its engine wrote other replies beside it.

    For a profile of the reply: `prepared_seconds` is how long its prompt was made before there was a job, `arrivals`
    are the times at which tokens came, and `shown_seconds` how long it took to show them, until `shown_until`.
    """

    def __init__(
        self,
        request: GenerationRequest,
        owner: str,
        *,
        made_for: ModelFacts | None = None,
        remake: Remake | None = None,
    ) -> None:
        self.id = uuid.uuid4().hex
        self.request = request
        self.owner = owner
        self.state = JobState.QUEUED
        self.place = 0
        self.tokens = 0
        self.error: AppError | None = None
        self.finished: Finished | None = None
        self.created_at = time.time()
        self.started_seconds: float | None = None
        self.first_token_seconds: float | None = None
        self.total_seconds: float | None = None
        self.prepared_seconds: float | None = None
        self.arrivals = array("f")
        self.shown_seconds = 0.0
        self.shown_until: float | None = None
        self._origin = time.monotonic()
        self._pieces: list[str] = []
        self._text = ""
        self._joined = 0
        self._signal = Signal()
        self._cancel: Callable[[], object] | None = None
        self.cancel_asked = False
        self.loader = ""
        self.made_for = made_for
        self.leaving = False
        self.sent_again = False
        self.shared = False
        self._remake = remake
        self._tokens_before = 0
        self._seconds_before = 0.0

    @property
    def text(self) -> str:
        """The reply so far."""
        if self._joined < len(self._pieces):
            self._text += "".join(self._pieces[self._joined :])
            self._joined = len(self._pieces)
        return self._text

    @property
    def ended(self) -> bool:
        return self.state in FINAL

    @property
    def tokens_per_second(self) -> float | None:
        """Speed of generation without the prompt: the engine's own figure at the end, an estimate until then."""
        if self.finished is not None:
            tokens, seconds = self.finished.completion_tokens - 1, self.finished.generation_seconds
        elif self.first_token_seconds is not None:
            now = self._elapsed() if self.total_seconds is None else self.total_seconds
            tokens, seconds = self.tokens - 1, now - self.first_token_seconds
        else:
            return None
        return tokens / seconds if tokens > 0 and seconds > 0 else None

    @property
    def handed_over(self) -> bool:
        """Whether another model began it, so that its figures are not those of one."""
        return self._tokens_before > 0

    @property
    def used_tokens(self) -> int | None:
        """Tokens of the context that prompt and reply hold; `None` until the engine has counted the prompt."""
        if self.finished is None:
            return None
        return self.finished.prompt_tokens + self.finished.completion_tokens

    def cancel(self) -> None:
        """Ask for the end of this job, and of no other. Does nothing once it has ended."""
        self.cancel_asked = True
        if self._cancel is not None:
            self._cancel()

    async def pieces(self) -> AsyncGenerator[str, None]:
        """Every piece of text, from the first, as it comes. Ends with the job, whatever its end."""
        seen = 0
        while True:
            woken = self._signal.next()
            while seen < len(self._pieces):
                seen += 1
                yield self._pieces[seen - 1]
            if self.ended and seen == len(self._pieces):
                return
            if seen == len(self._pieces):
                await woken.wait()

    async def updates(self, per_second: float) -> AsyncGenerator[Job, None]:
        """The job at each change, the first text at once, later at most `per_second` times, and at its end."""
        interval = 1.0 / per_second
        last, seen_text = float("-inf"), False
        while True:
            woken = self._signal.next()
            yield self
            if self.ended:
                return
            # Changes of state and the first text are shown at once; only a stream of tokens is slowed down.
            last = time.monotonic() if seen_text else last
            seen_text = seen_text or bool(self._pieces)
            await woken.wait()
            pause = last + interval - time.monotonic()
            if pause > 0 and not self.ended:
                await self._sleep_unless_ended(pause)

    async def wait(self) -> Job:
        """Return when the job has ended."""
        while not self.ended:
            await self._signal.next().wait()
        return self

    @contextlib.contextmanager
    def showing(self) -> Iterator[None]:
        """The block shows some of the reply to somebody."""
        began = self._elapsed()
        try:
            yield
        finally:
            self.shown_until = self._elapsed()
            self.shown_seconds += self.shown_until - began

    # --- for the scheduler --------------------------------------------------------------------------------------

    def start(self, cancel: Callable[[], None]) -> None:
        """The engine takes it: `cancel` ends it from now on."""
        self._cancel = cancel
        self.started_seconds = self._elapsed()
        self.place = 0
        self._enter(JobState.PROMPT)
        if self.cancel_asked or self.leaving:
            cancel()

    def move(self, place: int) -> None:
        """Its place in the queue has changed; 0 is running."""
        if place != self.place:
            self.place = place
            self._signal.fire()

    def wait_for_start(self, give_up: Callable[[], None]) -> None:
        """It stands in the queue: a cancel takes it out by calling `give_up`."""
        self._cancel = give_up

    def take(self, chunk: Chunk) -> None:
        """More tokens came."""
        self.tokens += chunk.tokens
        now = self._elapsed()
        self.arrivals.append(now)
        if self.first_token_seconds is None:
            self.first_token_seconds = now
            self.state = JobState.GENERATING
        if chunk.text:
            self._pieces.append(chunk.text)
        self._signal.fire()

    def finish(self, finished: Finished) -> None:
        """The engine's own word on the end. What an earlier model wrote counts as written, not as prompt."""
        self.finished = replace(
            finished,
            prompt_tokens=max(0, finished.prompt_tokens - self._tokens_before),
            completion_tokens=finished.completion_tokens + self._tokens_before,
            generation_seconds=finished.generation_seconds + self._seconds_before,
        )
        self._end(JobState.CANCELLED if finished.reason == "cancelled" else JobState.DONE)

    def fail(self, error: AppError) -> None:
        """It ended without the engine's own word: by an error, or cancelled while it waited. The text stays."""
        self.error = error
        self._end(JobState.CANCELLED if isinstance(error, Cancelled) else JobState.FAILED)

    def leave(self) -> None:
        """Stop where it stands without ending: another model goes on from there."""
        self.leaving = True
        if self._cancel is not None:
            self._cancel()

    def wait_again(self) -> None:
        """Back in a queue, with the text it has."""
        self.leaving = False
        self._cancel = None
        self._tokens_before = self.tokens
        if self.first_token_seconds is not None:
            self._seconds_before = self._elapsed() - self.first_token_seconds
        self._enter(JobState.QUEUED)

    async def request_for(self, facts: ModelFacts, model: LoadedModel, seconds: float) -> GenerationRequest:
        """The request as this model has to get it, made within `seconds`.

        Raises `NotLoaded` where only the model before it could answer, and `Cancelled` if it is cancelled, or has to
        leave, meanwhile.
        """
        same = self.made_for is None or self.made_for.path == facts.path
        provisional = self.made_for is None and self._remake is not None
        if same and not self.text and not provisional:
            return self.request
        if self._remake is not None:
            self.request = await self._made_within(seconds, self._remake(facts, model, self.text))
            self.made_for = facts
            return self.request
        if not same:
            raise NotLoaded(
                "The model this was meant for is no longer loaded.",
                hint="Ask again: the model that is loaded now will answer.",
            )
        sampling = self.request.sampling
        if sampling.max_tokens > 0:
            left = max(1, sampling.max_tokens - self.tokens)
            sampling = sampling.model_copy(update={"max_tokens": left})
        return replace(self.request, prompt=self.request.prompt + self.text, sampling=sampling)

    async def _made_within(self, seconds: float, making: Coroutine[Any, Any, GenerationRequest]) -> GenerationRequest:
        task = asyncio.ensure_future(making)
        self._cancel = task.cancel
        if self.cancel_asked or self.leaving:
            task.cancel()
        await asyncio.wait([task], timeout=seconds)
        if not task.done():
            task.cancel()
            raise AppError("Making the prompt was given up.", cause=f"it took longer than {seconds:.0f} s")
        if task.cancelled() and (self.cancel_asked or self.leaving):
            raise Cancelled("Cancelled before it started.")
        error = None if task.cancelled() else task.exception()
        if error is not None and not isinstance(error, AppError):
            log.error("Making a prompt broke", exc_info=error)
            raise as_app_error(error, "Making the prompt")
        return task.result()

    def _end(self, state: JobState) -> None:
        self.total_seconds = self._elapsed()
        self._cancel = None
        self._enter(state)

    def _enter(self, state: JobState) -> None:
        self.state = state
        self._signal.fire()

    def _elapsed(self) -> float:
        return time.monotonic() - self._origin

    async def _sleep_unless_ended(self, seconds: float) -> None:
        deadline = asyncio.get_running_loop().time() + seconds
        while not self.ended:
            woken = self._signal.next()
            remaining = deadline - asyncio.get_running_loop().time()
            if remaining <= 0:
                return
            try:
                async with asyncio.timeout(remaining):
                    await woken.wait()
            except TimeoutError:
                return
