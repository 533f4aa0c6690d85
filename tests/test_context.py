"""What the services share: the history and what was learnt outlive a restart, and nothing is slow at the start."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import psutil
import pytest

from tests.builders.gguf import tiny_llama_spm
from tests.hardware import machines
from tests.loaders import toy
from webui import context as context_module
from webui.context import AppContext
from webui.errors import EngineRefused
from webui.hardware import detect
from webui.paths import Paths
from webui.planning.recovery import StepKind
from webui.settings import Settings


def opened(home: Path, **values: object) -> AppContext:
    loaders = {toy.SPEC.name: toy.SPEC}
    paths = Paths(home).ensure()
    asked = {f"loaders.toy.{name}": value for name, value in values.items()}
    settings = Settings.load(paths, environment={}, command_line=asked, loaders=loaders)
    return AppContext.create(paths, settings, loaders=loaders)


async def test_the_history_is_there_after_a_restart(tmp_path: Path) -> None:
    model = tiny_llama_spm(tmp_path / "tiny.gguf")
    app = opened(tmp_path / "home", fault="refuse")
    with pytest.raises(EngineRefused):
        await app.load_model(model)
    await app.close()
    again = opened(tmp_path / "home")
    try:
        (failure,) = again.pool.failures()
        assert (failure.phase, failure.loader, failure.model, failure.error.code) == (
            "load",
            "toy",
            "tiny",
            "engine_refused",
        )
        assert [story.outcome for story in again.pool.loads()] == ["failed"]
        assert [(rate.loader, rate.attempts, rate.failures) for rate in again.pool.rates()] == [("toy", 1, 1)]
    finally:
        await again.close()


async def test_what_worked_is_remembered_over_a_restart(tmp_path: Path) -> None:
    model = tiny_llama_spm(tmp_path / "tiny.gguf")
    kinds = []
    for _ in range(2):
        app = opened(tmp_path / "home", fragile=True)
        try:
            status = await app.load_model(model)
            kinds.append([rung.attempt.kind for rung in status.ladder])
            assert status.degraded is not None
        finally:
            await app.close()
    assert kinds == [[StepKind.ASKED, StepKind.SAFER_FLAGS], [StepKind.REMEMBERED]]


async def test_the_machine_is_looked_at_once_and_not_at_the_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks: list[Path] = []

    def counted(path: Path) -> object:
        looks.append(path)
        return detect(path)

    monkeypatch.setattr(context_module, "detect", counted)
    model = tiny_llama_spm(tmp_path / "tiny.gguf")
    app = opened(tmp_path / "home", fragile=True)
    try:
        assert looks == []
        await app.load_model(model)
        assert await app.hardware() is await app.hardware()
        assert len(looks) == 1
        await app.hardware(refresh=True)
        assert len(looks) == 2
    finally:
        await app.close()


async def test_a_home_that_cannot_keep_anything_costs_only_the_memory_of_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    model = tiny_llama_spm(tmp_path / "tiny.gguf")
    paths = Paths(tmp_path / "home").ensure()
    paths.history.mkdir()
    paths.experience.mkdir()
    app = opened(tmp_path / "home", fragile=True)
    try:
        assert (await app.load_model(model)).degraded is not None
        assert len(app.pool.loads()) == 1
    finally:
        await app.close()
    assert caplog.text.count("The history of loads and failures is not kept on disk") == 1


async def test_the_monitor_follows_the_worker_and_sleeps_unwatched(tmp_path: Path) -> None:
    app = opened(tmp_path / "home")
    try:
        await app.load_model(tiny_llama_spm(tmp_path / "tiny.gguf"))
        assert app.pool.pids() == [app.pool.status.pid]
        assert not app.monitor.running
        with app.monitor.watching():
            async with asyncio.timeout(60):
                while not app.monitor.since().samples:
                    await asyncio.sleep(0.01)
        (first, *_) = app.monitor.since().samples
        assert first.worker_memory > 1_000_000
        assert first.speed == 0.0
        await app.pool.unload()
        assert app.pool.pids() == []
    finally:
        await app.close()
    assert not app.monitor.running


async def test_a_choice_of_gpus_holds_for_workers_from_the_next_load(tmp_path: Path) -> None:
    app = opened(tmp_path / "home")
    model = tiny_llama_spm(tmp_path / "tiny.gguf")

    def seen() -> str | None:
        return psutil.Process(app.pool.status.pid).environ().get("CUDA_VISIBLE_DEVICES")

    try:
        app._hardware = machines.facts("nvidia-two-unequal", tmp_path / "machine")
        small = app._hardware.gpus[1]
        await app.load_model(model)
        assert (seen(), app.gpu_choice().key) == (os.environ.get("CUDA_VISIBLE_DEVICES"), "")
        app.save_settings({"hardware.gpus": ["1"]})
        assert seen() == os.environ.get("CUDA_VISIBLE_DEVICES")
        await app.load_model(model)
        assert seen() == app.gpu_choice().key == small.uuid
        assert app.usable_gpus("toy", app._hardware.gpus) == (small,)
        app.save_settings({"backends.gpu_enabled": False})
        await app.load_model(model)
        assert seen() == "-1"
        assert app.usable_gpus("toy", app._hardware.gpus) == ()
    finally:
        await app.close()
