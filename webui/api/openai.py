"""The OpenAI protocol: `GET /v1/models`, `POST /v1/chat/completions`.

A request is a job like any other: it waits its turn, and ends when its client goes away. `model` may name anything:
the loaded model answers, and the answer names it. Beside `usage` each answer carries llama-server's `timings`. A last
message of the assistant's is continued. Extensions may change prompt and sampling here, not the reply: it is streamed.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import time
from collections.abc import AsyncGenerator, AsyncIterator
from typing import TYPE_CHECKING, Any

from fastapi import APIRouter, Request
from starlette.responses import JSONResponse, Response, StreamingResponse

from webui.api.errors import error_body, error_response, log_failure
from webui.api.openai_types import ChatRequest
from webui.chat.exchange import THEN, Exchange
from webui.chat.prompting import Question
from webui.errors import AppError, Cancelled, NotFound
from webui.models.facts import ModelFacts
from webui.models.inspect import model_id
from webui.pool import Job, JobState

if TYPE_CHECKING:
    from webui.context import AppContext

log = logging.getLogger(__name__)

OWNER = "api"


def routes(context: AppContext) -> APIRouter:
    router = APIRouter(prefix="/v1")

    @router.get("/models")
    async def models() -> dict[str, Any]:
        return {"object": "list", "data": await _models(context)}

    @router.get("/models/{name:path}")
    async def model(name: str) -> dict[str, Any]:
        for entry in await _models(context):
            if entry["id"] == name:
                return entry
        raise NotFound(f"There is no model {name!r}.", hint="GET /v1/models lists them.")

    @router.post("/chat/completions")
    async def chat_completions(body: ChatRequest, request: Request) -> Response:
        body.refuse_unsupported()
        sampling, ignored = body.sampling()
        if ignored:
            log.info("Ignored fields of a chat completion request: %s", ", ".join(sorted(ignored)))
        messages = body.chat()
        question = Question(
            messages=messages,
            sampling=sampling,
            stop=body.stops(),
            continue_final=messages[-1]["role"] == "assistant",
        )
        exchange = await Exchange.begin(context.chats.prompter, question)
        job = exchange.submit(OWNER)
        answer = _Answer(exchange, include_usage=bool(body.stream_options and body.stream_options.include_usage))
        async with contextlib.AsyncExitStack() as stack:
            watcher = asyncio.create_task(_cancel_when_gone(request, job))
            stack.callback(job.cancel)
            stack.callback(watcher.cancel)
            if not body.stream:
                await job.wait()
                return answer.whole()
            # The first piece is awaited: a prompt the engine refuses is answered with a status, not in a stream.
            pieces = job.pieces()
            first = await anext(pieces, None)
            if first is None and answer.failure is not None:
                raise answer.failure
            keep = stack.pop_all()
            return StreamingResponse(
                answer.events(first, pieces, keep),
                media_type="text/event-stream",
                headers={"cache-control": "no-cache", "x-accel-buffering": "no"},
            )

    return router


async def _models(context: AppContext) -> list[dict[str, Any]]:
    """The catalogue's readable models, the loaded one first (also where it lies outside the models folder)."""
    entries = await asyncio.to_thread(context.catalogue.entries)
    loaded = context.pool.status.facts
    found = [entry for entry in entries if isinstance(entry, ModelFacts)]
    rest = [entry for entry in found if loaded is None or entry.path != loaded.path]
    listed = [*([loaded] if loaded else []), *rest]
    created = {entry.path: await asyncio.to_thread(_modified, entry) for entry in listed}
    return [
        {
            "id": model_id(entry),
            "object": "model",
            "created": created[entry.path],
            "owned_by": "local",
            "loaded": entry is loaded,
            "context_length": entry.context_length,
        }
        for entry in listed
    ]


def _modified(facts: ModelFacts) -> int:
    try:
        return int(facts.path.stat().st_mtime)
    except OSError:
        return 0


async def _cancel_when_gone(request: Request, job: Job) -> None:
    """End the job when its client closes the connection. The body has been read, so nothing else can come."""
    while (await request.receive())["type"] != "http.disconnect":
        pass
    job.cancel()


class _Answer:
    """One exchange in the protocol's words. Which model answers is known with its first words at the latest."""

    def __init__(self, exchange: Exchange, *, include_usage: bool) -> None:
        self._exchange = exchange
        self._job = exchange.job
        self._include_usage = include_usage
        self._created = int(time.time())

    @property
    def failure(self) -> AppError | None:
        """What the job ended with, if that was not an answer."""
        if self._job.state is JobState.CANCELLED:
            return self._job.error or Cancelled("The request was cancelled.")
        return self._job.error if self._job.state is JobState.FAILED else None

    def whole(self) -> Response:
        """The answer in one piece, or the error with what there is of it."""
        text = self._exchange.opening + self._job.text
        if (failure := self.failure) is not None:
            log_failure("A chat completion", failure)
            return error_response(failure, partial_text=text if self._job.text else "")
        message = {"role": "assistant", "content": text}
        choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": self._finish_reason()}
        more = {"choices": [choice], "usage": usage(self._job), "timings": timings(self._job)}
        return JSONResponse({**self._base(), "object": "chat.completion", **more})

    async def events(
        self, first: str | None, pieces: AsyncIterator[str], keep: contextlib.AsyncExitStack
    ) -> AsyncGenerator[str, None]:
        """Server-sent events: the role, the pieces, the reason of the end with the timings, usage, `[DONE]`.

        A failure in the middle is an event of its own, `{"error": …}`; the stream ends with it, and no `[DONE]` follows
        that could be taken for the end of a whole answer.
        """
        try:
            yield self._event({"role": "assistant", "content": self._exchange.opening})
            if first is not None:
                yield self._event({"content": first})
            async for piece in pieces:
                yield self._event({"content": piece})
            if (failure := self.failure) is not None:
                log_failure("A streamed chat completion", failure)
                yield _data(error_body(failure))
                return
            yield self._event({}, finish_reason=self._finish_reason(), timings=timings(self._job))
            if self._include_usage:
                yield self._event(None, usage=usage(self._job))
            yield "data: [DONE]\n\n"
        finally:
            # Also when the client went away and nobody reads on: this cancels the job.
            await keep.aclose()

    def _base(self) -> dict[str, Any]:
        return {"id": f"chatcmpl-{self._job.id}", "created": self._created, "model": THEN.join(self._exchange.models)}

    def _event(self, delta: dict[str, Any] | None, *, finish_reason: str | None = None, **more: Any) -> str:
        choices = (
            [] if delta is None else [{"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}]
        )
        if self._include_usage:
            more.setdefault("usage", None)
        return _data({**self._base(), "object": "chat.completion.chunk", "choices": choices, **more})

    def _finish_reason(self) -> str:
        return "length" if self._job.finished is not None and self._job.finished.reason == "length" else "stop"


def _data(value: dict[str, Any]) -> str:
    return f"data: {json.dumps(value, ensure_ascii=False, separators=(',', ':'))}\n\n"


def usage(job: Job) -> dict[str, Any]:
    """Token counts of an ended job, as OpenAI names them."""
    done = job.finished
    prompt, completion = (done.prompt_tokens, done.completion_tokens) if done else (0, job.tokens)
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
        "prompt_tokens_details": {"cached_tokens": done.cached_tokens if done else 0},
    }


def timings(job: Job) -> dict[str, Any]:
    """Times of an ended job, as llama-server names them: milliseconds, tokens per second, without cached tokens."""
    done = job.finished
    if done is None:
        return {}
    read = done.prompt_tokens - done.cached_tokens
    return {
        "cache_n": done.cached_tokens,
        "prompt_n": read,
        "prompt_ms": round(done.prompt_seconds * 1000, 3),
        "prompt_per_second": _rate(read, done.prompt_seconds),
        "predicted_n": done.completion_tokens,
        "predicted_ms": round(done.generation_seconds * 1000, 3),
        "predicted_per_second": _rate(done.completion_tokens, done.generation_seconds),
        "first_token_ms": None if job.first_token_seconds is None else round(job.first_token_seconds * 1000, 3),
    }


def _rate(tokens: int, seconds: float) -> float | None:
    return round(tokens / seconds, 3) if seconds > 0 else None
