"""The HTTP client against a server that says what each test wants, good and bad."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from webui.errors import EngineCrashed, EngineRefused, InvalidRequest
from webui.loaders.llama_server import UNKNOWN_TOKEN, Completion, Dialect, LlamaServer


class Scripted(ThreadingHTTPServer):
    """Answers each path with (status, raw bytes); remembers what was asked. `hold` keeps streams open."""

    daemon_threads = True

    def __init__(self, answers: dict[str, tuple[int, bytes]], hold: bool) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.answers = answers
        self.asked: list[tuple[str, Any, str | None]] = []
        self.hold = hold
        self.client_left = threading.Event()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class _Handler(BaseHTTPRequestHandler):
    server: Scripted

    def log_message(self, format: str, *arguments: Any) -> None:
        pass

    def _answer(self) -> None:
        raw = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.server.asked.append((self.path, json.loads(raw) if raw else None, self.headers.get("Authorization")))
        status, data = self.server.answers.get(self.path, (404, b"{}"))
        self.send_response(status)
        self.end_headers()
        self.wfile.write(data)
        self.wfile.flush()
        if self.server.hold:
            self.rfile.read(1)  # returns when the client goes away
            self.server.client_left.set()

    do_GET = do_POST = _answer


@contextmanager
def serving(answers: dict[str, tuple[int, bytes]], hold: bool = False) -> Iterator[Scripted]:
    server = Scripted(answers, hold)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def collect(completion: Completion) -> list[dict[str, Any]]:
    received: list[dict[str, Any]] = []

    def emit(message: dict[str, Any], /) -> bool:
        received.append(message)
        return False

    completion.produce(emit)
    return received


@pytest.mark.parametrize(
    ("answers", "ready"),
    [
        ({"/health": (200, b'{"status": "ok"}')}, True),
        ({"/health": (503, b'{"error": {"message": "Loading model"}}')}, False),
        ({"/v1/models": (200, b"{}")}, True),
        ({}, False),
    ],
)
def test_readiness(answers: dict[str, tuple[int, bytes]], ready: bool) -> None:
    with serving(answers) as server:
        assert LlamaServer(server.address).is_ready() is ready


def test_nobody_listens() -> None:
    with serving({}) as server:
        client = LlamaServer(server.address)
    assert not client.is_ready()
    with pytest.raises(EngineCrashed):
        client.tokenize("x", add_bos=False)


def test_the_key_is_shown() -> None:
    with serving({"/tokenize": (200, b'{"tokens": [1, 2]}')}) as server:
        assert LlamaServer(server.address, "secret").tokenize("a b", add_bos=True) == [1, 2]
        assert server.asked == [
            ("/tokenize", {"content": "a b", "add_special": True, "parse_special": True}, "Bearer secret")
        ]


def test_each_generation_tokenises_in_its_own_way() -> None:
    with serving({"/tokenize": (200, b'{"tokens": [5, 6]}')}) as server:
        old = LlamaServer(server.address, dialect=Dialect.V1, bos_token=1)
        assert old.tokenize("a b", add_bos=True) == [1, 5, 6]
        assert old.tokenize("a b", add_bos=False) == [5, 6]
    with serving({"/tokenize": (200, b'{"tokens": ["<s>", "a", " b"]}')}) as server:
        v2 = LlamaServer(server.address, dialect=Dialect.V2)
        assert v2.tokenize("a b", add_bos=True) == [UNKNOWN_TOKEN] * 3
        assert server.asked[0][1] == {"prompt": "a b", "add_special": True, "parse_special": True}


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        ((400, b'{"error": {"code": 400, "message": "no"}}'), InvalidRequest),
        ((500, b'{"error": {"code": 500, "message": "no"}}'), EngineRefused),
        ((404, b"{}"), EngineRefused),
        ((200, b"<html>"), EngineRefused),
        ((200, b"[]"), EngineRefused),
    ],
)
def test_bad_answers(answer: tuple[int, bytes], kind: type[Exception]) -> None:
    with serving({"/tokenize": answer}) as server, pytest.raises(kind):
        LlamaServer(server.address).tokenize("x", add_bos=False)


def test_a_stream_is_read_message_by_message() -> None:
    lines = (b": comment", b'data: {"n": 1}', b'data:{"n": 2}', b'error: {"message": "late"}', b"data: [DONE]")
    stream = b"\n\n".join((*lines, b'data: {"n": 3}\n'))
    with serving({"/completion": (200, stream)}) as server:
        received = collect(LlamaServer(server.address).completion({"n_predict": 1}, "p", [7]))
        assert received == [{"n": 1}, {"n": 2}, {"error": {"message": "late"}}]
        assert server.asked[0][:2] == ("/completion", {"n_predict": 1, "prompt": [7]})


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (b'{"error": {"code": 400, "message": "no"}}', {"error": {"code": 400, "message": "no"}}),
        (b"plain words", {"error": {"code": 500, "message": "plain words"}}),
    ],
)
def test_a_refused_stream_is_one_error(raw: bytes, message: dict[str, Any]) -> None:
    with serving({"/completion": (500, raw)}) as server:
        assert collect(LlamaServer(server.address).completion({}, "p", [1])) == [message]


def test_a_blocked_stream_can_be_cut_off() -> None:
    with serving({"/completion": (200, b'data: {"n": 1}\n\n')}, hold=True) as server:
        completion = LlamaServer(server.address).completion({}, "p", [1])
        threading.Timer(0.2, completion.interrupt).start()
        assert collect(completion) == [{"n": 1}]
        assert server.client_left.wait(10)


def test_a_completion_interrupted_before_its_start_asks_nothing() -> None:
    with serving({"/completion": (200, b"")}) as server:
        completion = LlamaServer(server.address).completion({}, "p", [1])
        completion.interrupt()
        assert collect(completion) == []
        assert server.asked == []


def test_the_v2_body() -> None:
    body = {"temperature": 3.0, "top_p": 0.9, "top_k": 4, "n_predict": 5, "presence_penalty": 0, "frequency_penalty": 0}
    with serving({"/v1/completions": (200, b"data: [DONE]\n")}) as server:
        collect(LlamaServer(server.address, dialect=Dialect.V2).completion(body, "text", [-1]))
        sent = server.asked[0][1]
    assert (sent["prompt"], sent["temperature"], sent["max_tokens"]) == ("text", 2.0, 5)
    assert "top_k" not in sent
    assert sent["stream_options"] == {"include_usage": True}
