"""Contradictions between what a GGUF's metadata says of the model and what its tensors are.

Each is found in the header alone, before an engine stumbles over it, asks for terabytes or dies. Only what cannot be
so in a sound file is named: rules that hold for some architectures are kept to those, and a value of an unexpected
type, which an engine may read in its own way, proves nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from webui.errors import CorruptFile
from webui.models.gguf import FLOAT32, INT32, STRING, UINT32, GgufHeader, TensorInfo

TOKENS = "tokenizer.ggml.tokens"
BESIDE_TOKENS = {"tokenizer.ggml.scores": (FLOAT32,), "tokenizer.ggml.token_type": (INT32, UINT32)}
"""Arrays with an entry for each token, and the types that engines read them as, whatever the file says."""

SPARE_BLOCKS = 8
"""Blocks that may be counted and not be there: those for predicting several tokens are sometimes left out."""

LARGEST_SIZE = 1 << 24
SIZES = (
    "block_count",
    "embedding_length",
    "feed_forward_length",
    "expert_count",
    "attention.head_count",
    "attention.head_count_kv",
    "attention.key_length",
    "attention.value_length",
)
"""Counts and widths that memory is planned by."""

PLAIN = frozenset(
    {"llama", "qwen2", "qwen3", "gemma", "gemma2", "gemma3", "granite", "olmo2", "starcoder2", "stablelm"}
)
"""Architectures whose blocks are all alike, with the usual names and shapes."""


def check_model(label: str, architecture: str | None, headers: Sequence[GgufHeader]) -> None:
    """Raise `CorruptFile` with the first contradiction among the headers of one model, the first part's in front."""
    first = headers[0]
    tensors = [tensor for header in headers for tensor in header.tensors]
    for cause in _contradictions(first, architecture or "", tensors):
        raise CorruptFile(f"{label} is damaged: its header contradicts itself.", cause=cause)


def _contradictions(first: GgufHeader, architecture: str, tensors: Sequence[TensorInfo]) -> Iterator[str]:
    own = {key.removeprefix(f"{architecture}."): value for key, value in first.metadata.items()}
    yield from _vocabulary(first)
    yield from _sizes(own)
    yield from _experts(own)
    yield from _blocks(own, tensors)
    if architecture in PLAIN:
        yield from _shapes(own, first.lengths.get(TOKENS), tensors)


def _vocabulary(first: GgufHeader) -> Iterator[str]:
    if first.types.get(TOKENS, STRING) != STRING or (TOKENS in first.types and TOKENS not in first.lengths):
        yield "its vocabulary is no list of texts"
        return
    count = first.lengths.get(TOKENS, 0)
    for key, kinds in BESIDE_TOKENS.items():
        name = key.rpartition(".")[2]
        if key not in first.types or not count:
            continue
        if key not in first.lengths or first.types[key] not in kinds:
            yield f"{name} is no list of numbers of the right type"
        elif first.lengths[key] < count:
            yield f"{name} has {first.lengths[key]:,} entries for {count:,} tokens"


def _sizes(own: Mapping[str, Any]) -> Iterator[str]:
    for key in SIZES:
        value = own.get(key)
        sizes = [size for one in (value if isinstance(value, list) else [value]) if (size := _whole(one)) is not None]
        if max(sizes, default=0) > LARGEST_SIZE:
            yield f"its {key} is {max(sizes):,}, which no model has"


def _experts(own: Mapping[str, Any]) -> Iterator[str]:
    count, used = _whole(own.get("expert_count")), _whole(own.get("expert_used_count"))
    if used is not None and used > (count or 0):
        yield f"{used:,} of {count or 0:,} experts are said to be used for each token"


def _blocks(own: Mapping[str, Any], tensors: Iterable[TensorInfo]) -> Iterator[str]:
    said = _whole(own.get("block_count"))
    there = {block for tensor in tensors if (block := _block(tensor.name)) is not None}
    if said is not None and there and said > max(there) + 1 + SPARE_BLOCKS:
        yield f"{said:,} blocks are said to be in it, and there are {max(there) + 1:,}"


def _shapes(own: Mapping[str, Any], tokens: int | None, tensors: Iterable[TensorInfo]) -> Iterator[str]:
    """Matrices whose sizes the metadata says."""
    width, heads = _whole(own.get("embedding_length")), _whole(own.get("attention.head_count"))
    if width is None or heads is None or _whole(own.get("block_count")) is None:
        return
    if not heads:
        yield "its attention is said to have no heads"
        return
    heads_kv = _whole(own.get("attention.head_count_kv", heads))
    head_width = _whole(own.get("attention.key_length", width // heads))
    turned = _whole(own.get("rope.dimension_count"))
    if turned is not None and head_width is not None and turned > head_width:
        yield f"{turned:,} of the {head_width:,} numbers of an attention head are said to be turned by position"
    rows = {
        "attn_q.weight": None if head_width is None else heads * head_width,
        "attn_k.weight": None if head_width is None or heads_kv is None else heads_kv * head_width,
        "ffn_up.weight": _whole(own.get("feed_forward_length")),
    }
    for tensor in tensors:
        kind = tensor.name.partition(".")[2].partition(".")[2] if tensor.name.startswith("blk.") else ""
        expected = tokens if tensor.name == "token_embd.weight" else rows.get(kind)
        if expected is not None and tensor.shape != (width, expected):
            got = " × ".join(f"{size:,}" for size in tensor.shape)
            yield f"{tensor.name} is {got} and not {width:,} × {expected:,}, as the metadata says"


def _block(name: str) -> int | None:
    """The number of the block that a tensor belongs to."""
    start, _, rest = name.partition(".")
    number = rest.partition(".")[0]
    return int(number) if start == "blk" and number.isascii() and number.isdigit() and len(number) < 10 else None


def _whole(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None
