"""What the engine's messages mean, in both dialects and over the years; and how they become a reply."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest

from tests.loaders.running import collect
from webui.errors import ContextTooLong, EngineRefused, InvalidRequest
from webui.loaders.contract import GenerationRequest
from webui.loaders.llama_reply import SAMPLERS, Emit, Piece, Reply, messages, native_piece, openai_piece, request_body
from webui.loaders.sampling import SamplingParameters

NEVER = threading.Event()


@pytest.mark.parametrize(
    ("data", "piece"),
    [
        ({"content": " a", "stop": False}, Piece(" a")),
        ({"content": " a", "stop": False, "tokens_predicted": 2}, Piece(" a", completion_tokens=2)),
        (
            {"content": "", "stop": True, "stopped_limit": True, "tokens_predicted": 3, "tokens_evaluated": 5},
            Piece("", completion_tokens=3, prompt_tokens=5, finish="length"),
        ),
        (
            {"content": "", "stop": True, "stop_type": "eos", "tokens_predicted": 3, "tokens_evaluated": 5},
            Piece("", completion_tokens=3, prompt_tokens=5, finish="stop"),
        ),
        (
            {"content": "", "stop": False, "prompt_progress": {"total": 9, "cache": 4, "processed": 9, "time_ms": 1}},
            Piece("", prompt_tokens=9, cached_tokens=4, progress=True),
        ),
        (
            {"content": "b", "timings": {"cache_n": 4, "prompt_n": 5, "prompt_ms": 20, "predicted_n": 1}},
            Piece(
                "b",
                completion_tokens=1,
                prompt_tokens=9,
                cached_tokens=4,
                prompt_seconds=0.02,
                generation_seconds=0.0,
            ),
        ),
    ],
)
def test_native_messages(data: dict[str, Any], piece: Piece) -> None:
    assert native_piece(data) == piece


@pytest.mark.parametrize(
    ("data", "piece"),
    [
        ({"choices": [{"text": " a", "finish_reason": None}], "usage": None}, Piece(" a")),
        ({"choices": [{"delta": {"role": "assistant", "content": ""}}]}, Piece()),
        ({"choices": [{"text": "", "finish_reason": "length"}]}, Piece("", finish="length")),
        (
            {"choices": [], "usage": {"prompt_tokens": 5, "completion_tokens": 3}},
            Piece("", completion_tokens=3, prompt_tokens=5),
        ),
        (
            {
                "choices": [{"text": "", "finish_reason": "stop"}],
                "usage": {
                    "prompt_tokens": 5,
                    "completion_tokens": 3,
                    "prompt_tokens_details": {"cached_tokens": 2},
                },
            },
            Piece("", completion_tokens=3, prompt_tokens=5, cached_tokens=2, finish="stop"),
        ),
    ],
)
def test_openai_messages(data: dict[str, Any], piece: Piece) -> None:
    assert openai_piece(data) == piece


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        ({"type": "exceed_context_size_error", "n_prompt_tokens": 9, "n_ctx": 8, "message": "…"}, ContextTooLong),
        ({"code": 500, "message": "Context size has been exceeded."}, ContextTooLong),
        ({"code": 400, "type": "invalid_request_error", "message": "bad grammar"}, InvalidRequest),
        ({"code": 400, "type": "invalid_request_error", "message": '"prompt" must not be empty'}, EngineRefused),
        ({"code": 500, "message": "boom"}, EngineRefused),
        ("boom", EngineRefused),
    ],
)
def test_errors(error: Any, kind: type[Exception]) -> None:
    for read in (native_piece, openai_piece):
        with pytest.raises(kind):
            read({"error": error})


def test_every_sampling_parameter_reaches_the_engine() -> None:
    sampling = SamplingParameters(seed=7, mirostat="v2", repeat_last_n=-1, max_tokens=5)
    body = request_body(sampling, 100)
    for name in SamplingParameters.model_fields:
        if name not in ("max_tokens", "stop", "seed", "mirostat", "repeat_last_n"):
            assert body[name] == getattr(sampling, name), name
    assert (body["seed"], body["mirostat"], body["repeat_last_n"], body["n_predict"]) == (7, 2, 100, 5)
    assert "seed" not in request_body(SamplingParameters(), 100)


def pieces(*items: Piece) -> Iterator[Piece]:
    yield from items


def test_a_server_that_does_not_count_is_counted_for() -> None:
    reply = Reply(GenerationRequest("p"), SAMPLERS, prompt_tokens=3)
    done = collect(reply.events(pieces(Piece("a"), Piece("b"), Piece("", finish="stop")), NEVER))
    assert (done.text, done.tokens, done.finished.completion_tokens, done.finished.prompt_tokens) == ("ab", 2, 2, 3)


def test_tokens_without_text_are_counted_with_the_next_text() -> None:
    """Half a character gives no message; the message that completes it says how many tokens there are by now."""
    reply = Reply(GenerationRequest("p"), SAMPLERS)
    events = pieces(Piece("a", 1), Piece("é", 3), Piece("", 4, finish="stop"))
    done = collect(reply.events(events, NEVER))
    assert (done.text, done.tokens, done.finished.completion_tokens) == ("aé", 4, 4)


def test_a_stop_string_over_several_messages() -> None:
    reply = Reply(GenerationRequest("p", stop=("STOP",)), SAMPLERS)
    done = collect(reply.events(pieces(Piece("a ST", 1), Piece("OP b", 2), Piece("c", 3)), NEVER))
    assert (done.text, done.finished.stop_string, done.finished.reason) == ("a ", "STOP", "stop")
    assert done.finished.completion_tokens == 2


def test_what_was_held_back_comes_at_the_end() -> None:
    reply = Reply(GenerationRequest("p", stop=("STOP",)), SAMPLERS)
    assert collect(reply.events(pieces(Piece("a ST", 1), Piece("", 1, finish="length")), NEVER)).text == "a ST"


def test_a_reply_that_just_ends_is_an_error() -> None:
    with pytest.raises(EngineRefused):
        collect(Reply(GenerationRequest("p"), SAMPLERS).events(pieces(Piece("a", 1)), NEVER))


def test_a_producer_is_heard_stopped_and_left() -> None:
    told_to_stop = threading.Event()
    interrupted = threading.Event()

    def produce(emit: Emit) -> None:
        emit({"n": 1})
        while not emit({"n": 2}):
            threading.Event().wait(0.001)
        told_to_stop.set()

    iterator = messages(produce, threading.Event(), interrupted.set)
    assert next(iterator) == {"n": 1}
    iterator.close()  # type: ignore[attr-defined]
    assert interrupted.is_set()
    assert told_to_stop.wait(10)


def test_what_a_producer_raises_arrives() -> None:
    def produce(emit: Emit) -> None:
        emit({"n": 1})
        raise EngineRefused("no")

    iterator = messages(produce, NEVER)
    assert next(iterator) == {"n": 1}
    with pytest.raises(EngineRefused, match="no"):
        next(iterator)


def test_a_cancel_is_heard_while_the_engine_is_silent() -> None:
    cancelled = threading.Event()
    release = threading.Event()

    def produce(emit: Emit) -> None:
        release.wait(30)

    threading.Timer(0.05, cancelled.set).start()
    reply = Reply(GenerationRequest("p"), SAMPLERS)
    done = collect(reply.events((native_piece(m) for m in messages(produce, cancelled)), cancelled))
    release.set()
    assert done.finished.reason == "cancelled"
