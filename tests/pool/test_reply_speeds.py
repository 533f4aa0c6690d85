"""Replies that mean something become measurements, without anybody waiting for it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from tests.loaders import toy
from tests.pool.conftest import facts
from tests.pool.test_pool import words
from webui.loaders.contract import GenerationRequest
from webui.pool import JobState, LoadRequest, Pool, reply_speeds
from webui.pool.measurements import Measurements, Speed

MakePool = Callable[..., Pool]
MODEL = facts("one")


@pytest.fixture
def measured() -> Measurements:
    return Measurements(None, lambda: "this one")


def speeds(measured: Measurements) -> tuple[Speed, ...]:
    return measured.of(MODEL, {toy.SPEC.name: None})


async def reply(pool: Pool, count: int) -> None:
    job = await pool.submit(GenerationRequest(words(count)), owner="test").wait()
    assert job.state is JobState.DONE


async def test_a_long_reply_is_kept_with_how_it_was_made(make_pool: MakePool, measured: Measurements) -> None:
    pool = make_pool(measurements=measured)
    await pool.load(LoadRequest(MODEL, parameters={"context_size": 500, "delay": 0.002}))
    await reply(pool, 100)
    async with asyncio.timeout(30):
        while not speeds(measured):
            await asyncio.sleep(0.01)
    await pool.close()
    (speed,) = speeds(measured)
    assert (speed.loader, speed.source, speed.depth) == ("toy", "reply", 0)
    assert speed.parameters["context_size"] == 500
    assert 0 < speed.tokens_per_second <= 500
    assert speed.memory_bytes is not None
    assert speed.memory_bytes > 1 << 20
    assert speed.load_seconds is not None
    assert speed.load_seconds > 0


async def test_short_and_shared_replies_measure_nothing(make_pool: MakePool, measured: Measurements) -> None:
    pool = make_pool(measurements=measured)
    await pool.load(LoadRequest(MODEL, parameters={"context_size": 500, "delay": 0.001, "slots": 2}))
    await reply(pool, reply_speeds.LEAST_TOKENS)
    await asyncio.gather(reply(pool, 100), reply(pool, 100))
    await pool.close()
    assert speeds(measured) == ()


async def test_most_replies_cost_nothing(
    make_pool: MakePool, measured: Measurements, monkeypatch: pytest.MonkeyPatch
) -> None:
    pool = make_pool(measurements=measured)
    await pool.load(LoadRequest(MODEL, parameters={"context_size": 500}))
    for _ in range(5):
        await reply(pool, 100)
    async with asyncio.timeout(30):
        while not speeds(measured):
            await asyncio.sleep(0.01)
        assert len(speeds(measured)[0].recent) == 1
        monkeypatch.setattr(reply_speeds, "PAUSE_SECONDS", 0.0)
        while len(speeds(measured)[0].recent) < 2:
            await reply(pool, 100)
    await pool.close()
