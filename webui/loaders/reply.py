"""From an engine's tokens to the events of the contract, for loaders that choose token after token themselves.

The loader gives an iterator of what each token says (bytes, or `None` for the one that ends the reply); this module
assembles characters, watches for stop strings, counts, times, and ends the iterator when the reply is over.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from dataclasses import dataclass

from webui.errors import Cancelled, ContextTooLong, EngineRefused
from webui.loaders.contract import Chunk, Finished, FinishReason, GenerationRequest
from webui.loaders.sampling import SamplingParameters
from webui.loaders.stopping import StopFilter, Utf8Pieces

_OFF: dict[str, object] = {
    "top_p": 1.0,
    "top_k": 0,
    "min_p": 0.0,
    "typical_p": 1.0,
    "xtc_probability": 0.0,
    "dynatemp_range": 0.0,
    "mirostat": "off",
    "repeat_penalty": 1.0,
    "presence_penalty": 0.0,
    "frequency_penalty": 0.0,
    "dry_multiplier": 0.0,
}
"""The value at which each sampler does nothing; parameters not named here only shape one that is."""

_NEEDS_CHANCE = frozenset({"top_p", "top_k", "min_p", "typical_p", "xtc_probability", "dynatemp_range", "mirostat"})
"""Samplers that change nothing at temperature 0, where the likeliest token is taken anyway."""


def ignored_sampling(wanted: SamplingParameters, samplers: frozenset[str]) -> tuple[str, ...]:
    """Names of the parameters that ask for something the engine, whose `samplers` are given, does not do."""
    greedy = wanted.temperature <= 0
    return tuple(
        name
        for name, off in _OFF.items()
        if name not in samplers and getattr(wanted, name) != off and not (greedy and name in _NEEDS_CHANCE)
    )


def nothing_to_read() -> EngineRefused:
    """The error for a prompt of no token, as a damaged vocabulary may make of any text."""
    return EngineRefused("The prompt is empty, and this model has no token to begin with.")


def check_fits(prompt_tokens: int, context_size: int) -> None:
    """Raise `ContextTooLong` unless the prompt leaves room for at least one token of a reply.

    A prompt of no token is refused too: there is nothing to continue.
    """
    if prompt_tokens == 0:
        raise nothing_to_read()
    if prompt_tokens >= context_size:
        raise ContextTooLong(
            f"The prompt has {prompt_tokens} tokens and the context holds {context_size}.",
            prompt_tokens=prompt_tokens,
            context_size=context_size,
        )


@dataclass(frozen=True, slots=True)
class PromptCount:
    """What is known of the prompt when the reply begins; `room` is how many tokens the context has left for it."""

    tokens: int
    cached: int
    room: int


def stream_reply(
    tokens: Generator[bytes | None, None, None],
    request: GenerationRequest,
    prompt: PromptCount,
    cancelled: threading.Event,
    ignored: tuple[str, ...] = (),
    leftover: Callable[[], str] = str,
) -> Iterator[Chunk | Finished]:
    """The events of one generation. `tokens` is closed in any case; `Cancelled` raised in it ends the reply quietly.

    The token that ends the reply is counted, as llama.cpp's server counts it. `leftover` gives the text that `tokens`
    still holds back when no token follows.
    """
    reply = _Reply(request, prompt.room, leftover)
    with closing(tokens):
        yield from reply.chunks(tokens, cancelled)
    yield Finished(
        reason=reply.reason,
        prompt_tokens=prompt.tokens,
        completion_tokens=reply.count,
        prompt_seconds=(reply.first or reply.ended) - reply.started,
        generation_seconds=reply.ended - (reply.first or reply.ended),
        cached_tokens=prompt.cached,
        stop_string=reply.stopping.stopped,
        ignored_sampling=ignored,
    )


class _Reply:
    """The running state of one reply."""

    def __init__(self, request: GenerationRequest, room: int, leftover: Callable[[], str]) -> None:
        most = request.sampling.max_tokens
        self.limit = room if most < 0 else min(most, room)
        self.stopping = StopFilter(dict.fromkeys((*request.stop, *request.sampling.stop_strings())))
        self.characters = Utf8Pieces()
        self.leftover = leftover
        self.count = 0
        self.reason: FinishReason = "length"
        self.started = self.ended = time.perf_counter()
        self.first: float | None = None

    def chunks(self, tokens: Iterator[bytes | None], cancelled: threading.Event) -> Iterator[Chunk]:
        last = 0  # 1 when the last token has not been part of a chunk
        try:
            while self.count < self.limit:
                if cancelled.is_set():
                    raise Cancelled("The generation was cancelled.")
                data = next(tokens)
                self.first = self.first or time.perf_counter()
                self.count += 1
                if data is None:
                    self.reason, last = "stop", 1
                    break
                yield Chunk(self.stopping.feed(self.characters.feed(data)))
                if self.stopping.stopped is not None:
                    self.reason = "stop"
                    break
        except Cancelled:
            self.reason = "cancelled"
        self.ended = time.perf_counter()
        rest = self.stopping.feed(self.characters.flush() + self.leftover()) + self.stopping.flush()
        if rest or last:
            yield Chunk(rest, tokens=last)
