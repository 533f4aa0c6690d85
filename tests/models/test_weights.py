"""Which layer a tensor belongs to, by its name."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.builders.gguf import tiny_llama_bpe
from webui.models.inspect import inspect_model
from webui.models.weights import MOST_LAYERS, gather


@pytest.mark.parametrize(
    ("names", "embedding", "head"),
    [
        (("token_embd.weight", "blk.0.attn_q.weight", "blk.1.ffn_up.weight"), 1, "output.weight"),
        (("model.embed_tokens.weight", "model.layers.0.q.weight", "model.layers.1.up.weight"), 1, "lm_head.weight"),
        (("transformer.wte.weight", "transformer.h.0.attn.weight", "transformer.h.1.mlp.weight"), 1, "lm_head.weight"),
    ],
)
def test_layers_embedding_and_output_are_told_apart(names: tuple[str, ...], embedding: int, head: str) -> None:
    found = gather([(name, 10**place, "F16") for place, name in enumerate(names)])
    assert (found.layers, found.embedding, found.output, found.tied) == ((10, 100), embedding, 0, True)
    with_head = gather([*((name, 10**place, "F16") for place, name in enumerate(names)), (head, 5000, "F16")])
    assert (with_head.output, with_head.tied, with_head.total) == (5000, False, 5111)


def test_experts_are_counted_in_their_layer_and_by_themselves() -> None:
    tensors = {"blk.0.ffn_gate_exps.weight": 80, "blk.0.ffn_gate_shexp.weight": 7, "blk.1.ffn_up.weight": 5}
    tensors["model.layers.1.mlp.experts.3.down_proj.weight"] = 40
    found = gather((name, size, "F16") for name, size in tensors.items())
    assert (found.layers, found.experts) == ((87, 45), (80, 40))


def test_a_number_that_no_layer_has_takes_no_memory() -> None:
    found = gather([(f"blk.{MOST_LAYERS}.x", 1, "F16"), ("blk.999999999.x", 2, "F16"), ("blk.1.x", 4, "F16")])
    assert (found.layers, found.other) == ((0, 4), 3)


def test_a_file_tells_where_all_its_bytes_belong(tmp_path: Path) -> None:
    facts = inspect_model(tiny_llama_bpe(tmp_path / "tiny.gguf"))
    assert facts.weights is not None
    assert facts.weights.total == facts.tensor_bytes
    assert len(facts.weights.layers) == facts.block_count
    assert facts.weights.embedding > 0
