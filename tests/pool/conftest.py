"""A pool of real worker processes with loaders that misbehave on purpose."""

from __future__ import annotations

import dataclasses
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from tests.loaders import toy
from webui.loaders.contract import LoaderSpec
from webui.models.facts import ModelFacts, ModelFormat
from webui.paths import Paths
from webui.planning.evidence import Engines
from webui.planning.memory import estimate
from webui.pool import Pool
from webui.pool.choosing import Devices, PlanOf
from webui.pool.measurements import Measurements
from webui.settings import Settings


def facts(name: str) -> ModelFacts:
    return ModelFacts(Path(f"{name}.gguf"), ModelFormat.GGUF, (Path(f"{name}.gguf"),), 1000, name)


ROOM_FOR_ONE = int(estimate(facts("any"), toy.SPEC, {}).total * 0.95)
"""Free memory in which one model is worth trying, and no second one beside it."""


def loader(name: str, **defaults: Any) -> LoaderSpec:
    """A toy loader of another name; `defaults` change its parameters' defaults through the settings."""
    return dataclasses.replace(toy.SPEC, name=name, title=name.capitalize())


@pytest.fixture
async def make_pool(tmp_path: Path) -> AsyncIterator[Callable[..., Pool]]:
    pools: list[Pool] = []

    def make(
        loaders: tuple[LoaderSpec, ...] = (toy.SPEC,),
        *,
        available: int = 1 << 40,
        measurements: Measurements | None = None,
        plan: PlanOf | None = None,
        engines: Callable[[], Engines] = Engines,
        devices: Callable[[], Devices] = Devices,
        **command_line: Any,
    ) -> Pool:
        known = {spec.name: spec for spec in loaders}
        values = {key.replace("__", "."): value for key, value in command_line.items()}
        settings = Settings.load(
            Paths.from_environment({"GGUF_HOME": str(tmp_path)}), environment={}, command_line=values, loaders=known
        )
        knowledge: dict[str, Any] = {"measurements": measurements, "plan": plan, "engines": engines, "devices": devices}
        pool = Pool(lambda: settings, known, lambda: available, device_memory=lambda: 0, **knowledge)
        pools.append(pool)
        return pool

    yield make
    for pool in pools:
        await pool.close()
        assert pool.workers() == []
