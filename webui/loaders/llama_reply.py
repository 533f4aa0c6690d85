"""One reply of llama.cpp's server engine: from a request to the events of the contract.

The engine is reached in two ways (called in the process, or over HTTP) and answers in two dialects (its own
`/completion`, and OpenAI's `/v1/completions`). Both ways deliver dictionaries; here they become `Piece`s, and pieces
become `Chunk`s and one `Finished`. How the dictionaries arrive is the loaders' business.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from typing import Any, Protocol

from webui.errors import ContextTooLong, EngineRefused, InvalidRequest
from webui.loaders.causes import typed
from webui.loaders.contract import Chunk, Finished, FinishReason, GenerationRequest
from webui.loaders.reply import ignored_sampling, nothing_to_read
from webui.loaders.sampling import SamplingParameters
from webui.loaders.stopping import StopFilter

SAMPLERS = frozenset(SamplingParameters.model_fields)
"""llama.cpp's server honours every sampling parameter we have."""

CANCEL_POLL_SECONDS = 0.05
"""How often a reply looks for its cancellation while the engine is silent. Text is never delayed by it."""

SPARE_TOKENS = 16
"""What a reply may need beyond its length: tokens that were drafted and not accepted."""

_SAME_NAME = [
    "temperature",
    "top_k",
    "top_p",
    "min_p",
    "typical_p",
    "repeat_penalty",
    "repeat_last_n",
    "presence_penalty",
    "frequency_penalty",
    "dry_multiplier",
    "dry_base",
    "dry_allowed_length",
    "xtc_probability",
    "xtc_threshold",
    "dynatemp_range",
    "dynatemp_exponent",
    "mirostat_tau",
    "mirostat_eta",
]
_MIROSTAT = {"off": 0, "v1": 1, "v2": 2}


def request_body(sampling: SamplingParameters, context_size: int) -> dict[str, Any]:
    """The sampling part of a completion request in the engine's own words. Stop strings stay with us.

    Windows that mean the whole context get its size: some versions refuse -1.
    """
    body: dict[str, Any] = {name: getattr(sampling, name) for name in _SAME_NAME}
    body["mirostat"] = _MIROSTAT[sampling.mirostat]
    body["dry_penalty_last_n"] = context_size
    if sampling.repeat_last_n < 0:
        body["repeat_last_n"] = context_size
    body["n_predict"] = sampling.max_tokens
    body["cache_prompt"] = True
    body["stream"] = True
    body["timings_per_token"] = True
    body["return_progress"] = True
    if sampling.seed >= 0:
        body["seed"] = sampling.seed
    return body


@dataclass(slots=True)
class Piece:
    """What one message of the engine says; `None` where it does not say. Counts are since the start of the reply."""

    text: str = ""
    completion_tokens: int | None = None
    prompt_tokens: int | None = None
    cached_tokens: int | None = None
    prompt_seconds: float | None = None
    generation_seconds: float | None = None
    finish: FinishReason | None = None
    progress: bool = False
    """True for a report on the prompt, which carries no token."""


def native_piece(data: dict[str, Any]) -> Piece:
    """A message of `/completion`, in the form of any llama.cpp server since 2023."""
    raise_error(data)
    piece = Piece(text=str(data.get("content", "")))
    _read_timings(piece, data)
    _read_progress(piece, data)
    if data.get("stop"):
        limited = data.get("stop_type") == "limit" or bool(data.get("stopped_limit"))
        piece.finish = "length" if limited or data.get("truncated") else "stop"
        piece.completion_tokens = _count(data.get("tokens_predicted"), piece.completion_tokens)
        piece.prompt_tokens = _count(data.get("tokens_evaluated"), piece.prompt_tokens)
    elif data.get("tokens_predicted"):
        piece.completion_tokens = int(data["tokens_predicted"])
    return piece


def openai_piece(data: dict[str, Any]) -> Piece:
    """A message of `/v1/completions`; llama.cpp adds timings and progress to what OpenAI defines."""
    raise_error(data)
    choices: list[dict[str, Any]] = data.get("choices") or [{}]
    choice = choices[0]
    piece = Piece(text=str(choice.get("text") or ""))
    _read_timings(piece, data)
    _read_progress(piece, data)
    if choice.get("finish_reason"):
        piece.finish = "length" if choice["finish_reason"] == "length" else "stop"
    if usage := data.get("usage"):
        piece.completion_tokens = _count(usage.get("completion_tokens"), piece.completion_tokens)
        piece.prompt_tokens = _count(usage.get("prompt_tokens"), piece.prompt_tokens)
        details = usage.get("prompt_tokens_details") or {}
        piece.cached_tokens = _count(details.get("cached_tokens"), piece.cached_tokens)
    return piece


def _count(value: Any, otherwise: int | None) -> int | None:
    return otherwise if value is None else int(value)


def _read_timings(piece: Piece, data: dict[str, Any]) -> None:
    timings = data.get("timings")
    if not timings:
        return
    if "cache_n" in timings:  # older servers count the prompt without saying what of it was cached
        piece.cached_tokens = int(timings["cache_n"])
        piece.prompt_tokens = piece.cached_tokens + int(timings.get("prompt_n", 0))
    piece.completion_tokens = _count(timings.get("predicted_n"), None)
    piece.prompt_seconds = max(0.0, float(timings.get("prompt_ms") or 0)) / 1000
    piece.generation_seconds = max(0.0, float(timings.get("predicted_ms") or 0)) / 1000


def _read_progress(piece: Piece, data: dict[str, Any]) -> None:
    if progress := data.get("prompt_progress"):
        piece.progress = True
        piece.prompt_tokens = int(progress["total"])
        piece.cached_tokens = int(progress["cache"])


def raise_error(data: dict[str, Any]) -> None:
    """Raise what an error message of the engine means; do nothing for any other message."""
    error = data.get("error")
    if not error:
        return
    if isinstance(error, str):
        error = {"message": error}
    said = str(error.get("message", error))
    if error.get("type") == "exceed_context_size_error":
        raise context_too_long(int(error["n_prompt_tokens"]), int(error["n_ctx"]))
    if "context size has been exceeded" in said.lower() or "out of context" in said.lower():
        raise ContextTooLong(
            "The replies that are being written together have filled the context.",
            cause=said,
            hint="Run fewer jobs at once, or load the model with a larger context or without the shared KV cache.",
        )
    if '"prompt" must not be empty' in said:
        raise nothing_to_read()
    if error.get("type") == "invalid_request_error" or error.get("code") == 400:
        raise InvalidRequest("The engine does not accept this request.", cause=said)
    raise typed("The engine", [said]) or EngineRefused("The engine could not answer.", cause=said, unknown=True)


def context_too_long(prompt_tokens: int, context_size: int) -> ContextTooLong:
    """The error for a prompt that leaves no room for a reply."""
    return ContextTooLong(
        f"The prompt has {prompt_tokens} tokens; the context holds {context_size}, reply included.",
        prompt_tokens=prompt_tokens,
        context_size=context_size,
    )


class Emit(Protocol):
    """Takes one message of the engine; true asks the producer to stop."""

    def __call__(self, message: dict[str, Any], /) -> bool: ...


@dataclass(slots=True)
class _Failure:
    error: BaseException


def messages(
    produce: Callable[[Emit], None], cancelled: threading.Event, interrupt: Callable[[], None] = lambda: None
) -> Iterator[dict[str, Any]]:
    """The messages that `produce` emits, as an iterator that ends soon after `cancelled` even while nothing comes.

    `produce` blocks in the engine, so it runs in a thread of its own; what it raises is raised here. When this
    iterator is left for any reason, `produce` is told to stop by `Emit`'s answer, and `interrupt` may cut it off where
    it blocks.
    """
    arrived: queue.SimpleQueue[dict[str, Any] | _Failure | None] = queue.SimpleQueue()
    left = threading.Event()

    def emit(message: dict[str, Any], /) -> bool:
        arrived.put(message)
        return left.is_set() or cancelled.is_set()

    def run() -> None:
        try:
            produce(emit)
        except BaseException as error:  # noqa: BLE001  (carried over to the consumer, which raises it)
            arrived.put(_Failure(error))
        arrived.put(None)

    threading.Thread(target=run, name="reply", daemon=True).start()
    try:
        while not cancelled.is_set():
            try:
                message = arrived.get(timeout=CANCEL_POLL_SECONDS)
            except queue.Empty:
                continue
            if message is None:
                return
            if isinstance(message, _Failure):
                raise message.error
            yield message
    finally:
        left.set()
        interrupt()


class Reply:
    """Counts, cuts and times one reply while its pieces pass."""

    def __init__(self, request: GenerationRequest, honoured: frozenset[str], prompt_tokens: int = 0) -> None:
        self._stopping = StopFilter((*request.stop, *request.sampling.stop_strings()))
        self._most = request.sampling.max_tokens
        self._ignored = ignored_sampling(request.sampling, honoured)
        self._latest = Piece(completion_tokens=0, prompt_tokens=prompt_tokens, cached_tokens=0)
        self._started = time.monotonic()
        self._first: float | None = None

    def longest(self, context_size: int) -> int:
        """Tokens of the context that prompt and reply can come to need."""
        if self._most < 0:
            return context_size
        return min(context_size, (self._latest.prompt_tokens or 0) + self._most + SPARE_TOKENS)

    def never_started(self) -> Iterator[Chunk | Finished]:
        """The end of a reply that was cancelled while it waited."""
        yield self._finished("cancelled")

    def events(self, pieces: Iterator[Piece], cancelled: threading.Event) -> Iterator[Chunk | Finished]:
        """The contract's events. `pieces` is closed on the way out, which frees the engine's slot."""
        if self._most == 0:  # which the engine would read as one
            yield self._finished("length")
            return
        reason: FinishReason | None = None
        with closing(pieces):  # type: ignore[type-var]  # every iterator given here is a generator
            for piece in pieces:
                if cancelled.is_set():
                    break
                yield from self._pass(piece)
                if self._stopping.stopped is not None:
                    reason = "stop"
                    break
                if piece.finish is not None:
                    reason = piece.finish
                    break
        if reason is None and not cancelled.is_set():
            raise EngineRefused("The engine ended the reply without a reason.")
        if rest := self._stopping.flush():
            yield Chunk(rest, 0)
        yield self._finished(reason or "cancelled")

    def _pass(self, piece: Piece) -> Iterator[Chunk]:
        before = self._latest.completion_tokens or 0
        self._take(piece)
        if piece.progress:
            return
        if piece.completion_tokens is None and piece.finish is None and piece.text:
            self._latest.completion_tokens = before + 1  # a server that does not count: one message is one token
        new = (self._latest.completion_tokens or 0) - before
        if self._first is None and new > 0:
            self._first = time.monotonic()
        text = self._stopping.feed(piece.text)
        if text or new > 0:
            yield Chunk(text, max(0, new))

    def _take(self, piece: Piece) -> None:
        latest = self._latest
        for name in ("completion_tokens", "prompt_tokens", "cached_tokens", "prompt_seconds", "generation_seconds"):
            value = getattr(piece, name)
            if value is not None:
                setattr(latest, name, value)

    def _finished(self, reason: FinishReason) -> Finished:
        now = time.monotonic()
        first = self._first if self._first is not None else now
        latest = self._latest
        prompt = latest.prompt_seconds or first - self._started
        generation = latest.generation_seconds if latest.generation_seconds is not None else now - first
        return Finished(
            reason=reason,
            prompt_tokens=latest.prompt_tokens or 0,
            completion_tokens=latest.completion_tokens or 0,
            prompt_seconds=prompt,
            generation_seconds=generation,
            cached_tokens=latest.cached_tokens or 0,
            stop_string=self._stopping.stopped,
            ignored_sampling=self._ignored,
        )
