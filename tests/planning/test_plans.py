"""Plans for machines with and without GPUs: what holds for all of them, and some by their numbers."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.planning.situations import GIB, LLAMA_8B
from webui.loaders import LOADERS
from webui.loaders.llama_log import EnginePlan
from webui.models.facts import ModelFacts
from webui.models.weights import WeightBytes
from webui.planning.alternatives import best_split, largest_context, most_layers, plan
from webui.planning.layers import HOST, layers_of, place
from webui.planning.memory import device_room
from webui.planning.plan import CPU, GpuRoom, Machine
from webui.planning.planner import Extras, Question, fits, outline

MIB = 1 << 20
LAYER, EXPERTS = 110 * MIB, 80 * MIB
LLAMA = replace(
    LLAMA_8B,
    tensor_bytes=32 * LAYER + 500 * MIB,
    weights=WeightBytes((LAYER,) * 32, (0,) * 32, 280 * MIB, 220 * MIB, 0, False, "Q4_K"),
    metadata={"llama.feed_forward_length": 14_336},
)
TIED = replace(LLAMA, weights=WeightBytes((LAYER,) * 32, (EXPERTS,) * 32, 500 * MIB, 0, 0, True, "Q4_K"))
GEMMA = replace(
    LLAMA, architecture="gemma3", metadata={"gemma3.attention.sliding_window": 1024, "gemma3.feed_forward_length": 9000}
)
MODELS = (LLAMA, TIED, GEMMA, LLAMA_8B)


def machine(*free: float, memory: float = 32.0, **other: Any) -> Machine:
    """`free` GiB on each GPU, each twice as large."""
    gpus = [GpuRoom(index, f"GPU {index}", int(one * GIB), int(2 * one * GIB)) for index, one in enumerate(free)]
    return Machine(int(memory * GIB), 64 * GIB, tuple(gpus), **other)


def question(here: Machine, facts: ModelFacts = LLAMA, loader: str = "llama-cpp-python", **asked: Any) -> Question:
    spec = LOADERS[loader]
    return Question(facts, spec, spec.parameters.parse(asked).model_dump(mode="json"), here)


rooms = st.floats(0.25, 30.0)
questions = st.builds(
    lambda free, memory, facts, loader, layers, context, cache: question(
        machine(*free, memory=memory),
        facts,
        loader,
        gpu_layers=layers,
        context_size=context,
        cache_type_k=cache,
        cache_type_v=cache,
    ),
    st.lists(rooms, max_size=3),
    rooms,
    st.sampled_from(MODELS),
    st.sampled_from(["llama-cpp-python", "xllamacpp"]),
    st.integers(-1, 40),
    st.sampled_from([512, 2048, 8192, 32_768, 131_072]),
    st.sampled_from(["f16", "q8_0", "q4_0"]),
)


@settings(max_examples=150, deadline=None)
@given(questions)
def test_parts_add_up_and_what_fits_is_never_more_than_is_free(asked: Question) -> None:
    found = outline(asked)
    assert found.total == sum(d.weights + d.kv_cache + d.compute + d.other for d in found.devices)
    assert found.fits == fits(asked) == all(device.fits for device in found.devices)
    stored, tied = asked.facts.tensor_bytes or 0, asked.facts.weights
    weights = sum(device.weights for device in found.devices)
    assert stored - 64 <= weights <= 2 * stored + (tied.embedding if tied else 0)
    for device, gpu in zip(found.devices[1:], asked.machine.gpus, strict=bool(found.devices[1:])):
        assert device.available == device_room(gpu.free or 0)
        assert not found.fits or device.total <= (gpu.free or 0)
    assert not found.fits or found.devices[0].kept <= (asked.machine.available or 0)
    layers = sum(device.layers or 0 for device in found.devices)
    assert layers == layers_of(asked.facts)


@settings(max_examples=100, deadline=None)
@given(questions, st.integers(1, 32), st.integers(1, 8))
def test_more_context_and_more_layers_never_take_less_of_a_gpu(asked: Question, layers: int, more: int) -> None:
    def on_gpus(**changes: Any) -> int:
        return sum(device.total for device in outline(asked.with_(**changes)).devices[1:])

    context = asked.parameters["context_size"]
    assert outline(asked.with_(context_size=context * 2)).total >= outline(asked).total
    assert on_gpus(gpu_layers=layers, context_size=context * 2) >= on_gpus(gpu_layers=layers)
    if len(asked.machine.gpus) == 1:
        assert on_gpus(gpu_layers=layers + more) >= on_gpus(gpu_layers=layers)


@settings(max_examples=100, deadline=None)
@given(questions)
def test_whatever_is_offered_fits_and_is_the_most_that_does(asked: Question) -> None:
    found = plan(asked)
    for one in found.alternatives:
        if one.parameters:
            again = outline(asked.with_(**one.parameters))
            assert (one.fits, one.total) == (True, again.total)
            assert again.fits
    if found.largest_context is not None:
        assert fits(asked.with_(context_size=found.largest_context))
        assert found.largest_context + 256 > 131_072 or not fits(asked.with_(context_size=found.largest_context + 256))
    if asked.machine.gpus:
        most = most_layers(asked)
        assert not most or fits(asked.with_(gpu_layers=most), gpus_alone=True)
        assert most == 33 or not fits(asked.with_(gpu_layers=most + 1), gpus_alone=True)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(1.0, 16.0), min_size=2, max_size=4), st.sampled_from([4096, 32_768]))
def test_a_split_puts_all_layers_where_there_is_room(free: list[float], context: int) -> None:
    asked = question(machine(*free), context_size=context)
    split = best_split(asked)
    if split is not None:
        assert sum(split) == 33
        assert outline(asked.with_(tensor_split=",".join(map(str, split)))).fits


def test_a_split_is_found_where_the_usual_one_does_not_fit() -> None:
    """By what is free, the small card would get a share that leaves no room for its buffers."""
    asked = question(machine(7.0, 1.2), context_size=8192, micro_batch_size=2048, batch_size=2048)
    found = plan(asked)
    assert not found.fits
    split = best_split(asked)
    assert split is not None
    assert split[0] > split[1]
    assert found.alternatives[0].change.startswith("layers split")


@pytest.mark.parametrize(
    ("free", "asked", "layers"),
    [
        ((24,), {}, [0, 33]),
        ((24,), {"gpu_layers": 0}, [33]),
        ((24,), {"gpu_layers": 1}, [32, 1]),
        ((24,), {"gpu_layers": 20}, [13, 20]),
        ((24, 24), {}, [0, 17, 16]),
        ((24, 8), {}, [0, 25, 8]),
        ((24, 8), {"tensor_split": "1,1"}, [0, 17, 16]),
        ((24, 8), {"split_mode": "none", "main_gpu": 1}, [0, 0, 33]),
        ((24, 8), {"tensor_split": "0,1"}, [0, 0, 33]),
    ],
)
def test_where_the_layers_go(free: tuple[float, ...], asked: dict[str, Any], layers: list[int]) -> None:
    assert [device.layers for device in outline(question(machine(*free), **asked)).devices] == layers


def test_the_output_goes_to_the_gpu_first_and_the_last_layers_after_it() -> None:
    asked = question(machine(24), gpu_layers=3)
    placed = place(LLAMA, asked.spec, asked.parameters, [24 * GIB], [])
    assert placed.layers == (HOST,) * 30 + (0, 0)
    assert placed.output == 0
    host, gpu = outline(asked).devices
    assert gpu.weights == 2 * LAYER + 220 * MIB
    assert host.weights == 30 * LAYER + 280 * MIB


def test_an_embedding_that_also_makes_the_output_is_copied_to_the_gpu() -> None:
    host, gpu = outline(question(machine(24), TIED)).devices
    assert (host.weights, gpu.weights) == (500 * MIB, 32 * LAYER + 500 * MIB)


def test_experts_can_stay_in_the_machines_memory() -> None:
    host, gpu = outline(question(machine(24), TIED, "xllamacpp", expert_layers_on_cpu=10)).devices
    assert host.weights == 500 * MIB + 10 * EXPERTS
    assert gpu.weights == 32 * LAYER - 10 * EXPERTS + 500 * MIB
    assert gpu.layers == 33


def test_what_does_not_fit_is_said_in_one_sentence_with_numbers() -> None:
    found = plan(question(machine(6.0), context_size=32_768))
    assert not found.fits
    assert found.constraint == "GPU 0: 7.8 GiB are needed, and 5.4 GiB are free."
    changes = [one.change for one in found.alternatives]
    assert changes == ["22 of 33 layers on the GPU", "context 13,568", "context 25,344 with an 8-bit cache"]
    small = plan(question(machine(memory=3.0), context_size=32_768))
    assert small.constraint.startswith("Memory: 7.6 GiB are needed")
    assert "no weight repacking" in " ".join(one.change for one in small.alternatives)


def test_what_only_lacks_its_margin_is_said_to_lack_it() -> None:
    plain = question(machine(), use_mmap=False, cpu_repacking="off")
    kept = outline(plain).devices[0].kept
    found = outline(replace(plain, machine=Machine(kept + 10 * MIB, 64 * GIB)))
    assert not found.fits
    assert "are needed beside a margin of" in found.constraint


def test_fewer_layers_than_fit_are_offered_more() -> None:
    found = plan(question(machine(24.0), gpu_layers=10))
    assert found.fits
    assert [(one.change, one.parameters) for one in found.alternatives] == [
        ("all 33 layers on the GPU", {"gpu_layers": -1})
    ]


def test_unknown_memory_refuses_nothing_and_is_said() -> None:
    found = plan(question(Machine(None, None)))
    assert found.fits
    assert found.largest_context is None
    assert found.constraint == "How much memory is free is not known."
    assert largest_context(question(Machine(None, None))) is None


def test_a_gpu_that_shares_the_machines_memory_leaves_less_of_it() -> None:
    shared = Machine(16 * GIB, 32 * GIB, (GpuRoom(0, "Apple M2", 12 * GIB, 16 * GIB, shared=True),))
    host, gpu = outline(question(shared)).devices
    assert host.available == 16 * GIB - gpu.total
    tight = replace(shared, available=3 * GIB)
    assert not outline(question(tight)).fits


def test_the_engines_own_figures_take_the_place_of_the_computed() -> None:
    engine = EnginePlan(GIB, {"CUDA0": 300 * MIB, "CUDA_Host": 20 * MIB})
    found = outline(question(machine(24)), engine)
    host, gpu = found.devices
    assert found.exact
    assert (host.compute, gpu.compute) == (20 * MIB, 300 * MIB)
    assert host.kv_cache + gpu.kv_cache == GIB


def test_what_is_loaded_beside_the_model_counts() -> None:
    plain = question(machine(24), loader="xllamacpp")
    beside = replace(plain, extras=Extras(600 * MIB))
    assert outline(beside).devices[1].other - outline(plain).devices[1].other == 600 * MIB
    on_cpu = replace(beside.with_(projector_on_gpu=False), extras=Extras(600 * MIB))
    assert outline(on_cpu).devices[0].other - outline(plain).devices[0].other == 600 * MIB
    with_draft = replace(plain, extras=Extras(draft=LLAMA))
    assert outline(with_draft).total > 1.9 * outline(plain).total


def test_a_correction_from_earlier_loads_is_part_of_the_plan() -> None:
    plain = question(machine(24))
    more = outline(replace(plain, corrected=50 * MIB))
    assert more.corrected
    assert more.total - outline(plain).total == 50 * MIB
    device = more.device(CPU)
    assert device is not None
    assert device.other - outline(plain).devices[0].other == 50 * MIB


def test_a_context_beyond_the_trained_one_is_allowed_and_warned_of() -> None:
    found = plan(question(machine(memory=60.0), context_size=200_000, gpu_layers=0))
    assert any("trained for 131,072 tokens" in sentence for sentence in found.warnings)


def test_the_json_holds_what_programs_read() -> None:
    told = plan(question(machine(6.0), context_size=32_768)).to_dict()
    assert {"model", "loader", "exact", "fits", "constraint", "devices", "total", "alternatives", "measured"} <= set(
        told
    )
    keys = {"device", "weights", "kv_cache", "compute", "other", "total", "available"}
    assert all(keys <= set(device) for device in told["devices"])
    assert all({"change", "total", "fits"} <= set(one) for one in told["alternatives"])
