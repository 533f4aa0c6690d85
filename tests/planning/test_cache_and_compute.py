"""What layers keep and engines compute in, against llama.cpp's own dry run of headers of many architectures."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.builders.grown import ARCHITECTURES, MIB, plans
from webui.models.inspect import inspect_model
from webui.planning.cache import CacheShape, layers_cache
from webui.planning.compute import ComputeShape, compute_bytes

Q8_0 = 8  # ggml's number of the type
RUNS: list[tuple[dict[str, Any], ComputeShape]] = [
    ({"n_ctx": 4096, "flash_attn_type": 1}, ComputeShape(CacheShape(4096))),
    (
        {"n_ctx": 8192, "n_seq_max": 4, "kv_unified": True, "n_ubatch": 256, "flash_attn_type": 1},
        ComputeShape(CacheShape(8192, 4, micro_batch=256)),
    ),
    ({"n_ctx": 8192, "flash_attn_type": 0}, ComputeShape(CacheShape(8192), whole_scores=True)),
    (
        {"n_ctx": 16384, "n_seq_max": 4, "kv_unified": False, "n_ubatch": 128, "flash_attn_type": 1},
        ComputeShape(CacheShape(4096, 4, shared=False, micro_batch=128)),
    ),
    (
        {"n_ctx": 4096, "type_k": Q8_0, "type_v": Q8_0, "flash_attn_type": 1, "swa_full": True},
        ComputeShape(CacheShape(4096, type_k="q8_0", type_v="q8_0", whole_window=True)),
    ),
]
LOOSELY = {"deepseek2": 0.5, "mamba": 0.05, "mamba2": 0.15, "jamba": 0.3, "rwkv7": 0.05}
"""Architectures that compute in tensors of their own, and how well the buffer's formula knows them."""


@pytest.mark.engine
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_the_engine_would_allocate_what_is_computed(tmp_path: Path, architecture: str) -> None:
    path, planned = plans(tmp_path, architecture, [{"swa_full": False, **run} for run, _ in RUNS])
    facts = inspect_model(path)
    for (run, shape), found in zip(RUNS, planned, strict=True):
        layers = layers_cache(facts, shape.cache)
        assert layers is not None
        assert sum(layers) == pytest.approx(found.cache, abs=0.02 * MIB), run
        width = 4 * 512 * shape.cache.micro_batch
        within = LOOSELY.get(architecture, 0.05)
        assert compute_bytes(facts, shape) == pytest.approx(found.compute, rel=within, abs=2.5 * width), run


@pytest.mark.engine
def test_wide_models_of_a_large_vocabulary(tmp_path: Path) -> None:
    wide = {"embedding_length": 2048, "attention.head_count": 32, "feed_forward_length": 5632}
    path, planned = plans(tmp_path, "llama", [run for run, _ in RUNS[:3]], **wide)
    facts = inspect_model(path)
    for (run, shape), found in zip(RUNS[:3], planned, strict=True):
        assert compute_bytes(facts, shape) == pytest.approx(found.compute, rel=0.05), run
    large = compute_bytes(replace(facts, vocabulary_size=150_000), RUNS[0][1])
    assert large == pytest.approx(150_000 * 512 * 4, rel=0.05)


def test_logits_of_one_token_take_next_to_nothing() -> None:
    from tests.planning.situations import LLAMA_8B

    every = compute_bytes(LLAMA_8B, ComputeShape(CacheShape(4096)))
    one = compute_bytes(LLAMA_8B, ComputeShape(CacheShape(4096), logits_rows=1))
    assert every > 128_256 * 512 * 4 > 2 * one
