"""Where a model's weights belong: to which layer, and which of them are experts. Read from the names of its tensors."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

MOST_LAYERS = 1000
"""A layer's number beyond this is no layer's: it is a damaged name."""

_LAYER = re.compile(r"(?:^|\.)(?:blk|layers|h|blocks|block)\.(\d{1,9})\.")
_EXPERTS = re.compile(r"_(?:ch)?exps(?:\.|$)|\.experts\.")
_OUTPUT = re.compile(r"^(?:output|lm_head|embed_out)(?:\.|$)")
_NORM = re.compile(r"^(?:output_norm|model\.norm|transformer\.ln_f|.*final_layer_norm)(?:\.|$)")
_EMBEDDING = re.compile(r"^(?:token_embd|.*embed_tokens|.*\.wte)\.weight$")


@dataclass(frozen=True, slots=True)
class WeightBytes:
    """Stored bytes. `layers` has one entry for each layer, `experts` how much of that is experts, of which a token uses
    a few. `embedding` is the table that tokens are looked up in, of type `embedding_type`; `output` the matrix that
    makes logits and the norm before it; with `tied`, the embedding serves as that matrix too. `other` is everything
    else.
    """

    layers: tuple[int, ...]
    experts: tuple[int, ...]
    embedding: int
    output: int
    other: int
    tied: bool
    embedding_type: str = ""

    @property
    def total(self) -> int:
        return sum(self.layers) + self.embedding + self.output + self.other


def gather(tensors: Iterable[tuple[str, int, str]]) -> WeightBytes:
    """Sum up `tensors`, given as (name, bytes, type)."""
    layers: Counter[int] = Counter()
    experts: Counter[int] = Counter()
    embedding = head = norm = other = 0
    embedding_type = ""
    for name, size, kind in tensors:
        found = _LAYER.search(name)
        if found is not None and int(found[1]) < MOST_LAYERS:
            layers[int(found[1])] += size
            if _EXPERTS.search(name):
                experts[int(found[1])] += size
        elif _EMBEDDING.match(name):
            embedding += size
            embedding_type = kind
        elif _OUTPUT.match(name):
            head += size
        elif _NORM.match(name):
            norm += size
        else:
            other += size
    count = max(layers, default=-1) + 1
    return WeightBytes(
        tuple(layers[index] for index in range(count)),
        tuple(experts[index] for index in range(count)),
        embedding,
        head + norm,
        other,
        not head and embedding > 0,
        embedding_type,
    )
