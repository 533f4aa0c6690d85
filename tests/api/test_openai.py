"""The OpenAI protocol over real HTTP, asserted as it goes over the wire."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from tests.server.running import RunningServer, running_server
from webui.pool import JobState

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def server(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[RunningServer]:
    home = tmp_path_factory.mktemp("quick")
    async with running_server(home, models=("alpha", "beta"), loaders__toy__context_size=40) as running:
        yield running


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def slow_server(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[RunningServer]:
    home = tmp_path_factory.mktemp("slow")
    async with running_server(
        home, loaders__toy__delay=0.1, loaders__toy__context_size=1000, limits__queue_length=1
    ) as running:
        yield running


def events(text: str) -> list[Any]:
    """The data of each event; the form of the stream is checked on the way."""
    blocks = text.split("\n\n")
    assert blocks.pop() == ""
    found = []
    for block in blocks:
        assert block.startswith("data: ")
        assert "\n" not in block
        payload = block.removeprefix("data: ")
        found.append(payload if payload == "[DONE]" else json.loads(payload))
    return found


async def test_models_are_listed_with_the_loaded_one_first(server: RunningServer) -> None:
    listed = (await server.client.get("/v1/models")).json()
    assert listed["object"] == "list"
    assert [(entry["id"], entry["object"], entry["loaded"]) for entry in listed["data"]] == [
        ("alpha", "model", True),
        ("beta", "model", False),
    ]
    assert all(entry["created"] > 0 and entry["owned_by"] == "local" for entry in listed["data"])
    assert (await server.client.get("/v1/models/beta")).json()["id"] == "beta"
    missing = await server.client.get("/v1/models/gamma")
    assert (missing.status_code, missing.json()["error"]["code"]) == (404, "not_found")


async def test_an_answer_in_one_piece(server: RunningServer) -> None:
    response = await server.chat("one two", model="anything", temperature=0, user="somebody")
    answer = response.json()
    assert response.status_code == 200
    assert answer["id"].startswith("chatcmpl-")
    assert (answer["object"], answer["model"]) == ("chat.completion", "alpha")
    assert answer["choices"] == [
        {
            "index": 0,
            "message": {"role": "assistant", "content": "[user] one two [assistant] "},
            "logprobs": None,
            "finish_reason": "stop",
        }
    ]
    assert answer["usage"] == {
        "prompt_tokens": 4,
        "completion_tokens": 4,
        "total_tokens": 8,
        "prompt_tokens_details": {"cached_tokens": 0},
    }
    assert (answer["timings"]["prompt_n"], answer["timings"]["predicted_n"]) == (4, 4)
    assert set(answer["timings"]) >= {
        "cache_n",
        "prompt_ms",
        "prompt_per_second",
        "predicted_ms",
        "predicted_per_second",
    }


async def test_an_answer_in_a_stream(server: RunningServer) -> None:
    response = await server.chat("one two", stream=True, stream_options={"include_usage": True})
    assert response.headers["content-type"].startswith("text/event-stream")
    assert "content-encoding" not in response.headers
    found = events(response.text)
    assert found.pop() == "[DONE]"
    usage = found.pop()
    assert usage["choices"] == []
    assert usage["usage"]["total_tokens"] == 8
    assert all(chunk["object"] == "chat.completion.chunk" and chunk["usage"] is None for chunk in found)
    assert len({chunk["id"] for chunk in found}) == 1
    deltas = [chunk["choices"][0]["delta"] for chunk in found]
    assert deltas[0] == {"role": "assistant", "content": ""}
    assert "".join(delta.get("content", "") for delta in deltas) == "[user] one two [assistant] "
    assert [chunk["choices"][0]["finish_reason"] for chunk in found] == [None] * (len(found) - 1) + ["stop"]
    assert deltas[-1] == {}
    assert found[-1]["timings"]["predicted_n"] == 4


async def test_without_include_usage_there_is_none(server: RunningServer) -> None:
    found = events((await server.chat("one", stream=True)).text)
    assert all("usage" not in chunk for chunk in found if chunk != "[DONE]")


@pytest.mark.parametrize("field", ["max_tokens", "max_completion_tokens"])
async def test_the_length_is_bounded(server: RunningServer, field: str) -> None:
    answer = (await server.chat("one two three", **{field: 2})).json()
    assert answer["choices"][0]["finish_reason"] == "length"
    assert answer["usage"]["completion_tokens"] == 2
    streamed = events((await server.chat("one two three", stream=True, **{field: 2})).text)
    assert streamed[-2]["choices"][0]["finish_reason"] == "length"


async def test_roles_parts_and_a_begun_reply(server: RunningServer) -> None:
    messages = [
        {"role": "developer", "content": "Rules"},
        {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]},
        {"role": "assistant", "content": "Sure:"},
    ]
    response = await server.client.post("/v1/chat/completions", json={"messages": messages})
    content = response.json()["choices"][0]["message"]["content"]
    assert content == "[system] Rules [user] ab [assistant]Sure: "


async def test_sampling_reaches_the_job(server: RunningServer) -> None:
    await server.chat(
        "x",
        temperature=0.3,
        top_p=0.5,
        top_k=7,
        min_p=0.2,
        repetition_penalty=1.1,
        presence_penalty=0.4,
        frequency_penalty=-0.5,
        seed=42,
        mirostat=2,
        stop=["\n\n", "END"],
        logit_bias={"1": 2},
    )
    request = server.context.pool.jobs()[-1].request
    chosen = request.sampling.changed()
    assert chosen == {
        "max_tokens": -1,
        "temperature": 0.3,
        "top_p": 0.5,
        "top_k": 7,
        "min_p": 0.2,
        "repeat_penalty": 1.1,
        "presence_penalty": 0.4,
        "frequency_penalty": -0.5,
        "seed": 42,
        "mirostat": "v2",
    }
    assert request.stop[-2:] == ("\n\n", "END")


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"n": 2}, "n"),
        ({"tools": [{"type": "function"}]}, "tools"),
        ({"response_format": {"type": "json_object"}}, "response_format"),
        ({"logprobs": True}, "logprobs"),
        ({"stop": ["x"] * 17}, "stop"),
        ({"temperature": 9}, None),
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "wizard", "content": "x"}]}, "messages.0.role"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "messages.0.content.0"),
    ],
)
async def test_what_cannot_be_done_is_refused_by_name(
    server: RunningServer, fields: dict[str, Any], param: str | None
) -> None:
    response = await server.chat("x", **fields)
    error = response.json()["error"]
    assert (response.status_code, error["type"], error["param"]) == (400, "invalid_request_error", param)
    assert error["message"].endswith(".")


async def test_a_body_that_is_no_json_and_a_route_that_is_none(server: RunningServer) -> None:
    headers = {"content-type": "application/json"}
    broken = await server.client.post("/v1/chat/completions", content=b"{", headers=headers)
    assert (broken.status_code, broken.json()["error"]["type"]) == (400, "invalid_request_error")
    nowhere = await server.client.post("/v1/nothing", json={})
    assert (nowhere.status_code, nowhere.json()["error"]["code"]) == (404, "not_found")


@pytest.mark.parametrize("stream", [False, True])
async def test_a_prompt_beyond_the_context_is_a_status(server: RunningServer, stream: bool) -> None:
    response = await server.chat("x " * 50, stream=stream)
    assert (response.status_code, response.json()["error"]["code"]) == (400, "context_length_exceeded")


async def test_a_crash_in_the_middle_is_an_event_and_the_next_request_is_answered(server: RunningServer) -> None:
    found = events((await server.chat("one CRASH two", stream=True)).text)
    assert found[-1]["error"]["code"] == "engine_crashed"
    assert "[DONE]" not in found
    response = await server.chat("one RAISE two")
    assert (response.status_code, response.json()["error"]["type"]) == (500, "server_error")
    assert (await server.chat("again")).status_code == 200


async def test_a_template_that_refuses_is_a_bad_request(server: RunningServer, monkeypatch: pytest.MonkeyPatch) -> None:
    from webui.chat import templates
    from webui.errors import TemplateFailed

    def refuse(*args: Any, **options: Any) -> str:
        raise TemplateFailed("No.")

    monkeypatch.setattr(templates, "render", refuse)
    response = await server.chat("x")
    assert (response.status_code, response.json()["error"]["code"]) == (400, "template_failed")


async def wait_for_job(server: RunningServer, state: JobState) -> Any:
    async with asyncio.timeout(30):
        while not (jobs := [job for job in server.context.pool.jobs() if job.state is state]):
            await asyncio.sleep(0.01)
    return jobs[-1]


@pytest.mark.parametrize("stream", [False, True])
async def test_a_client_that_leaves_ends_its_job(slow_server: RunningServer, stream: bool) -> None:
    request = asyncio.create_task(slow_server.chat("w " * 100, stream=stream))
    job = await wait_for_job(slow_server, JobState.GENERATING)
    request.cancel()
    with pytest.raises(asyncio.CancelledError):
        await request
    async with asyncio.timeout(10):
        await job.wait()
    assert job.state is JobState.CANCELLED


async def test_pieces_arrive_while_the_job_goes_on(slow_server: RunningServer) -> None:
    body = {"messages": [{"role": "user", "content": "w " * 100}], "stream": True}
    async with slow_server.client.stream("POST", "/v1/chat/completions", json=body) as response:
        lines = response.aiter_lines()
        seen = [line async for line in _take(lines, 5)]
        assert any('"content":"w "' in line or '"content":"[user] "' in line for line in seen)
        assert (await wait_for_job(slow_server, JobState.GENERATING)).tokens < 100


async def _take(lines: AsyncIterator[str], count: int) -> AsyncIterator[str]:
    async for line in lines:
        yield line
        count -= 1
        if count == 0:
            return


async def wait_for_queue(server: RunningServer, *, running: int, queued: int) -> None:
    async with asyncio.timeout(30):
        async for status in server.context.pool.watch():
            if (status.running, status.queued) == (running, queued):
                return


async def test_a_full_queue_says_when_to_come_again(slow_server: RunningServer) -> None:
    waiting: list[asyncio.Task[Any]] = []
    await wait_for_queue(slow_server, running=0, queued=0)  # jobs of clients that have left
    for queued in range(2):
        waiting.append(asyncio.create_task(slow_server.chat("w " * 300)))
        await wait_for_queue(slow_server, running=1, queued=queued)
    health = (await slow_server.client.get("/health")).json()
    assert health["queue"] == {"running": 1, "queued": 1}
    response = await slow_server.chat("x")
    assert (response.status_code, response.json()["error"]["code"]) == (503, "busy")
    assert int(response.headers["retry-after"]) > 0
    for request in waiting:
        request.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)


async def test_without_a_model_it_says_so(tmp_path: Path) -> None:
    async with running_server(tmp_path, models=(), wait=False) as server:
        response = await server.chat("x")
        assert (response.status_code, response.json()["error"]["code"]) == (503, "not_loaded")
        assert "retry-after" in response.headers
        health = (await server.client.get("/health")).json()
        assert (health["state"], health["model"], health["device"]) == ("empty", None, None)
        assert (await server.client.get("/v1/models")).json()["data"] == []


async def test_health_says_what_is_loaded(server: RunningServer) -> None:
    health = (await server.client.get("/health")).json()
    assert [step["state"] for step in health.pop("ladder")] in ([], ["worked"])
    assert health == {
        "state": "ready",
        "model": "alpha",
        "loader": "toy",
        "device": "CPU",
        "degraded": None,
        "queue": {"running": 0, "queued": 0},
        "version": health["version"],
    }


async def test_health_is_answered_while_a_model_hangs_in_loading(tmp_path: Path) -> None:
    async with running_server(tmp_path, wait=False, loaders__toy__fault="hang") as server:
        async with asyncio.timeout(30):
            while (await server.client.get("/health")).json()["state"] != "loading":
                await asyncio.sleep(0.01)
        await server.context.pool.cancel_load()
