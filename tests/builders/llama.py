"""Random weights of a tiny llama: small enough for a test, real enough for every engine to generate from."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tests.builders.vocabulary import Vocabulary

Weights = dict[str, NDArray[np.float32]]


@dataclass(frozen=True)
class Shape:
    """Every width is a multiple of 32, so that the block quantisations fit."""

    blocks: int = 2
    width: int = 64
    heads: int = 4
    heads_kv: int = 2
    feed_forward: int = 128
    context: int = 2048
    epsilon: float = 1e-5
    rope_base: float = 10000.0

    @property
    def width_kv(self) -> int:
        return self.width // self.heads * self.heads_kv


def random_weights(vocabulary: Vocabulary, shape: Shape, seed: int = 7) -> Weights:
    """Tensors by their GGUF names, as (rows, columns).

    The output rows of special and byte tokens are zero: greedy decoding then always says plain text and never stops by
    itself, which is what tests of length, stop strings and cancelling need.
    """
    random = np.random.default_rng(seed)

    def matrix(rows: int, columns: int, spread: float = 1.0) -> NDArray[np.float32]:
        return (random.standard_normal((rows, columns)) * spread / np.sqrt(columns)).astype(np.float32)

    count = len(vocabulary.tokens)
    output = np.zeros((count, shape.width), dtype=np.float32)
    spoken = vocabulary.spoken()
    output[spoken] = matrix(len(spoken), shape.width, spread=4.0)
    weights: Weights = {
        "token_embd.weight": matrix(count, shape.width, spread=8.0),
        "output_norm.weight": np.ones(shape.width, dtype=np.float32),
        "output.weight": output,
    }
    for block in range(shape.blocks):
        layer = {
            "attn_norm.weight": np.ones(shape.width, dtype=np.float32),
            "attn_q.weight": matrix(shape.width, shape.width),
            "attn_k.weight": matrix(shape.width_kv, shape.width),
            "attn_v.weight": matrix(shape.width_kv, shape.width),
            "attn_output.weight": matrix(shape.width, shape.width),
            "ffn_norm.weight": np.ones(shape.width, dtype=np.float32),
            "ffn_gate.weight": matrix(shape.feed_forward, shape.width),
            "ffn_up.weight": matrix(shape.feed_forward, shape.width),
            "ffn_down.weight": matrix(shape.width, shape.feed_forward),
        }
        weights |= {f"blk.{block}.{name}": tensor for name, tensor in layer.items()}
    return weights
