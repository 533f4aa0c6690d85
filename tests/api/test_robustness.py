"""What clients can do wrong: each is answered with a typed error, and the server goes on answering others."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio

from tests.api.test_openai import events, wait_for_job
from tests.builders.gguf import tiny_llama_spm
from tests.server.running import RunningServer, running_server
from webui.pool import JobState, LoadRequest, PoolState
from webui.security import MAX_BODY

pytestmark = pytest.mark.asyncio(loop_scope="module")

ROUTE = "/v1/chat/completions"
JSON = {"content-type": "application/json"}
USER = {"role": "user", "content": "x"}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def server(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[RunningServer]:
    home = tmp_path_factory.mktemp("robust")
    async with running_server(home, loaders__toy__context_size=100_000, loaders__toy__slots=4) as running:
        yield running


def typed(response: httpx.Response) -> dict[str, Any]:
    """The error, whose form is checked on the way."""
    error: dict[str, Any] = json.loads(response.text, parse_constant=pytest.fail)["error"]
    assert {"message", "type", "param", "code", "category", "hint", "cause"} <= set(error)
    assert error["message"] and error["type"] and error["code"]
    assert "Traceback" not in response.text
    return error


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"null",
        b"[]",
        b'"text"',
        b"17",
        b"\xff\xfe\x00",
        b'{"messages": "hello"}',
        b'{"messages": [null]}',
        b'{"messages": [[]]}',
        b'{"messages": [{}]}',
        b'{"messages": [{"role": "user", "content": 5}]}',
        b'{"messages": [{"role": "user", "content": {"text": "x"}}]}',
        b'{"messages": [{"role": "user", "content": "\\ud800"}]}',
        b'{"messages": [{"role": "user", "content": "x", "name": "\\ud800"}]}',
        b'{"messages": [{"role": "user", "content": "x"}], "stop": "\\ud800"}',
        b'{"messages": [{"role": "user", "content": "x"}], "stop": {"a": 1}}',
        b'{"messages": [{"role": "user", "content": "x"}], "stream": "perhaps"}',
        b'{"messages": [{"role": "user", "content": "x"}], "temperature": "warm"}',
        b'{"messages": [{"role": "user", "content": "x"}], "temperature": NaN}',
        b'{"messages": [{"role": "user", "content": "x"}], "temperature": 1e999}',
        b'{"messages": [{"role": "user", "content": "x"}], "max_tokens": 1e30}',
        b'{"messages": [{"role": "user", "content": "x"}], "max_tokens": ' + b"9" * 5000 + b"}",
        b'{"messages": [{"role": "user", "content": "x"}], "seed": {"a": []}}',
        b'{"messages": [{"role": "user", "content": "x"}], "mirostat": []}',
        b'{"messages": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        b'{"messages": [{"role": "user", "content": "x", "deep": ' + b"[" * 900 + b"]" * 900 + b'}], "n": 2}',
    ],
    ids=lambda body: body[:60].decode("latin-1"),
)
async def test_rubbish_is_a_bad_request(server: RunningServer, body: bytes) -> None:
    response = await server.client.post(ROUTE, content=body, headers=JSON)
    assert response.status_code == 400, response.text
    assert typed(response)["type"] == "invalid_request_error"
    assert (await server.chat("still there")).status_code == 200


@pytest.mark.parametrize("text", ["\x00", "\u202e‮", "\ufffe", "😀" * 1000, "{{ 7 * 7 }}", "<|im_end|>", "\r\n\t"])
async def test_unusual_text_is_text(server: RunningServer, text: str) -> None:
    response = await server.chat("a " + text)
    assert response.status_code == 200
    assert "49" not in response.json()["choices"][0]["message"]["content"]
    streamed = events((await server.chat("a " + text, stream=True)).text)
    assert streamed[-1] == "[DONE]"


@pytest.mark.alone
async def test_a_body_beyond_the_bound_is_refused_and_a_large_one_waits_for_nobody(server: RunningServer) -> None:
    async def too_much() -> AsyncIterator[bytes]:
        yield b'{"messages": [{"role": "user", "content": "'
        for _ in range(MAX_BODY // (1 << 20) + 1):
            yield b"x" * (1 << 20)

    try:
        response = await server.client.post(ROUTE, content=too_much(), headers=JSON)
    except httpx.TransportError:
        pass  # refused while it was still being sent
    else:
        assert (response.status_code, typed(response)["type"]) == (413, "invalid_request_error")
    many = [USER, {"role": "assistant", "content": "y"}] * 2_000 + [USER]
    asked = asyncio.create_task(server.client.post(ROUTE, json={"messages": many}))
    slowest = 0.0
    while not asked.done():
        began = time.monotonic()
        assert (await server.client.get("/health")).status_code == 200
        slowest = max(slowest, time.monotonic() - began)
        await asyncio.sleep(0.01)
    assert (await asked).status_code in (200, 400)
    assert slowest < 1.0


@pytest_asyncio.fixture(loop_scope="module")
async def fragile(tmp_path: Path) -> AsyncIterator[RunningServer]:
    """A server of the test's own: more than a few crashes in a row lose the model."""
    async with running_server(tmp_path, loaders__toy__context_size=1000) as running:
        yield running


async def test_a_reply_that_breaks_off_comes_with_its_text(fragile: RunningServer) -> None:
    server = fragile
    response = await server.chat("one CRASH two")
    error = typed(response)
    assert (response.status_code, error["code"], error["category"]) == (500, "engine_crashed", "hardware")
    assert error["partial_text"] == "[user] one "
    assert response.headers["x-should-retry"] == "false"
    streamed = await server.chat("one CRASH two", stream=True)
    assert streamed.status_code == 200
    *pieces, last = events(streamed.text)
    assert "".join(piece["choices"][0]["delta"].get("content", "") for piece in pieces) == "[user] one "
    assert (last["error"]["code"], last["error"]["category"]) == ("engine_crashed", "hardware")
    assert last["error"]["hint"]


@pytest.mark.parametrize("stream", [False, True])
async def test_a_request_waits_while_the_model_starts_again(fragile: RunningServer, stream: bool) -> None:
    server = fragile
    assert (await server.chat("CRASH")).status_code == 500
    response = await server.chat("are you there", stream=stream)
    assert response.status_code == 200
    assert "there" in response.text


async def test_a_client_that_sends_half_a_body_and_leaves_disturbs_nobody(server: RunningServer) -> None:
    host, port = server.url.removeprefix("http://").split(":")
    for sent in (b"", b"POST ", b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{"):
        _reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(sent)
        await writer.drain()
        writer.close()
        await writer.wait_closed()
    assert (await server.chat("hello")).status_code == 200


async def test_a_slow_reader_holds_nobody_up(server: RunningServer) -> None:
    host, port = server.url.removeprefix("http://").split(":")
    body = json.dumps({"messages": [{"role": "user", "content": "word " * 20_000}], "stream": True}).encode()
    head = f"POST {ROUTE} HTTP/1.1\r\nHost: {host}:{port}\r\nContent-Type: application/json\r\n"
    reader, writer = await asyncio.open_connection(host, int(port), limit=1024)
    writer.write(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
    await writer.drain()
    job = await wait_for_job(server, JobState.GENERATING)
    assert (await server.chat("me too")).status_code == 200
    async with asyncio.timeout(60):
        await job.wait()
    assert job.state is JobState.DONE, "the job does not wait for its reader"
    assert b"200 OK" in await reader.readline()
    writer.close()
    with contextlib.suppress(ConnectionError):
        await writer.wait_closed()


async def test_a_client_that_leaves_a_stream_ends_its_job_also_in_the_queue(tmp_path: Path) -> None:
    async with running_server(tmp_path, loaders__toy__delay=0.1, loaders__toy__context_size=1000) as server:
        first = asyncio.create_task(server.chat("w " * 100, stream=True))
        running = await wait_for_job(server, JobState.GENERATING)
        second = asyncio.create_task(server.chat("v " * 100, stream=True))
        waiting = await wait_for_job(server, JobState.QUEUED)
        for request, job in ((second, waiting), (first, running)):
            request.cancel()
            async with asyncio.timeout(10):
                await job.wait()
            assert job.state is JobState.CANCELLED


async def test_a_swap_under_a_stream_is_answered_by_the_new_model(tmp_path: Path) -> None:
    async with running_server(tmp_path, loaders__toy__delay=0.02, loaders__toy__context_size=1000) as server:
        asked = asyncio.create_task(server.chat("w " * 200, stream=True, max_tokens=190))
        job = await wait_for_job(server, JobState.GENERATING)
        other = server.context.catalogue.find(str(tiny_llama_spm(tmp_path / "other.gguf")))
        await server.context.pool.load(LoadRequest(other, running="hand over"))
        found = events((await asked).text)
        assert found[-1] == "[DONE]"
        assert job.tokens == 190
        assert found[0]["model"] == "tiny"
        assert found[-2]["model"] == "tiny, then other"
        deltas = [chunk["choices"][0]["delta"].get("content", "") for chunk in found[:-1]]
        assert "".join(deltas) == job.text


async def test_a_model_that_is_lost_is_refused_with_its_story(tmp_path: Path) -> None:
    async with running_server(tmp_path) as server:
        response = await server.chat("hello")
        while server.context.pool.status.state is not PoolState.FAILED:
            response = await server.chat("CRASH")
        error = typed(await server.chat("hello"))
        assert response.status_code in (500, 503)
        assert (error["code"], error["type"]) == ("not_loaded", "unavailable_error")
        assert error["cause"]
