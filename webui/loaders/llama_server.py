"""A client of llama.cpp's HTTP server, in all the generations of it that are about.

Built on `http.client` and not on a larger library for two reasons: a reply's lines arrive without a layer in between,
and a read that blocks can be cut off from another thread by shutting its socket, which is how a cancel reaches a server
that is still busy with a prompt. What the messages mean is `webui.loaders.llama_reply`'s business.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import threading
from enum import StrEnum
from typing import Any
from urllib.parse import urlsplit

from webui.errors import EngineCrashed, EngineRefused
from webui.loaders.llama_reply import Emit, raise_error

REQUEST_SECONDS = 60.0
"""Bound on the short requests (tokenise, properties, health). Replies have none: the supervisor watches for silence."""

UNKNOWN_TOKEN = -1
"""Stands for each token whose number a server does not tell; the count is right all the same."""


class Dialect(StrEnum):
    """Which set of endpoints a server has."""

    UPSTREAM = "upstream"  # llama-server, and llamafile from 0.10 on
    V1 = "v1"  # llamafile 0.8 and 0.9: the llama.cpp server of 2024
    V2 = "v2"  # llamafile 0.9 --v2: its own server


class LlamaServer:
    """One server at `address` (http://host:port). Safe to use from several threads: each request has a connection."""

    def __init__(
        self, address: str, key: str = "", dialect: Dialect = Dialect.UPSTREAM, bos_token: int | None = None
    ) -> None:
        parts = urlsplit(address)
        self._host = parts.hostname or "127.0.0.1"
        self._port = parts.port or 80
        self._headers = {"Content-Type": "application/json"}
        if key:
            self._headers["Authorization"] = f"Bearer {key}"
        self.dialect = dialect
        self._bos_token = bos_token

    def is_ready(self) -> bool:
        """Whether the server answers and has loaded its model. False while nothing listens yet."""
        try:
            status, _ = self._send("GET", "/health")
            if status == http.HTTPStatus.NOT_FOUND:
                status, _ = self._send("GET", "/v1/models")
        except (OSError, http.client.HTTPException):
            return False
        return status == http.HTTPStatus.OK

    def context_size(self) -> int:
        """Tokens one job can use, as the server says; 0 where this generation does not say."""
        if self.dialect is Dialect.V2:
            return 0
        status, data = self._send("GET", "/props")
        if status != http.HTTPStatus.OK or not isinstance(data, dict):
            return 0
        return int(data.get("default_generation_settings", {}).get("n_ctx", 0))

    def tokenize(self, text: str, *, add_bos: bool) -> list[int]:
        """Token ids of `text`, special tokens parsed. The v2 server tells only their number: `UNKNOWN_TOKEN`s."""
        body: dict[str, Any] = {"content": text, "add_special": add_bos, "parse_special": True}
        if self.dialect is Dialect.V2:
            body["prompt"] = body.pop("content")
        tokens = self._post("/tokenize", body)["tokens"]
        if self.dialect is Dialect.V2:
            return [token if isinstance(token, int) else UNKNOWN_TOKEN for token in tokens]
        if self.dialect is Dialect.V1 and add_bos and self._bos_token is not None:
            tokens = [self._bos_token, *tokens]  # this generation has no parameter for it
        return [int(token) for token in tokens]

    def completion(self, body: dict[str, Any], prompt: str, tokens: list[int]) -> Completion:
        """A reply to `prompt`, whose `tokens` were asked for before; to be run by its `produce`."""
        if self.dialect is Dialect.V2:
            return Completion(self._connect(), self._headers, "/v1/completions", _v2_body(body, prompt))
        return Completion(self._connect(), self._headers, "/completion", {**body, "prompt": tokens})

    def _connect(self, timeout: float | None = None) -> http.client.HTTPConnection:
        return http.client.HTTPConnection(self._host, self._port, timeout=timeout)

    def _post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        try:
            status, data = self._send("POST", path, body)
        except (OSError, http.client.HTTPException) as error:
            raise _gone(error) from error
        if not isinstance(data, dict):
            raise EngineRefused(f"The server answered {path} with something unexpected.", cause=str(data)[:300])
        raise_error(data)
        if status != http.HTTPStatus.OK:
            raise EngineRefused(f"The server refused {path} with status {status}.", cause=str(data)[:300])
        return data

    def _send(self, method: str, path: str, body: dict[str, Any] | None = None) -> tuple[int, Any]:
        connection = self._connect(REQUEST_SECONDS)
        with contextlib.closing(connection):
            connection.request(method, path, None if body is None else json.dumps(body), self._headers)
            answer = connection.getresponse()
            raw = answer.read()
        try:
            return answer.status, json.loads(raw)
        except ValueError:
            return answer.status, raw.decode("utf-8", "replace")


_V2_NAMES = ("temperature", "top_p", "presence_penalty", "frequency_penalty", "seed")
V2_SAMPLERS = frozenset({*_V2_NAMES, "max_tokens", "stop"})
"""What the v2 server's completions honour; the stop strings are ours anyway."""

_V2_HOTTEST = 2.0


def _v2_body(body: dict[str, Any], prompt: str) -> dict[str, Any]:
    """The request in the v2 server's words; it refuses temperatures above 2 and wants a model's name."""
    wanted = {name: body[name] for name in _V2_NAMES if name in body}
    wanted["temperature"] = min(wanted["temperature"], _V2_HOTTEST)
    if body["n_predict"] >= 0:
        wanted["max_tokens"] = body["n_predict"]
    return {**wanted, "model": "default", "prompt": prompt, "stream": True, "stream_options": {"include_usage": True}}


class Completion:
    """One streamed reply on a connection of its own."""

    def __init__(
        self, connection: http.client.HTTPConnection, headers: dict[str, str], path: str, body: dict[str, Any]
    ) -> None:
        self._connection = connection
        self._headers = headers
        self._path = path
        self._body = body
        self._lock = threading.Lock()
        self._socket: socket.socket | None = None  # http.client forgets it once an answer ends with its connection
        self._interrupted = False

    def produce(self, emit: Emit) -> None:
        """Send the request and hand each message to `emit`, until it says stop, the reply ends or is interrupted."""
        try:
            with contextlib.closing(self._connection):
                with self._lock:
                    if self._interrupted:
                        return
                    self._connection.connect()
                    self._socket = self._connection.sock
                assert self._socket is not None
                self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self._connection.request("POST", self._path, json.dumps(self._body), self._headers)
                self._read(self._connection.getresponse(), emit)
        except (OSError, http.client.HTTPException, ValueError, AttributeError) as error:
            # http.client answers a socket that was shut under it with any of these.
            if not self._interrupted:
                raise _gone(error) from error

    def interrupt(self) -> None:
        """Cut the connection, which the server takes as a cancel. Does nothing when the reply has ended."""
        with self._lock:
            self._interrupted = True
            if self._socket is not None:
                with contextlib.suppress(OSError):  # closed already
                    self._socket.shutdown(socket.SHUT_RDWR)

    def _read(self, answer: http.client.HTTPResponse, emit: Emit) -> None:
        if answer.status != http.HTTPStatus.OK:
            emit(_error_message(answer.status, answer.read()))
            return
        while line := answer.readline():
            name, _, data = line.partition(b":")
            data = data.strip()
            if name not in (b"data", b"error") or not data:
                continue
            if data == b"[DONE]":
                return
            message = json.loads(data)
            if name == b"error":  # servers before 2025 send errors as events of that name
                message = {"error": message}
            if emit(message):
                return


def _error_message(status: int, raw: bytes) -> dict[str, Any]:
    try:
        data = json.loads(raw)
    except ValueError:
        data = raw.decode("utf-8", "replace").strip()
    if isinstance(data, dict) and "error" in data:
        return data
    return {"error": {"code": status, "message": str(data)[:300]}}


def _gone(error: BaseException) -> EngineCrashed:
    return EngineCrashed("The engine's server no longer answers.", cause=f"{type(error).__name__}: {error}")
