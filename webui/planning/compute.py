"""What an engine computes in: the buffer of one pass of a micro-batch, as llama.cpp's graph allocator lays it out.

Tensors of one layer share their room with those of the next, so the buffer is as large as the widest moment: attention
with its masks, the feed-forward part, or the logits at the end. The moments below were read off the engine's dry run
with one width changed at a time.
"""

from __future__ import annotations

from dataclasses import dataclass

from webui.models.facts import ModelFacts
from webui.planning.cache import CacheShape, cells_of, largest_state

FLOAT = 4
HALF = 2


RWKV_WIDTHS = 19
"""Vectors of the model's width that an RWKV layer computes in at once, as its dry run tells."""


@dataclass(frozen=True, slots=True)
class ComputeShape:
    """How a pass is asked for. `whole_scores`: attention without flash attention, which keeps the scores of all heads.

    `logits_rows` is for how many tokens of a micro-batch logits are computed.
    """

    cache: CacheShape
    whole_scores: bool = False
    logits_rows: int | None = None


def compute_bytes(facts: ModelFacts, shape: ComputeShape) -> int:
    """Bytes of the buffer; 0 widths where the file does not tell."""
    tokens = min(shape.cache.micro_batch, shape.cache.context)
    row = FLOAT * tokens
    width = row * (facts.embedding_length or 0)
    rows = tokens if shape.logits_rows is None else min(tokens, shape.logits_rows)
    logits = FLOAT * rows * (facts.vocabulary_size or 0) + 2 * width
    stages = (_attention(facts, shape, tokens), _feed_forward(facts, shape, tokens), _recurrence(facts, shape, tokens))
    return max(*stages, logits)


def input_bytes(facts: ModelFacts, shape: ComputeShape) -> int:
    """What stays on the processor where all layers are on GPUs: the masks, and the looked-up tokens twice."""
    tokens = min(shape.cache.micro_batch, shape.cache.context)
    return _masks(facts, shape, tokens) + 2 * FLOAT * tokens * (facts.embedding_length or 0)


def output_bytes(facts: ModelFacts, shape: ComputeShape) -> int:
    """What a device computes in that only makes the output."""
    tokens = min(shape.cache.micro_batch, shape.cache.context)
    rows = tokens if shape.logits_rows is None else min(tokens, shape.logits_rows)
    return FLOAT * rows * ((facts.vocabulary_size or 0) + 2 * (facts.embedding_length or 0))


def _masks(facts: ModelFacts, shape: ComputeShape, tokens: int) -> int:
    size = FLOAT if shape.whole_scores else HALF
    return sum(cells_of(facts, shape.cache)) * tokens * size


def _attention(facts: ModelFacts, shape: ComputeShape, tokens: int) -> int:
    """Queries, keys and values of one layer beside its input; with whole scores, those of every head too."""
    row = FLOAT * tokens
    width = row * (facts.embedding_length or 0)
    heads = facts.head_count or 0
    head = facts.key_length or ((facts.embedding_length or 0) // heads if heads else 0)
    queries = row * heads * head
    keys = row * (facts.head_count_kv if facts.head_count_kv is not None else heads) * head
    masks = _masks(facts, shape, tokens)
    if shape.whole_scores:
        return masks + row * heads * max(cells_of(facts, shape.cache), default=0) + 3 * width + 2 * queries + keys
    return masks + max(width + 2 * queries + 2 * keys, 4 * width + queries)


def _feed_forward(facts: ModelFacts, shape: ComputeShape, tokens: int) -> int:
    """Gate, up and their product, in all experts that a token uses; then what the experts say, before it is summed."""
    row = FLOAT * tokens
    width = row * (facts.embedding_length or 0)
    used = _number(facts, "expert_used_count") or 1
    inner = _number(facts, "feed_forward_length")
    if facts.expert_count:
        inner = (_number(facts, "expert_feed_forward_length") or inner) * used
    masks = _masks(facts, shape, tokens)
    gated = masks + 3 * row * inner + 4 * width
    return max(gated, masks + 2 * used * width + 2 * width) if facts.expert_count else gated


def _recurrence(facts: ModelFacts, shape: ComputeShape, tokens: int) -> int:
    """What a recurrent layer computes in: its projections and their convolutions, beside its input, and new states."""
    states = shape.cache.jobs * largest_state(facts)
    row, width = FLOAT * tokens, facts.embedding_length or 0
    if _number(facts, "wkv.head_size"):
        return row * RWKV_WIDTHS * width + states
    inner = _number(facts, "ssm.inner_size")
    mixed = inner + 2 * _number(facts, "ssm.group_count") * _number(facts, "ssm.state_size")
    return row * (3 * width + 2 * inner + 3 * mixed) + states if inner else 0


def _number(facts: ModelFacts, key: str) -> int:
    value = facts.metadata.get(f"{facts.architecture}.{key}")
    if isinstance(value, list):
        value = max((one for one in value if isinstance(one, int)), default=0)
    return value if isinstance(value, int) and value > 0 else 0
