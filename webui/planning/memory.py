"""How much memory a load will take, estimated from the file alone."""

from __future__ import annotations

from webui.models.facts import ModelFacts

HEADROOM_BYTES = 512 * 1024 * 1024
"""For the engine itself, its compute buffers and a modest KV cache."""
CACHE_SHARE = 0.25
CONVERTED_BYTES_PER_PARAMETER = 4
"""A loader that rewrites the weights may hold them as 32-bit floats."""


def rough_need(facts: ModelFacts, *, converts: bool) -> int:
    """Bytes that loading `facts` may take at most: weights, a quarter for the cache, and headroom."""
    weights = facts.tensor_bytes or facts.file_bytes
    if converts and facts.parameter_count:
        weights = max(weights, facts.parameter_count * CONVERTED_BYTES_PER_PARAMETER)
    return int(weights * (1 + CACHE_SHARE)) + HEADROOM_BYTES


def fits_beside(need: int, available: int | None) -> bool:
    """Whether `need` bytes fit next to what is loaded now. Unknown memory does not count as plenty."""
    return available is not None and need < available
