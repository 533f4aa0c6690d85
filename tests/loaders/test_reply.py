"""The way from tokens to events: characters, stop strings, counts, reasons, and what happens at the edges."""

from __future__ import annotations

import threading
from collections.abc import Generator, Iterable

import pytest

from webui.errors import Cancelled, ContextTooLong, EngineRefused
from webui.loaders.contract import Chunk, Finished, GenerationRequest
from webui.loaders.reply import PromptCount, check_fits, ignored_sampling, stream_reply
from webui.loaders.sampling import SamplingParameters

COUNT = PromptCount(tokens=5, cached=2, room=100)


class Source:
    """Tokens from a list; an exception in it is raised; `closed` says whether the generator was ended."""

    def __init__(self, items: Iterable[bytes | Exception | None]) -> None:
        self.items = items
        self.closed = False
        self.given = 0

    def tokens(self) -> Generator[bytes | None, None, None]:
        try:
            for item in self.items:
                if isinstance(item, Exception):
                    raise item
                self.given += 1
                yield item
        finally:
            self.closed = True


def run(
    items: Iterable[bytes | Exception | None],
    *,
    stop: tuple[str, ...] = (),
    cancelled: threading.Event | None = None,
    **sampling: object,
) -> tuple[str, int, Finished, Source]:
    source = Source(items)
    request = GenerationRequest("p", SamplingParameters(**sampling), stop)
    events = list(stream_reply(source.tokens(), request, COUNT, cancelled or threading.Event()))
    *chunks, finished = events
    assert isinstance(finished, Finished)
    parts = [chunk for chunk in chunks if isinstance(chunk, Chunk)]
    assert source.closed
    return "".join(part.text for part in parts), sum(part.tokens for part in parts), finished, source


def test_the_ending_token_is_counted_and_says_nothing() -> None:
    text, tokens, finished, _ = run([b"one ", b"two", None])
    assert (text, tokens, finished.reason, finished.completion_tokens) == ("one two", 3, "stop", 3)
    assert (finished.prompt_tokens, finished.cached_tokens) == (5, 2)


def test_a_character_split_over_tokens_is_whole() -> None:
    text, tokens, _, _ = run(["😀".encode()[:2], "😀".encode()[2:], b"!", None])
    assert (text, tokens) == ("😀!", 4)


def test_half_a_character_at_the_end_is_said_as_unknown() -> None:
    assert run(["é".encode()[:1]], max_tokens=1)[0] == "\ufffd"


def test_no_token_is_computed_beyond_the_limit_or_the_stop() -> None:
    *_, finished, source = run([b"a"] * 50, max_tokens=3)
    assert (finished.reason, source.given) == ("length", 3)
    text, _, finished, source = run([b"a", b"b", b"c", b"d"], stop=("bc",))
    assert (text, finished.reason, finished.stop_string, source.given) == ("a", "stop", "bc", 3)


def test_text_held_back_for_a_stop_string_comes_at_the_end() -> None:
    text, tokens, finished, _ = run([b"see EN", None], stop=("END",))
    assert (text, tokens, finished.stop_string) == ("see EN", 2, None)


def test_the_context_bounds_a_reply_without_limit() -> None:
    *_, finished, source = run([b"a"] * 500, max_tokens=-1)
    assert (finished.reason, source.given) == ("length", COUNT.room)


def test_a_cancel_ends_before_the_next_token() -> None:
    cancelled = threading.Event()

    def items() -> Iterable[bytes]:
        yield b"one"
        cancelled.set()
        yield b"two"
        raise AssertionError("not asked for")

    text, _, finished, _ = run(items(), cancelled=cancelled)
    assert (text, finished.reason) == ("onetwo", "cancelled")
    assert run([Cancelled("in the prompt")])[2].reason == "cancelled"


def test_what_the_engine_raises_arrives() -> None:
    with pytest.raises(EngineRefused):
        run([b"a", EngineRefused("broken")])


def test_a_prompt_has_to_leave_room_for_one_token() -> None:
    check_fits(7, 8)
    with pytest.raises(ContextTooLong) as caught:
        check_fits(8, 8)
    assert caught.value.facts == {"prompt_tokens": 8, "context_size": 8}


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        ({"min_p": 0.0, "top_p": 1.0, "top_k": 0}, ()),
        ({"min_p": 0.1, "mirostat": "v2"}, ("min_p", "mirostat")),
        ({"min_p": 0.1, "mirostat": "v2", "temperature": 0.0}, ()),
        ({"min_p": 0.0, "presence_penalty": 0.5, "temperature": 0.0}, ("presence_penalty",)),
    ],
)
def test_only_what_would_have_had_an_effect_is_reported(wanted: dict[str, object], expected: tuple[str, ...]) -> None:
    assert ignored_sampling(SamplingParameters(**wanted), frozenset({"top_p", "top_k"})) == expected
