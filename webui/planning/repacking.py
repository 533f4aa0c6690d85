"""Which weights llama.cpp's engines copy into another order for the processor's fast instructions.

The copy is memory of the engine's own, beside the pages of the file it was made from. Token embeddings are not copied.
Observed for each type in the engines' own log ("CPU_REPACK model buffer size").
"""

from __future__ import annotations

from collections.abc import Collection

from webui.models.facts import ModelFacts

_AVX2 = frozenset({"Q4_0", "Q4_K", "IQ4_NL", "MXFP4"})
_AVX512 = frozenset({"Q2_K"})
_DOT_PRODUCTS = frozenset({"Q4_0", "Q4_K", "Q8_0", "IQ4_NL"})
USUAL = _AVX2
"""For a processor of which nothing is known."""
COMPILED_HERE = frozenset({"llama-cpp-python"})
"""Loaders whose engine is compiled for the processor it runs on; packages that come ready-made use AVX2 at most."""


def repacked_types(loader: str, instruction_sets: Collection[str]) -> frozenset[str]:
    """The types that `loader` copies on a processor with `instruction_sets` (as in `CpuFacts`)."""
    if "asimddp" in instruction_sets or "i8mm" in instruction_sets:
        return _DOT_PRODUCTS
    if "avx2" not in instruction_sets:
        return frozenset()
    return _AVX2 | _AVX512 if "avx512f" in instruction_sets and loader in COMPILED_HERE else _AVX2


def repacked_bytes(facts: ModelFacts, types: Collection[str]) -> int:
    """Bytes of the copy where all layers are on the processor."""
    stored = sum(size for name, size in facts.tensor_types.items() if name in types)
    weights = facts.weights
    if weights is None or weights.embedding_type not in types or weights.tied:
        return stored  # a tied embedding is copied once, as the matrix that makes logits
    return stored - weights.embedding
