"""A worker sees the GPUs that were chosen when its model was asked for, from its start to its end."""

from __future__ import annotations

import asyncio
import dataclasses
import os
import signal
from collections.abc import Callable
from typing import Annotated

import psutil
import pytest

from tests.loaders import toy
from tests.pool.conftest import ROOM_FOR_ONE, facts
from webui.loaders.parameters import Control
from webui.loaders.shared import GpuLayers, TensorSplit
from webui.pool import LoadRequest, Pool, PoolState
from webui.pool.choosing import Devices

MakePool = Callable[..., Pool]
VARIABLE = "CUDA_VISIBLE_DEVICES"


class GpuParameters(toy.ToyParameters):
    gpu_layers: GpuLayers = -1
    tensor_split: TensorSplit = ""
    place: Annotated[str, Control("Place", "Where it computes.", section="Toy")] = "auto"


GPU_TOY = dataclasses.replace(toy.SPEC, parameters=GpuParameters, cpu_parameters={"gpu_layers": 0, "place": "cpu"})


class Chosen:
    """The choice of GPUs, which a test changes."""

    def __init__(self, **fields: object) -> None:
        self.devices = Devices(**fields)  # type: ignore[arg-type]

    def __call__(self) -> Devices:
        return self.devices


def seen(pool: Pool) -> str | None:
    pid = pool.status.pid
    assert pid is not None
    return psutil.Process(pid).environ().get(VARIABLE)


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="kills a process by signal")
async def test_a_change_holds_from_the_next_load(make_pool: MakePool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    chosen = Chosen(environment={VARIABLE: "GPU-one"})
    pool = make_pool(devices=chosen)
    await pool.load(LoadRequest(facts("one")))
    assert seen(pool) == "GPU-one"
    chosen.devices = Devices()
    pid = pool.status.pid or 0
    os.kill(pid, signal.SIGKILL)
    async with asyncio.timeout(60):
        async for status in pool.watch():
            if status.state is PoolState.READY and status.pid not in (None, pid):
                break
    assert seen(pool) == "GPU-one"
    await pool.load(LoadRequest(facts("two")))
    assert seen(pool) is None


async def test_a_model_that_is_brought_back_sees_what_it_saw(make_pool: MakePool) -> None:
    chosen = Chosen(environment={VARIABLE: "GPU-one"})
    pool = make_pool(devices=chosen, available=ROOM_FOR_ONE)
    await pool.load(LoadRequest(facts("one")))
    chosen.devices = Devices(environment={VARIABLE: "GPU-two"})
    with pytest.raises(Exception, match="refuses"):
        await pool.load(LoadRequest(facts("two"), parameters={"fault": "refuse"}))
    assert seen(pool) == "GPU-one"


async def test_a_split_holds_where_nobody_chose_another(make_pool: MakePool) -> None:
    pool = make_pool(
        (GPU_TOY, dataclasses.replace(toy.SPEC, name="plain")), devices=Chosen(parameters={"tensor_split": "3,1"})
    )
    assert (await pool.load(LoadRequest(facts("one")))).parameters["tensor_split"] == "3,1"
    asked = {"tensor_split": "1,1"}
    assert (await pool.load(LoadRequest(facts("one"), parameters=asked))).parameters["tensor_split"] == "1,1"
    assert "tensor_split" not in (await pool.load(LoadRequest(facts("one"), "plain"))).parameters


async def test_the_processor_alone_is_asked_for_in_the_loader_s_own_words(make_pool: MakePool) -> None:
    pool = make_pool((GPU_TOY,), devices=Chosen(processor=True))
    parameters = (await pool.load(LoadRequest(facts("one"), parameters={"gpu_layers": 20}))).parameters
    assert (parameters["gpu_layers"], parameters["place"]) == (0, "cpu")


async def test_the_gpu_switched_off_means_the_same(make_pool: MakePool) -> None:
    pool = make_pool((GPU_TOY,), backends__gpu_enabled=False)
    parameters = (await pool.load(LoadRequest(facts("one")))).parameters
    assert (parameters["gpu_layers"], parameters["place"]) == (0, "cpu")
