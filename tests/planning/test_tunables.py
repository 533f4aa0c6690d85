"""What can be tuned of each loader: only what it declares, and nothing that costs quality unless that is allowed."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from webui.hardware.facts import CpuFacts
from webui.loaders import LOADERS
from webui.models.facts import ModelFacts, ModelFormat
from webui.planning.tunables import Setting, Space, space_of, thread_counts

CPU = CpuFacts("Some", "x86_64", 8, 16, 16, allowed_cores=16, allowed_physical=8)
FACTS = ModelFacts(Path("m.gguf"), ModelFormat.GGUF, (Path("m.gguf"),), 1000, "m", block_count=32)


def space(name: str, *, cpu: CpuFacts = CPU, gpu: bool = False, small: bool = False, **values: Any) -> Space:
    spec = LOADERS[name]
    usual = spec.parameters.parse(values).model_dump(mode="json")
    return space_of(spec, usual, FACTS, cpu, gpu=gpu, cache_quantization=small)


@pytest.mark.parametrize("name", LOADERS)
@pytest.mark.parametrize("gpu", [False, True])
def test_every_value_is_one_the_loader_takes_and_the_usual_one_is_among_them(name: str, gpu: bool) -> None:
    found = space(name, gpu=gpu, small=True)
    assert found.axes
    for axis in found.axes:
        # A number of 0 threads stands for one that the app chooses, which an axis may write out.
        assert all(found.usual[key] in (value, 0) for key, value in axis.values[axis.usual].items())
        assert len({str(value) for value in axis.values}) == len(axis.values) > 1
        for pins, value in itertools.zip_longest(axis.pins, axis.values, fillvalue={}):
            LOADERS[name].parameters.parse({**found.usual, **pins, **value})


def test_the_loaders_differ_in_what_they_offer() -> None:
    names = {name: {axis.name for axis in space(name).axes} for name in LOADERS}
    assert names["xllamacpp"] == {
        "threads",
        "threads_batch",
        "micro_batch_size",
        "flash_attention",
        "cpu_repacking",
        "poll",
    }
    assert names["llama-cpp-python"] == names["xllamacpp"] - {"poll"}
    assert names["ctransformers"] == {"threads", "batch_size"}


def test_a_smaller_cache_is_tried_only_where_the_user_allows_it_and_it_works() -> None:
    def cache(**values: Any) -> list[Any]:
        return [axis.values for axis in space("xllamacpp", **values).axes if axis.name == "cache_type"]

    assert cache() == []
    assert cache(small=True) == [
        ({"cache_type_k": "f16", "cache_type_v": "f16"}, {"cache_type_k": "q8_0", "cache_type_v": "q8_0"})
    ]
    assert cache(small=True, flash_attention="off") == []
    small = space("xllamacpp", cache_type_k="q8_0", cache_type_v="q8_0")
    assert "flash_attention" not in {axis.name for axis in small.axes}


def test_layers_are_varied_only_where_there_is_a_gpu() -> None:
    assert "gpu_layers" not in {axis.name for axis in space("xllamacpp").axes}
    layers = next(axis for axis in space("xllamacpp", gpu=True).axes if axis.name == "gpu_layers")
    assert [value["gpu_layers"] for value in layers.values] == [0, 8, 16, 25, -1]


@pytest.mark.parametrize(
    ("cpu", "counts"),
    [
        (CPU, [1, 2, 3, 4, 6, 8, 12, 16]),
        (replace(CPU, usable_cores=2, allowed_cores=2, allowed_physical=2), [1, 2]),
        (replace(CPU, usable_cores=2, allowed_cores=64, allowed_physical=32, quota=2.0), [1, 2]),
        (CpuFacts(None, "arm64", None, None, 1), [1]),
    ],
)
def test_threads_stay_within_the_cores_that_may_be_used(cpu: CpuFacts, counts: list[int]) -> None:
    assert thread_counts(cpu) == counts


def test_what_the_user_has_set_is_left_alone() -> None:
    free = space("xllamacpp", threads=3).without({"threads", "threads_batch"})
    assert not {"threads", "threads_batch"} & {axis.name for axis in free.axes}
    apart = space("xllamacpp").without({"threads_batch"})
    assert not any(next(axis for axis in apart.axes if axis.name == "threads").pins)


def test_more_threads_are_tried_for_replies_and_prompts_together_and_fewer_for_replies_alone() -> None:
    found = space("xllamacpp")
    axes = {axis.name: axis for axis in found.axes}
    threads, usual = axes["threads"], Setting("xllamacpp")
    batch = next(iter(axes["threads_batch"].values[axes["threads_batch"].usual].values()))
    more = found.moved(threads, usual, threads.usual + 1)
    assert more.parameters["threads_batch"] == more.parameters["threads"] > batch
    fewer = found.moved(threads, usual, threads.usual - 1)
    assert fewer.parameters["threads"] < fewer.parameters["threads_batch"] == batch
    apart = found.moved(axes["threads_batch"], more, axes["threads_batch"].usual)
    assert apart.parameters == {**more.parameters, "threads_batch": batch}
    assert found.place(axes["threads_batch"], apart) == axes["threads_batch"].usual
