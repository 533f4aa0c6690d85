"""`/health` while models load and fail: always an answer, and the steps of the load in it."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

from tests.server.running import RunningServer, running_server
from webui.pool import PoolState

QUICK_SECONDS = 1.0


async def health(server: RunningServer) -> dict[str, object]:
    began = time.monotonic()
    response = await server.client.get("/health")
    assert response.status_code == 200
    assert time.monotonic() - began < QUICK_SECONDS
    answer: dict[str, object] = response.json()
    return answer


async def test_a_load_that_goes_on_shows_its_step(tmp_path: Path) -> None:
    async with running_server(tmp_path, wait=False, loaders__toy__fault="hang") as server:
        async with asyncio.timeout(60):
            while not (found := await health(server))["ladder"]:
                await asyncio.sleep(0.01)
        assert found["state"] == "loading"
        (step,) = found["ladder"]  # type: ignore[misc]
        assert (step["step"], step["loader"], step["state"], step["code"]) == ("as asked", "toy", "running", None)
        later = (await health(server))["ladder"]
        assert later[0]["seconds"] > step["seconds"]  # type: ignore[index]


async def test_a_load_that_failed_shows_why(tmp_path: Path) -> None:
    async with running_server(tmp_path, wait=False, loaders__toy__fault="refuse") as server:
        async with asyncio.timeout(60):
            while server.context.pool.status.state is not PoolState.FAILED:
                await health(server)
                await asyncio.sleep(0.01)
        found = await health(server)
        assert (found["state"], found["degraded"]) == ("failed", None)
        last = found["ladder"][-1]  # type: ignore[index]
        assert set(last) == {"step", "loader", "state", "seconds", "code"}
        assert (last["state"], last["code"]) == ("failed", "engine_refused")


async def test_what_was_given_up_is_said(tmp_path: Path) -> None:
    """The toy crashes at its first token as it is asked for, and not with its safer flags."""
    async with running_server(tmp_path, loaders__toy__fragile=True) as server:
        found = await health(server)
        states = [(step["step"], step["state"], step["code"]) for step in found["ladder"]]  # type: ignore[attr-defined]
        assert states == [("as asked", "failed", "engine_crashed"), ("safer engine flags", "worked", None)]
        status = server.context.pool.status
        assert status.degraded is not None
        assert found["degraded"] == status.degraded.sentence
