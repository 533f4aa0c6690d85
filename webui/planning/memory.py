"""How much memory a load will take, estimated from the file's header and the loader's parameters, device by device.

Weights, the KV cache, what the engine computes in, and the engine itself. Weights that are memory-mapped are page
cache: the system drops them when it needs the room and reads them again, so they can make a model slow and hardly ever
make it fail. What has to stay, `Need.kept`, is what a load is refused for.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from webui.loaders.contract import LoaderSpec
from webui.models.facts import ModelFacts
from webui.planning.cache import BYTES_PER_ELEMENT, CacheShape, layers_cache
from webui.planning.compute import ComputeShape, compute_bytes, input_bytes, output_bytes
from webui.planning.layers import HOST, Placement, blocks_of, layers_of, place
from webui.planning.repacking import USUAL, repacked_bytes

MIB = 1024 * 1024
GIB = 1024 * MIB

CONVERTED_BYTES_PER_PARAMETER = 4
"""A loader that rewrites the weights, and does not say how, may hold them as 32-bit floats."""
CACHE_SHARE = 0.25
"""Cache of a context of `USUAL_CONTEXT` tokens against the weights, for files that do not tell their shape."""
USUAL_CONTEXT = 4096
USUAL_BATCH = 512
SLACK, DEVICE_SLACK = 1.1, 1.25
"""An estimate of the machine's memory, or of a GPU's, may be wrong by this much before anything is refused for it."""
PAGED_TIMES = 4
"""Mapped weights beyond this many times the free memory would be read from disk for nearly every token."""
MARGIN_BYTES, MARGIN_SHARE = 64 * MIB, 0.05
"""What must stay free of the machine's own memory beside a load: plans are off by some percent, and loading takes more
for moments than the loaded model does."""
DEVICE_MARGIN_BYTES = 256 * MIB
DEVICE_MARGIN_SHARE = 0.05
CONTEXT_STEP = 256


@dataclass(frozen=True, slots=True)
class Part:
    """One device's share of a load, in bytes. `mapped` of the weights are pages of the file."""

    weights: int = 0
    cache: int = 0
    compute: int = 0
    other: int = 0
    mapped: int = 0
    layers: int = 0

    @property
    def total(self) -> int:
        return self.weights + self.cache + self.compute + self.other

    @property
    def kept(self) -> int:
        return self.total - self.mapped


@dataclass(frozen=True, slots=True)
class Need:
    """Bytes that a load takes. `compute` includes the engine itself.

    `device` of the total lie in GPU memory; `mapped_bytes` of the machine's own memory are pages of the file that the
    system may drop.
    """

    weights: int
    cache: int
    compute: int
    mapped: bool = False
    device: int = 0
    mapped_bytes: int = 0

    @property
    def total(self) -> int:
        return self.weights + self.cache + self.compute

    @property
    def host(self) -> int:
        """Bytes of the machine's own memory, mapped pages among them."""
        return self.total - self.device

    @property
    def kept(self) -> int:
        """Bytes of the machine's own memory that the system cannot take back."""
        return self.host - self.mapped_bytes

    def less_than(self, other: Need) -> bool:
        """Whether it asks the machine for less: to keep less, or as much of that and less altogether."""
        return (self.kept, self.total) < (other.kept, other.total)

    def fits(self, available: int | None, slack: float = 1.0) -> bool:
        """Whether the machine's memory suffices: comfortably, or at all where the estimate may be wrong by `slack`.

        Unknown memory refuses nothing.
        """
        margin = host_margin(self.kept) if slack <= 1 else 0
        return holds(available, self.kept + margin, self.mapped_bytes, slack)


def estimate(
    facts: ModelFacts, spec: LoaderSpec, parameters: Mapping[str, Any], *, converts: bool = False, gpu: bool = False
) -> Need:
    """What loading `facts` with `parameters` (the loader's full values) takes; `gpu`: there is one that may be used."""
    host, *devices = parts(facts, spec, parameters, (None,) if gpu else (), converts=converts)
    everywhere = [host, *devices]
    return Need(
        sum(part.weights for part in everywhere),
        sum(part.cache for part in everywhere),
        sum(part.compute + part.other for part in everywhere),
        mapped=host.mapped > 0,
        device=sum(part.total for part in devices),
        mapped_bytes=host.mapped,
    )


def parts(
    facts: ModelFacts,
    spec: LoaderSpec,
    parameters: Mapping[str, Any],
    free: Sequence[int | None] = (),
    *,
    converts: bool = False,
    repacked: Collection[str] = USUAL,
) -> list[Part]:
    """The machine's own share, and that of each GPU. `free` has an entry for each GPU that may be used (`None` where it
    is not known); `repacked` are the types that the engine copies for the processor.
    """
    loaded = _loaded_bytes(facts, spec, parameters, converts, bool(free))
    weights = _layers_weights(facts, loaded)
    shape = _as_loaded(cache_shape(facts, spec, parameters), facts, spec, loaded)
    caches = _layers_caches(facts, shape, loaded)
    scores = parameters.get("flash_attention") == "off" or parameters.get("attention") == "eager"
    whole = ComputeShape(shape, scores, None if spec.logits_of_all else shape.jobs)
    graph = compute_bytes(facts, whole)
    placed = place(facts, spec, parameters, free, weights.layers)
    on = [0] * (len(free) + 1)  # the last is the machine itself: HOST is -1
    kept = [0] * (len(free) + 1)
    beside = int(parameters.get("expert_layers_on_cpu") or 0)
    for index, device in enumerate(placed.layers):
        experts = weights.experts[index] if index < beside and device != HOST else 0
        on[device] += weights.layers[index] - experts
        on[HOST] += experts
        kept[device if parameters.get("offload_kv_cache", True) else HOST] += caches[index]
    on[placed.output] += weights.output + (weights.embedding if weights.tied and placed.output != HOST else 0)
    # llama.cpp looks tokens up on the CPU, transformers where the first layer is.
    on[HOST if "gpu_layers" in parameters or not placed.layers else placed.layers[0]] += weights.embedding
    on[HOST] += weights.other
    devices = [
        Part(on[index], kept[index], _device_compute(facts, whole, graph, placed, index), 0, 0, placed.count(index))
        for index in range(len(free))
    ]
    everything = placed.count(HOST) == 0
    touched = input_bytes(facts, whole) if everything else compute_bytes(facts, ComputeShape(shape, scores, 1))
    copy = 0 if any(part.layers for part in devices) else _copied(facts, spec, parameters, on[HOST], repacked)
    mapped = on[HOST] if not converts and stays_mapped(spec, parameters) else 0
    other = spec.engine_bytes + vocabulary_bytes(facts, spec)
    return [Part(on[HOST] + (copy if mapped else 0), kept[HOST], touched, other, mapped, placed.count(HOST)), *devices]


def fits_beside(need: Need, available: int | None) -> bool:
    """Whether a load fits next to what is loaded now. Unknown memory does not count as plenty."""
    return available is not None and need.total + host_margin(need.kept) < available


def holds(available: int | None, kept: int, mapped: int, slack: float = 1.0) -> bool:
    """Whether `available` bytes suffice for what stays and for enough of what is mapped."""
    if available is None:
        return True
    return kept <= available * slack and mapped <= available * PAGED_TIMES


def host_margin(kept: int) -> int:
    """What must stay free beside `kept` bytes of the machine's own memory."""
    return MARGIN_BYTES + int(kept * MARGIN_SHARE)


def stays_mapped(spec: LoaderSpec, parameters: Mapping[str, Any]) -> bool:
    """Whether the weights are used where the file lies, or at least stay in memory as its pages."""
    return spec.weight_bytes is None and bool(parameters.get("use_mmap")) and not parameters.get("use_mlock")


def vocabulary_bytes(facts: ModelFacts, spec: LoaderSpec) -> int:
    """What the tables of the vocabulary take in an engine."""
    merges = 1 if facts.tokenizer == "gpt2" else 0
    return (facts.vocabulary_size or 0) * spec.token_bytes * (1 + merges)


def context_of(facts: ModelFacts, parameters: Mapping[str, Any]) -> int | None:
    """Tokens of context that `parameters` mean, or `None` for a loader without that choice."""
    asked = parameters.get("context_size")
    return None if asked is None else int(asked) or facts.context_length or USUAL_CONTEXT


def cache_shape(facts: ModelFacts, spec: LoaderSpec, parameters: Mapping[str, Any]) -> CacheShape:
    """How large a cache `parameters` (the loader's full values) ask for, and for how many jobs."""
    context = context_of(facts, parameters) or USUAL_CONTEXT
    batch = int(parameters.get("batch_size") or USUAL_BATCH)
    shares = parameters.get("shared_cache")
    jobs = 1 if shares is None else spec.slots(spec.parameters.model_construct(**parameters))
    return CacheShape(
        context=min(context, USUAL_CONTEXT) if spec.cache_grows else context,
        jobs=jobs,
        shared=shares is not False,
        micro_batch=min(batch, int(parameters.get("micro_batch_size") or batch)),
        type_k=str(parameters.get("cache_type_k", "f16")),
        type_v=str(parameters.get("cache_type_v", "f16")),
        whole_window=bool(parameters.get("full_window_cache")),
    )


def device_room(free: int) -> int:
    """What of a GPU's free memory is planned with; drivers and the display take some at any time."""
    return max(0, int(free * (1 - DEVICE_MARGIN_SHARE)) - DEVICE_MARGIN_BYTES)


def layers_that_fit(facts: ModelFacts, spec: LoaderSpec, parameters: Mapping[str, Any], free: int) -> int:
    """Most GPU layers whose weights, cache and buffers fit in `free` bytes of GPU memory."""

    def taken(layers: int) -> int:
        return estimate(facts, spec, {**parameters, "gpu_layers": layers}, gpu=True).device

    return bisect_right(range(1, layers_of(facts) + 1), device_room(free), key=taken)


def _device_compute(facts: ModelFacts, shape: ComputeShape, graph: int, placed: Placement, device: int) -> int:
    """A GPU with layers computes in the whole `graph`; one with the output alone in little."""
    if device in placed.layers:
        return graph
    return output_bytes(facts, shape) if placed.output == device else 0


@dataclass(frozen=True, slots=True)
class _Weights:
    """Bytes once loaded, by layer."""

    layers: Sequence[int]
    experts: Sequence[int]
    embedding: int
    output: int
    other: int
    tied: bool


def _layers_weights(facts: ModelFacts, loaded: int) -> _Weights:
    """`loaded` bytes as the file's tensor table spreads them, or evenly where there is none."""
    blocks, found = blocks_of(facts), facts.weights
    if found is None or len(found.layers) != blocks or not found.total:
        share = loaded // (blocks + 1)
        return _Weights([share] * blocks, [0] * blocks, 0, loaded - share * blocks, 0, False)
    scale = loaded / found.total
    if scale == 1:
        return _Weights(found.layers, found.experts, found.embedding, found.output, found.other, found.tied)
    layers, experts = [int(one * scale) for one in found.layers], [int(one * scale) for one in found.experts]
    embedding, output = int(found.embedding * scale), int(found.output * scale)
    return _Weights(layers, experts, embedding, output, loaded - sum(layers) - embedding - output, found.tied)


def _as_loaded(shape: CacheShape, facts: ModelFacts, spec: LoaderSpec, loaded: int) -> CacheShape:
    """An engine that converts the weights keeps its cache as it keeps them."""
    single = spec.weight_bytes is not None and facts.parameter_count and loaded > 3 * facts.parameter_count
    return replace(shape, type_k="f32", type_v="f32") if single else shape


def _layers_caches(facts: ModelFacts, shape: CacheShape, weights: int) -> Sequence[int]:
    """What each layer keeps for the whole context; a share of the weights where the file does not tell its shape."""
    blocks = blocks_of(facts)
    layers = layers_cache(facts, shape)
    if layers is not None:
        return layers
    per_element = (BYTES_PER_ELEMENT[shape.type_k] + BYTES_PER_ELEMENT[shape.type_v]) / 4
    caches = 1 if shape.shared else shape.jobs
    total = int(weights * CACHE_SHARE * shape.context * caches / USUAL_CONTEXT * per_element)
    return [total // blocks] * (blocks - 1) + [total - total // blocks * (blocks - 1)] if blocks else []


def _loaded_bytes(facts: ModelFacts, spec: LoaderSpec, parameters: Mapping[str, Any], converts: bool, gpu: bool) -> int:
    stored = facts.tensor_bytes or facts.file_bytes
    if spec.weight_bytes is not None:
        return spec.weight_bytes(facts, parameters, gpu) or stored
    if converts and facts.parameter_count:
        return max(stored, facts.parameter_count * CONVERTED_BYTES_PER_PARAMETER)
    return stored


def _copied(
    facts: ModelFacts, spec: LoaderSpec, parameters: Mapping[str, Any], stored: int, repacked: Collection[str]
) -> int:
    """What the engine copies for the processor of the `stored` bytes that stay in the machine's memory."""
    if parameters.get("cpu_repacking", "off") == "off":
        return 0
    return min(stored, repacked_bytes(facts, repacked))
