"""Engines asked what they would allocate, and processes asked what they hold."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.builders.gguf import tiny_llama_bpe
from webui.errors import AppError, ModelError
from webui.loaders import LOADERS
from webui.loaders.dry_run import plan_of
from webui.loaders.held_memory import held_memory
from webui.loaders.llama_log import EnginePlan, read_plan
from webui.models.inspect import inspect_model

MIB = 1 << 20
ON_TWO_DEVICES = """
llama_kv_cache:      CUDA0 KV buffer size =     0.00 MiB
llama_kv_cache: size =  512.00 MiB (  4096 cells,  32 layers,  1/1 seqs), K (f16):  256.00 MiB, V (f16):  256.00 MiB
llama_memory_recurrent: size =    1.50 MiB (     1 cells,  4 layers,  1 seqs), R (f32):    0.50 MiB
sched_reserve:      CUDA0 compute buffer size =   300.00 MiB
sched_reserve:  CUDA_Host compute buffer size =    16.01 MiB
sched_reserve:      CUDA0 compute buffer size =   304.50 MiB
"""


def test_a_plan_is_read_from_the_log() -> None:
    plan = read_plan(ON_TWO_DEVICES.splitlines())
    assert plan == EnginePlan(int(513.5 * MIB), {"CUDA0": int(304.5 * MIB), "CUDA_Host": int(16.01 * MIB + 0.5)})
    assert (plan.host_compute, plan.device_compute) == (plan.compute["CUDA_Host"], (int(304.5 * MIB),))
    assert read_plan(["llama_kv_cache: size =  512.00 MiB"]) is None


@pytest.mark.engine
@pytest.mark.parametrize("loader", ["llama-cpp-python", "xllamacpp"])
async def test_an_engine_plans_without_loading(starter_model: Path, loader: str) -> None:
    spec = LOADERS[loader]
    values = spec.parameters.parse({"context_size": 8192}).model_dump(mode="json")
    plan = await plan_of(spec, inspect_model(starter_model), values)
    assert plan.cache == 180 * MIB
    assert 15 * MIB < plan.host_compute < 30 * MIB
    assert plan.device_compute == ()


@pytest.mark.engine
@pytest.mark.parametrize("loader", ["llama-cpp-python", "xllamacpp"])
async def test_a_file_that_the_engine_would_not_load_is_refused_with_its_reason(tmp_path: Path, loader: str) -> None:
    path = tiny_llama_bpe(tmp_path / "tiny.gguf")
    facts = inspect_model(path)
    path.write_bytes(path.read_bytes().replace(b"blk.1.ffn_up.weight", b"blk.1.ffn_uq.weight"))
    spec = LOADERS[loader]
    with pytest.raises(AppError) as caught:
        await plan_of(spec, facts, spec.parameters().model_dump(mode="json"))
    assert isinstance(caught.value, ModelError)
    assert "ffn_up" in " ".join((caught.value.message, caught.value.cause, *caught.value.evidence))


def test_own_memory_and_pages_of_a_file_are_told_apart(tmp_path: Path) -> None:
    import mmap

    path = tmp_path / "weights"
    path.write_bytes(bytes(range(256)) * 4096 * 8)
    before = held_memory([os.getpid()], [path])
    assert before is not None
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as pages:
        assert sum(pages[:: mmap.PAGESIZE]) >= 0
        held = held_memory([os.getpid()], [path])
        elsewhere = held_memory([os.getpid()], [])
    assert held is not None
    assert elsewhere is not None
    if held.mapped:  # only Linux tells
        assert held.mapped == path.stat().st_size
        assert elsewhere.mapped == 0
        assert held.own < before.own + 4 * MIB
    assert held_memory([2**22 + 1], [path]) is None
