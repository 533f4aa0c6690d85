"""What each layer keeps of the tokens it has seen: keys and values, windows of them, or a state of fixed size.

Follows llama.cpp, whose dry run is the oracle of the tests: cells are counted in blocks of 256; a layer with a sliding
window keeps the window and a micro-batch; latent attention keeps one compressed vector a token and no values;
recurrent layers keep a state for each job, whatever the context.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

from webui.models.facts import ModelFacts
from webui.models.ggml_types import TENSOR_TYPES

CELLS = 256
"""Cells of a cache are allocated in blocks of this many."""
STATE_BYTES = 4
"""Recurrent states are 32-bit floats."""
MOST_LAYERS = 1000
"""More than any model has: a header that says so does not tell the shape of its layers."""
BYTES_PER_ELEMENT = {kind.name.lower(): kind.bytes / kind.block for kind in TENSOR_TYPES.values()}

_WINDOW_PERIODS = {
    "afmoe": 4,
    "cohere2": 4,
    "exaone4": 4,
    "gemma2": 2,
    "gemma3": 6,
    "gemma3n": 5,
    "gpt-oss": 2,
    "llama4": 4,
    "olmo2": 4,
    "smallthinker": 4,
}
"""Architectures with a sliding window: each so many'th layer sees the whole context, the others the window. What is not
here, and does not say in its header which layers have one, is run without."""
_WINDOWS = {"llama4": 8192, "smallthinker": 4096}
"""Architectures whose window is the engine's constant, whatever the header says."""
_WHOLE_SIZES = {"exaone4": frozenset(range(64))}
"""Counts of layers with which an architecture has no windows: only its largest model was made with them."""
_FIRST_IS_WHOLE = frozenset({"smallthinker"})
"""Those whose first layer of each period, not the last, sees the whole context."""
_ATTENTION_PERIODS = {"qwen3next": 4, "qwen35": 4, "qwen35moe": 4}
"""Hybrids whose header may leave out how often a layer has attention."""
_BOTH = frozenset({"falcon-h1"})
"""Hybrids whose every layer has attention and a state."""


@dataclass(frozen=True, slots=True)
class CacheShape:
    """How the cache is asked for. `context` is what one job may use; with `shared`, all jobs use one cache of it."""

    context: int
    jobs: int = 1
    shared: bool = True
    micro_batch: int = 512
    type_k: str = "f16"
    type_v: str = "f16"
    whole_window: bool = False


@dataclass(frozen=True, slots=True)
class LayerKind:
    """What a layer keeps, whatever context is asked for: of each token `keys` and `values` elements, `window` tokens at
    most where it has a window, and for each job `state` bytes. `width_known` is whether the file tells the elements.
    """

    keys: int = 0
    values: int = 0
    window: int = 0
    state: int = 0
    attends: bool = False
    width_known: bool = True

    def cells(self, shape: CacheShape) -> int:
        """Tokens whose keys and values there is room for, of all jobs together."""
        context = _padded(shape.context)
        caches = 1 if shape.shared else shape.jobs
        if shape.whole_window or not self.window:
            return context * caches
        users = shape.jobs if shape.shared else 1
        return min(context, _padded(self.window * users + shape.micro_batch)) * caches

    def bytes(self, shape: CacheShape) -> int:
        size = self.state * shape.jobs
        if self.attends:
            row = self.keys * BYTES_PER_ELEMENT[shape.type_k] + self.values * BYTES_PER_ELEMENT[shape.type_v]
            size += int(row * self.cells(shape))
        return size


def layers_cache(facts: ModelFacts, shape: CacheShape) -> tuple[int, ...] | None:
    """Bytes that each layer keeps, or `None` where the file does not tell the shape of its layers."""
    kinds, which = layer_kinds(facts)
    if not kinds or not all(kind.width_known for kind in kinds):
        return None
    sizes = [kind.bytes(shape) for kind in kinds]
    return tuple([sizes[place] for place in which])


def cells_of(facts: ModelFacts, shape: CacheShape) -> tuple[int, ...]:
    """Cells of each kind of cache one job attends to: that of the whole context, that of the window, or both."""
    kinds, _ = layer_kinds(facts)
    if not kinds:
        return (_padded(shape.context),)
    one = replace(shape, jobs=shape.jobs if shape.shared else 1)
    windows = {kind.window: kind for kind in kinds if kind.attends}
    return tuple(kind.cells(one) for kind in windows.values())


def largest_state(facts: ModelFacts) -> int:
    """Bytes of the largest state that a layer keeps for one job."""
    kinds, _ = layer_kinds(facts)
    return max((kind.state for kind in kinds), default=0)


@lru_cache(maxsize=8)
def layer_kinds(facts: ModelFacts) -> tuple[tuple[LayerKind, ...], tuple[int, ...]]:
    """The kinds of layers there are, and which of them each layer is; none where the file does not tell how many."""
    if not facts.block_count or facts.block_count > MOST_LAYERS:
        return (), ()
    model = _Layers(facts)
    layers = [model.kind(layer) for layer in range(facts.block_count)]
    kinds = {kind: place for place, kind in enumerate(dict.fromkeys(layers))}
    return tuple(kinds), tuple(kinds[kind] for kind in layers)


class _Layers:
    """The header's values by layer."""

    def __init__(self, facts: ModelFacts) -> None:
        self.facts = facts
        self.name = facts.architecture or ""
        self.window = _WINDOWS.get(self.name) or self._number("attention.sliding_window")
        self.latent = self._number("attention.kv_lora_rank")
        self.recurrent = bool(self._number("ssm.inner_size") or self._number("wkv.head_size"))
        self.convolution = self._number("shortconv.l_cache")
        self.has_both = self.name in _BOTH
        self._windows = facts.metadata.get(f"{self.name}.attention.sliding_window_pattern")

    def _value(self, key: str, layer: int | None = None) -> Any:
        value = self.facts.metadata.get(f"{self.name}.{key}")
        if isinstance(value, list):
            return value[layer] if layer is not None and layer < len(value) else None
        return value

    def _number(self, key: str, layer: int | None = None) -> int:
        value = self._value(key, layer)
        return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else 0

    def heads(self, layer: int) -> int | None:
        """Heads of keys and values; 0 for a layer that the header lists as having none."""
        value = self._value("attention.head_count_kv", layer)
        if isinstance(value, int):
            return max(0, value)
        return self.facts.head_count_kv if self.facts.head_count_kv is not None else self.facts.head_count

    def attends(self, layer: int, heads: int | None) -> bool:
        """Whether the layer keeps keys and values."""
        if self.has_both:
            return True
        period = self._number("full_attention_interval") or _ATTENTION_PERIODS.get(self.name, 0)
        if period and self.recurrent:
            return (layer + 1) % period == 0
        if self.recurrent and not self.facts.metadata.get(f"{self.name}.attention.head_count_kv"):
            return False
        return heads != 0

    def windowed(self, layer: int) -> bool:
        if not self.window or self.facts.block_count in _WHOLE_SIZES.get(self.name, ()):
            return False
        pattern = self._windows
        if isinstance(pattern, list):
            return bool(pattern[layer]) if layer < len(pattern) else False
        period = pattern if isinstance(pattern, int) and pattern > 0 else _WINDOW_PERIODS.get(self.name, 0)
        if not period:
            return False
        return layer % period != 0 if self.name in _FIRST_IS_WHOLE else layer % period < period - 1

    def kind(self, layer: int) -> LayerKind:
        heads = self.heads(layer)
        attends = self.attends(layer, heads)
        state = self.state_bytes() if not attends or self.has_both else 0
        if not attends:
            return LayerKind(state=state)
        windowed = self.windowed(layer)
        widths = self.widths(heads, windowed)
        keys, values = widths or (0, 0)
        return LayerKind(keys, values, self.window if windowed else 0, state, True, widths is not None)

    def widths(self, heads: int | None, windowed: bool) -> tuple[int, int] | None:
        """Elements of one token's keys and values."""
        facts = self.facts
        if heads is None:
            return None
        width = facts.embedding_length // facts.head_count if facts.embedding_length and facts.head_count else None
        small = "_swa" if windowed else ""
        keys = self._number(f"attention.key_length{small}") or facts.key_length or width
        values = self._number(f"attention.value_length{small}") or facts.value_length or width
        if keys is None or values is None:
            return None
        if self.latent and self._number("attention.key_length_mla"):
            return keys, 0
        return heads * keys, heads * values

    def state_bytes(self) -> int:
        """Bytes of the state that a recurrent or convolutional layer keeps for one job."""
        width = self.facts.embedding_length or 0
        if self.convolution:
            return STATE_BYTES * (self.convolution - 1) * width
        if head := self._number("wkv.head_size"):
            shifts = self._number("token_shift_count") or 2
            return STATE_BYTES * (shifts * width + width * head)
        inner, states = self._number("ssm.inner_size"), self._number("ssm.state_size")
        groups, kernel = self._number("ssm.group_count"), self._number("ssm.conv_kernel")
        moving = max(0, kernel - 1) * (inner + 2 * groups * states)
        return STATE_BYTES * (moving + states * inner)


def _padded(cells: int) -> int:
    return -(-cells // CELLS) * CELLS
