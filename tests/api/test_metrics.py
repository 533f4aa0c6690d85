"""`/metrics`, and the record that real loads and replies leave: figures only, counters that only grow."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from pathlib import Path

from tests.server.running import RunningServer, running_server
from webui.planning.record import Record

NAME = r"[a-zA-Z_:][a-zA-Z0-9_:]*"
LABEL = r'[a-zA-Z_][a-zA-Z0-9_]*="(?:[^"\\\n]|\\\\|\\"|\\n)*"'
SAMPLE = re.compile(rf"({NAME})(\{{{LABEL}(?:,{LABEL})*\}})? (-?[0-9.]+(?:e[+-]?[0-9]+)?|\+Inf)")
SECRET = "zebrafinch"


async def exposed(server: RunningServer) -> dict[str, float]:
    """Each sample by its name and labels, the form checked line by line."""
    answer = await server.client.get("/metrics")
    assert (answer.status_code, answer.headers["content-type"]) == (200, "text/plain; version=0.0.4; charset=utf-8")
    assert answer.text.endswith("\n")
    found: dict[str, float] = {}
    kinds: dict[str, str] = {}
    for line in answer.text.splitlines():
        if line.startswith("# TYPE "):
            _, _, name, kind = line.split(" ")
            assert name not in kinds, "one block for each name"
            kinds[name] = kind
        elif not line.startswith("# HELP "):
            match = SAMPLE.fullmatch(line)
            assert match is not None, line
            family = re.sub(r"_(bucket|sum|count)$", "", match[1]) if match[1] not in kinds else match[1]
            assert family in kinds, f"{line} has no type"
            assert (kinds[family] == "counter") == match[1].endswith("_total"), line
            found[f"{match[1]}{match[2] or ''}"] = float(match[3])
    return found


async def recorded(server: RunningServer, enough: Callable[[Record], bool]) -> Record:
    """The record, once it holds what was asked for."""
    async with asyncio.timeout(30):
        while not enough(record := await asyncio.to_thread(server.context.metrics.record)):
            await asyncio.sleep(0.01)
    return record


async def test_loads_and_replies_are_counted_kept_and_say_nothing_of_what_was_said(tmp_path: Path) -> None:
    async with running_server(tmp_path) as server:
        await recorded(server, lambda record: len(record.loads) == 1)
        before = await exposed(server)
        words = " ".join([SECRET, *["word"] * 20])
        assert (await server.chat(words)).status_code == 200
        assert (await server.chat(f"{SECRET} RAISE")).status_code == 500
        record = await recorded(server, lambda record: len(record.replies) == 2)
        after = await exposed(server)
        done, failed = sorted(record.replies, key=lambda one: one.outcome)
        (load,) = record.loads
        assert (load.outcome, load.under.model, load.under.loader, load.under.version) == ("worked", "tiny", "toy", "1")
        assert load.planned and load.measured and load.seconds > 0
        assert (done.outcome, done.under.device, done.tokens > 20) == ("done", "cpu", True)
        assert done.under.settings == load.under.settings and done.under.context == load.under.context
        assert done.first_token is not None and done.memory and done.life > 0
        assert (failed.outcome, failed.code) == ("failed", "engine_refused")
        served = '{model="tiny",loader="toy"'
        assert after[f'gguf_loader_requests_total{served},outcome="done"}}'] == 1
        assert after[f'gguf_loader_requests_total{served},outcome="failed"}}'] == 1
        assert after[f"gguf_loader_completion_tokens_total{served}}}"] == done.tokens + failed.tokens
        assert after[f"gguf_loader_time_to_first_token_seconds_count{served}}}"] >= 1
        assert after[f'gguf_loader_loads_total{served},outcome="worked"}}'] == 1
        assert [key for key, value in before.items() if "_total" in key and after[key] < value] == []
        assert any(key.startswith("gguf_loader_model_loaded{") for key in after)
        assert SECRET not in (await server.client.get("/metrics")).text
    for file in tmp_path.glob("metrics.sqlite3*"):
        assert SECRET.encode() not in file.read_bytes()


async def test_buckets_add_up(tmp_path: Path) -> None:
    async with running_server(tmp_path) as server:
        for _ in range(3):
            await server.chat("one two three")
        await recorded(server, lambda record: len(record.replies) == 3)
        found = await exposed(server)
        name = "gguf_loader_time_to_first_token_seconds"
        buckets = [value for key, value in found.items() if key.startswith(f"{name}_bucket")]
        assert buckets == sorted(buckets)
        assert buckets[-1] == found[f'{name}_count{{model="tiny",loader="toy"}}'] == 3


async def test_a_load_that_fails_is_kept_with_its_kind(tmp_path: Path) -> None:
    async with running_server(tmp_path, wait=False, loaders__toy__fault="refuse") as server:
        record = await recorded(server, lambda record: bool(record.loads))
        assert {(one.outcome, one.code, one.category) for one in record.loads} == {
            ("failed", "engine_refused", "model")
        }
        found = await exposed(server)
        assert found['gguf_loader_errors_total{loader="toy",category="model",code="engine_refused"}'] == len(
            record.loads
        )


async def test_a_key_guards_it_as_the_rest(tmp_path: Path) -> None:
    async with running_server(tmp_path, wait=False, server__api_key="hidden") as server:
        assert (await server.client.get("/metrics")).status_code == 401
        key = {"Authorization": "Bearer hidden"}
        assert (await server.client.get("/metrics", headers=key)).status_code == 200
        assert (await server.client.get("/metrics", headers={**key, "Host": "elsewhere.example"})).status_code == 403
