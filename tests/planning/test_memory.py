"""The estimate of memory, against figures that llama.cpp itself reported and against arithmetic."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.planning.situations import GIB, LLAMA_8B
from webui.loaders import LOADERS
from webui.loaders.contract import LoaderSpec
from webui.models.facts import ModelFacts, ModelFormat
from webui.planning.cache import CacheShape, layers_cache
from webui.planning.memory import MIB, Need, device_room, estimate, fits_beside, layers_that_fit, parts

SMOLLM2 = ModelFacts(
    Path("SmolLM2-135M-Instruct.Q4_1.gguf"),
    ModelFormat.GGUF,
    (Path("SmolLM2-135M-Instruct.Q4_1.gguf"),),
    98_362_432,
    "SmolLM2",
    architecture="llama",
    block_count=30,
    context_length=8192,
    embedding_length=576,
    head_count=9,
    head_count_kv=3,
    vocabulary_size=49_152,
    parameter_count=134_515_008,
    tensor_bytes=96_574_464,
    tensor_types={"Q4_1": 90_000_000, "F32": 140_000},
    metadata={"llama.feed_forward_length": 1536},
)


def need(loader: str, facts: ModelFacts = LLAMA_8B, gpu: bool = False, **asked: Any) -> Need:
    return estimate(facts, *of(loader, **asked), gpu=gpu)


def of(loader: str, **asked: Any) -> tuple[LoaderSpec, dict[str, Any]]:
    spec = LOADERS[loader]
    return spec, spec.parameters.parse(asked).model_dump(mode="json")


@pytest.mark.parametrize(
    ("asked", "cache", "compute"),
    [
        ({"context_size": 2048}, 45.0, 15.5),
        ({"context_size": 8192}, 180.0, 21.5),
        ({"context_size": 0}, 180.0, 21.5),
        ({"context_size": 8192, "flash_attention": "off"}, 180.0, 166.4),
        ({"context_size": 8192, "micro_batch_size": 128}, 180.0, 5.4),
        ({"context_size": 8192, "cache_type_k": "q8_0", "cache_type_v": "q8_0"}, 95.6, 20.4),
    ],
)
def test_what_llama_cpp_allocated_for_the_starter_model(asked: dict[str, Any], cache: float, compute: float) -> None:
    """Both figures are from the engine's log, in MiB: the cache is exact, the buffers are met within a tenth."""
    host = parts(SMOLLM2, *of("llama-cpp-python", **asked))[0]
    assert host.cache / MIB == pytest.approx(cache, abs=0.1)
    assert host.compute / MIB == pytest.approx(compute, rel=0.1)


def test_grouped_heads_are_counted_once_per_group() -> None:
    grouped, single = need("xllamacpp"), need("xllamacpp", replace(LLAMA_8B, head_count_kv=None))
    assert grouped.cache == 32 * 8 * 128 * 2 * 2 * 4096
    assert single.cache == 4 * grouped.cache


def test_slots_with_caches_of_their_own_take_several() -> None:
    assert need("xllamacpp", shared_cache=False, slots=4).cache == 4 * need("xllamacpp").cache


@pytest.mark.parametrize(
    ("asked", "mapped"), [({}, True), ({"use_mmap": False}, False), ({"use_mmap": True, "use_mlock": True}, False)]
)
def test_weights_are_pages_of_the_file_only_where_nobody_locks_them(asked: dict[str, Any], mapped: bool) -> None:
    found = need("xllamacpp", cpu_repacking="off", **asked)
    assert found.mapped is mapped
    assert found.kept == found.total - (found.weights if mapped else 0)


def test_what_is_copied_for_the_processor_lies_beside_the_pages_of_the_file() -> None:
    types = {"Q4_K": 4 * GIB, "Q6_K": GIB, "F32": 1000}
    facts = replace(LLAMA_8B, tensor_bytes=sum(types.values()), tensor_types=types)
    (copied,), (plain,) = (parts(facts, *of("xllamacpp", cpu_repacking=one)) for one in ("auto", "off"))
    assert (copied.mapped, plain.mapped) == (facts.tensor_bytes, facts.tensor_bytes)
    assert (copied.weights - plain.weights, plain.weights) == (4 * GIB, facts.tensor_bytes)
    (elsewhere,) = parts(facts, *of("xllamacpp"), repacked=())
    assert elsewhere.weights == plain.weights
    (read,) = parts(facts, *of("xllamacpp", use_mmap=False))
    assert (read.mapped, read.weights) == (0, facts.tensor_bytes)
    with_gpu = parts(facts, *of("xllamacpp", gpu_layers=10), (24 * GIB,))
    assert sum(part.weights for part in with_gpu) == facts.tensor_bytes


def test_converted_weights_take_what_they_are_converted_to() -> None:
    assert need("transformers", SMOLLM2).weights == SMOLLM2.parameter_count * 4  # type: ignore[operator]
    assert need("transformers").weights == LLAMA_8B.parameter_count * 2  # type: ignore[operator]
    assert need("transformers", SMOLLM2, gpu=True).weights == SMOLLM2.parameter_count * 2  # type: ignore[operator]
    spec = replace(LOADERS["xllamacpp"], weight_bytes=None)
    values = spec.parameters().model_dump(mode="json")
    assert estimate(SMOLLM2, spec, values, converts=True).weights == SMOLLM2.parameter_count * 4  # type: ignore[operator]


def test_a_file_that_does_not_tell_its_shape_still_needs_more_for_more_context() -> None:
    blind = replace(LLAMA_8B, block_count=None, head_count=None)
    small, large = need("ctransformers", blind, context_size=2048), need("ctransformers", blind, context_size=4096)
    assert 0 < small.cache < large.cache == LLAMA_8B.tensor_bytes // 4  # type: ignore[operator]


def test_layers_move_weights_and_cache_to_the_gpu() -> None:
    none, half, full = (need("llama-cpp-python", gpu=True, gpu_layers=layers) for layers in (0, 16, -1))
    assert none.device == 0
    assert 0.4 * full.device < half.device < 0.6 * full.device
    assert full.kept < LOADERS["llama-cpp-python"].engine_bytes + 96 * MIB
    host_cache = need("llama-cpp-python", gpu=True, offload_kv_cache=False)
    assert host_cache.kept - full.kept == full.cache


def test_as_many_layers_as_fit() -> None:
    spec = LOADERS["llama-cpp-python"]
    values = spec.parameters().model_dump(mode="json")
    counts = [layers_that_fit(LLAMA_8B, spec, values, gib * GIB) for gib in (0, 1, 4, 6, 24)]
    assert counts == sorted(counts)
    assert (counts[0], counts[-1]) == (0, 33)
    for free in (2 * GIB, 4 * GIB):
        layers = layers_that_fit(LLAMA_8B, spec, values, free)
        assert estimate(LLAMA_8B, spec, {**values, "gpu_layers": layers}, gpu=True).device < free


def test_no_more_layers_than_fit_and_no_fewer() -> None:
    spec = LOADERS["llama-cpp-python"]
    values = spec.parameters().model_dump(mode="json")
    for free in range(GIB, 7 * GIB, 333 * MIB):
        needs = [estimate(LLAMA_8B, spec, {**values, "gpu_layers": one}, gpu=True).device for one in range(1, 34)]
        fitting = sum(device <= device_room(free) for device in needs)
        assert layers_that_fit(LLAMA_8B, spec, values, free) == fitting


def test_a_header_that_claims_endless_layers_is_not_gone_through_layer_by_layer() -> None:
    endless = replace(LLAMA_8B, block_count=1 << 24)
    assert layers_cache(endless, CacheShape(4096)) is None
    assert need("llama-cpp-python", endless, gpu=True).device > 0


def test_what_fits() -> None:
    found = Need(weights=10 * GIB, cache=GIB, compute=0, mapped=True, mapped_bytes=10 * GIB)
    assert found.fits(None)
    assert found.fits(3 * GIB)
    assert not found.fits(2 * GIB)  # hardly a page of the file would stay in memory
    assert not found.fits(GIB - 1)
    assert not fits_beside(found, None)
    assert not fits_beside(found, 11 * GIB)
    assert fits_beside(found, 12 * GIB)
