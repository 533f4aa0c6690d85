"""The recommendation for every recorded machine as it was reviewed, and the rules behind it by table."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.hardware import machines
from tests.hardware.machines.table import RECOMMENDED, recommended_table
from tests.planning.engines import as_set_up, well_equipped
from webui.hardware.facts import GIB, GpuFacts
from webui.loaders.devices import Ability, EngineDevice
from webui.planning.recommendation import Recommendation, recommend
from webui.planning.sizes import fits, starting_layers
from webui.planning.support import support


def test_the_table_is_as_reviewed(tmp_path: Path) -> None:
    """Written anew by `python -m tests.hardware.machines.table`; then it has to be read again."""
    assert recommended_table(tmp_path) == RECOMMENDED.read_text("utf-8")


def advice(name: str, tmp_path: Path, *, equipped: bool = False) -> Recommendation:
    facts = machines.facts(name, tmp_path)
    return recommend(facts, well_equipped(facts) if equipped else as_set_up(facts))


@pytest.mark.parametrize(
    ("name", "kind", "gpu"),
    [
        ("nvidia-single", "cuda", "RTX 4070"),
        ("nvidia-two-unequal", "cuda", "RTX 3090"),
        ("nvidia-mig", "cuda", "3g.20gb"),
        ("laptop-nvidia-intel", "cuda", "RTX 3060 Laptop"),
        ("amd-discrete", "rocm", "7900 XTX"),
        ("amd-apu", "vulkan", "Phoenix1"),
        ("amd-strix-halo", "rocm", "Strix Halo"),
        ("intel-arc", "vulkan", "Arc A770"),
        ("apple-m1-8gb", "metal", "M1"),
        ("apple-m2-max", "metal", "M2 Max"),
        ("none", "cpu", ""),
        ("container-2-of-64", "cpu", ""),
        ("wsl-nvidia", "cuda", "RTX 3080"),
        ("two-vendors", "cuda", "RTX 3060"),
        ("nvidia-old-driver", "vulkan", "GTX 1080"),
        ("nvidia-too-old", "cpu", ""),
        ("nvidia-without-driver", "cpu", ""),
        ("windows-radeon", "vulkan", "RX 6800 XT"),
        ("raspberry-pi-5", "cpu", ""),
    ],
)
def test_the_device_and_what_helps(name: str, kind: str, gpu: str, tmp_path: Path) -> None:
    """On any machine with a GPU that helps, either an engine uses it or there is an offer that makes one use it."""
    found = advice(name, tmp_path)
    assert found.kind == kind
    assert gpu in " ".join(one.name for one in found.gpus)
    assert bool(found.offers) == (kind not in ("cpu", "metal") or name == "none")
    assert found.used == (kind in ("cpu", "metal"))
    equipped = advice(name, tmp_path / "again", equipped=True)
    assert (equipped.used, equipped.offers) == (True, ())
    expected = "xllamacpp" if kind in ("cpu", "metal") and name != "none" else "llama-cpp-python"
    assert (equipped.order[0].loader, equipped.order[0].kind) == (expected, kind)


@pytest.mark.parametrize("name", machines.NAMES)
def test_every_sentence_is_one(name: str, tmp_path: Path) -> None:
    for heading, sentence in advice(name, tmp_path).lines():
        assert sentence[0].isupper() or heading in ("Loader", "Install"), sentence
        assert sentence.rstrip().endswith(".") or heading == "Install", sentence
        assert "None" not in sentence and "  " not in sentence


def test_an_engine_that_could_not_be_asked_is_not_said_to_see_nothing(tmp_path: Path) -> None:
    facts = machines.facts("nvidia-single", tmp_path)
    found = recommend(facts, [Ability("xllamacpp", reason="it did not answer within 90 s", told=False)])
    assert "is not known (it did not answer within 90 s)" in found.order[0].reason


def test_an_old_engine_on_the_gpu_does_not_silence_the_offers(tmp_path: Path) -> None:
    facts = machines.facts("nvidia-single", tmp_path)
    cuda = (EngineDevice("cuda", "CUDA0", "NVIDIA GeForce RTX 4070"),)
    engines = [replace(one, devices=cuda) if one.loader == "ctransformers" else one for one in as_set_up(facts)]
    found = recommend(facts, engines)
    assert (found.used, found.order[0].loader) == (True, "ctransformers")
    assert {offer.loader for offer in found.offers} == {"llamafile", "llama-cpp-python"}


def test_a_processor_without_avx2_is_no_place_for_ready_made_engines(tmp_path: Path) -> None:
    found = advice("none", tmp_path)
    assert [place.loader for place in found.order] == ["ctransformers", "xllamacpp"]
    assert "AVX2" in found.order[-1].reason
    assert [offer.loader for offer in found.offers] == ["llama-cpp-python"]


def test_what_the_app_itself_holds_counts_as_free(tmp_path: Path) -> None:
    facts = machines.facts("nvidia-two-unequal", tmp_path)
    facts = replace(facts, gpus=facts.gpus[1:])
    engines = well_equipped(facts)
    theirs, ours = recommend(facts, engines), recommend(facts, engines, own={4711})
    assert any("4711" in hint for hint in theirs.hints)
    assert not any("4711" in hint for hint in ours.hints)
    assert ours.sizes != theirs.sizes


@pytest.mark.parametrize(
    ("capability", "runtime", "vulkan", "kinds", "said"),
    [
        ("8.9", "CUDA 12.4", True, ("cuda", "vulkan"), ""),
        ("12.0", "CUDA 13.0", False, ("cuda",), ""),
        ("6.1", "CUDA 12.2", False, ("cuda",), ""),
        ("6.1", "CUDA 11.4", False, (), "update it to 525 or newer."),
        ("6.1", "CUDA 11.4", True, ("vulkan",), "until then a Vulkan build"),
        ("3.5", "CUDA 11.4", True, ("vulkan",), "no newer driver changes that"),
        (None, None, False, ("cuda",), ""),
    ],
)
def test_nvidia_cards_by_generation_and_driver(
    capability: str | None, runtime: str | None, vulkan: bool, kinds: tuple[str, ...], said: str
) -> None:
    gpu = GpuFacts("nvidia", 0, "Card", 8 * GIB, 8 * GIB, "1", capability, runtime=runtime, vulkan=vulkan)
    found = support(gpu)
    assert found.kinds == kinds
    assert said in " ".join(found.warnings) and bool(found.warnings) == bool(said)


@pytest.mark.parametrize(
    ("architecture", "runtime", "vulkan", "kinds", "warned"),
    [
        ("gfx1100", "ROCm 6.2", True, ("rocm", "vulkan"), False),
        ("gfx1100", None, True, ("vulkan",), False),
        ("gfx1031", "ROCm 6.2", True, ("vulkan",), True),
        ("gfx803", None, False, (), True),
        ("gfx90c", None, True, (), False),
        (None, None, None, ("vulkan",), False),
    ],
)
def test_amd_cards_by_architecture(
    architecture: str, runtime: str | None, vulkan: bool | None, kinds: tuple[str, ...], warned: bool
) -> None:
    gpu = GpuFacts("amd", 0, "Card", 8 * GIB, 8 * GIB, "amdgpu", architecture, runtime=runtime, vulkan=vulkan)
    found = support(gpu)
    assert (found.kinds, bool(found.warnings)) == (kinds, warned)


@pytest.mark.parametrize(
    ("file", "layers", "total", "free", "expected"),
    [
        (2 * GIB, 25, 8 * GIB, 7 * GIB, 25),  # small: all
        (3 * GIB, 33, 2 * GIB, None, 22),  # small, and larger than the card
        (6 * GIB, 33, 24 * GIB, 23 * GIB, 33),
        (6 * GIB, 33, 6 * GIB, None, 24),  # within 75 %
        (8 * GIB, 33, 8 * GIB, 8 * GIB, 24),
        (20 * GIB, 65, 24 * GIB, 24 * GIB, 39),  # within 50 %
        (20 * GIB, 65, 24 * GIB, 5 * GIB, 13),  # and what is free
        (20 * GIB, 65, 0, 0, 0),
        (0, 10, GIB, GIB, 0),
    ],
)
def test_the_layers_to_begin_with(file: int, layers: int, total: int, free: int | None, expected: int) -> None:
    assert starting_layers(file, layers, total, free) == expected


@given(
    file=st.integers(1, 100 * GIB), layers=st.integers(1, 120), total=st.integers(0, 100 * GIB), used=st.floats(0, 1)
)
def test_the_layers_never_exceed_the_policy_or_what_is_free(file: int, layers: int, total: int, used: float) -> None:
    free = int(total * (1 - used))
    chosen = starting_layers(file, layers, total, free)
    assert 0 <= chosen <= layers
    assert chosen * file / layers <= free + 1
    assert chosen <= starting_layers(file, layers, total)


@given(gpu=st.integers(0, 200 * GIB), host=st.integers(0, 500 * GIB), shared=st.booleans())
def test_more_memory_never_fits_less(gpu: int, host: int, shared: bool) -> None:
    less, more = fits(gpu, host, shared=shared), fits(gpu + GIB, host + GIB, shared=shared)
    for before, after in zip(less, more, strict=True):
        assert before.quantization is None or after.quantization is not None
        assert before.where != "gpu" or after.where == "gpu"
        assert before.needed <= gpu + host or before.quantization is None
