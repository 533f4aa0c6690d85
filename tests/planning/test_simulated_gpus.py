"""Plans for GPUs against the engine's own dry run onto devices that do not exist."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.builders.grown import plans
from tests.fakes.simulated_gpus import MIB, simulate
from webui.loaders import LOADERS
from webui.models.inspect import inspect_model
from webui.planning.plan import CPU, GpuRoom, Machine
from webui.planning.planner import Question, outline

GIB = 1 << 30
SPLIT_MODES = {"none": 0, "layer": 1}
SHAPE = {"block_count": 12, "embedding_length": 1024, "attention.head_count": 16, "feed_forward_length": 3072}
CASES: list[tuple[tuple[float, ...], dict[str, Any]]] = [
    ((8,), {}),
    ((8,), {"gpu_layers": 1}),
    ((8,), {"gpu_layers": 7}),
    ((8,), {"gpu_layers": 7, "offload_kv_cache": False}),
    ((8, 8), {}),
    ((6, 2), {}),
    ((4, 2, 1), {"gpu_layers": 9}),
    ((8, 8), {"tensor_split": "1,3"}),
    ((8, 8, 8), {"tensor_split": "5,0,2"}),
    ((8, 8), {"split_mode": "none", "main_gpu": 1}),
    ((8,), {"context_size": 16_384, "flash_attention": "off"}),
]


@pytest.mark.engine
@pytest.mark.parametrize(
    ("architecture", "cases"), [("llama", CASES), ("qwen3moe", CASES[5:7]), ("gemma3", CASES[5:7])]
)
def test_layers_and_buffers_lie_where_the_engine_would_put_them(
    tmp_path: Path, architecture: str, cases: list[tuple[tuple[float, ...], dict[str, Any]]]
) -> None:
    path, _ = plans(tmp_path, architecture, [], vocabulary=32_000, **SHAPE)
    facts = inspect_model(path)
    spec = LOADERS["llama-cpp-python"]
    for free, asked in cases:
        values = spec.parameters.parse({"flash_attention": "on", **asked}).model_dump(mode="json")
        rooms = tuple(GpuRoom(index, f"SIM{index}", int(one * GIB), int(one * GIB)) for index, one in enumerate(free))
        found = outline(Question(facts, spec, values, Machine(32 * GIB, 32 * GIB, rooms)))
        engine = simulate(path, [room.free or 0 for room in rooms], **_engines_words(values))
        said = [engine.layers.count(name) for name in ("CPU", *(room.name for room in rooms))]
        assert [device.layers for device in found.devices] == said, (free, asked)
        for device in found.devices:
            buffer = engine.compute.get("CPU" if device.device == CPU else device.name, 0)
            assert device.compute == pytest.approx(buffer, rel=0.2, abs=6 * MIB), (device.name, free, asked)


def _engines_words(values: dict[str, Any]) -> dict[str, dict[str, Any]]:
    model: dict[str, Any] = {
        "n_gpu_layers": values["gpu_layers"] if values["gpu_layers"] >= 0 else 999,
        "split_mode": SPLIT_MODES[values["split_mode"]],
        "main_gpu": values["main_gpu"],
    }
    if values["tensor_split"]:
        model["tensor_split"] = [float(one) for one in values["tensor_split"].split(",")]
    context = {
        "n_ctx": values["context_size"],
        "n_ubatch": values["micro_batch_size"],
        "n_outputs_max": 1,
        "offload_kqv": values["offload_kv_cache"],
        "flash_attn_type": 0 if values["flash_attention"] == "off" else 1,
        "swa_full": values["full_window_cache"],
    }
    return {"model": model, "context": context}
