"""How much memory a load will take, estimated from the file's header and the loader's parameters.

Three parts: the weights, the KV cache, and what the engine computes in. Weights that are memory-mapped are page cache:
the system drops them when it needs the room and reads them again, so they can make a model slow and hardly ever make it
fail. What has to stay, `Need.kept`, is what a load is refused for.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from webui.loaders.contract import LoaderSpec
from webui.models.facts import ModelFacts
from webui.planning.cache import BYTES_PER_ELEMENT, CacheShape, layers_cache
from webui.planning.compute import ComputeShape, compute_bytes

MIB = 1024 * 1024
GIB = 1024 * MIB

CONVERTED_BYTES_PER_PARAMETER = 4
"""A loader that rewrites the weights, and does not say how, may hold them as 32-bit floats."""
CACHE_SHARE = 0.25
"""Cache of a context of `USUAL_CONTEXT` tokens against the weights, for files that do not tell their shape."""
USUAL_CONTEXT = 4096
USUAL_LAYERS = 33
USUAL_BATCH = 512
SLACK = 1.25
"""An estimate may be wrong by this much before anything is refused for it."""
PAGED_TIMES = 4
"""Mapped weights beyond this many times the free memory would be read from disk for nearly every token."""
DEVICE_MARGIN_BYTES = 256 * MIB
DEVICE_MARGIN_SHARE = 0.05
CONTEXT_STEP = 256

_PLAIN = frozenset({"F64", "F32", "F16", "BF16"})


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
        """Whether the machine's memory suffices, with an error of `slack` allowed. Unknown memory refuses nothing."""
        if available is None:
            return True
        return self.kept <= available * slack and self.mapped_bytes <= available * PAGED_TIMES


def estimate(
    facts: ModelFacts, spec: LoaderSpec, parameters: Mapping[str, Any], *, converts: bool = False, gpu: bool = False
) -> Need:
    """What loading `facts` with `parameters` (the loader's full values) takes; `gpu`: there is one that may be used."""
    weights = _weights(facts, spec, parameters, converts, gpu)
    shape = cache_shape(facts, spec, parameters)
    cache = cache_bytes(facts, shape, weights)
    scores = parameters.get("flash_attention") == "off" or parameters.get("attention") == "eager"
    graph = compute_bytes(facts, ComputeShape(shape, scores, None if spec.logits_of_all else 1))
    share = device_share(facts, spec, parameters) if gpu else 0.0
    device = int(weights * share) + (graph if share else 0)
    if parameters.get("offload_kv_cache", True):
        device += int(cache * share)
    mapped = not converts and spec.weight_bytes is None and stays_mapped(facts, parameters)
    return Need(
        weights,
        cache,
        graph + spec.engine_bytes,
        mapped,
        device,
        mapped_bytes=weights - int(weights * share) if mapped else 0,
    )


def fits_beside(need: int, available: int | None) -> bool:
    """Whether `need` bytes fit next to what is loaded now. Unknown memory does not count as plenty."""
    return available is not None and need < available


def stays_mapped(facts: ModelFacts, parameters: Mapping[str, Any]) -> bool:
    """Whether the weights are used where the file lies: weights that are repacked are copied to memory of their own."""
    if not parameters.get("use_mmap") or parameters.get("use_mlock"):
        return False
    repacked = parameters.get("cpu_repacking", "off") != "off"
    return not (repacked and set(facts.tensor_types) - _PLAIN)


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


def cache_bytes(facts: ModelFacts, shape: CacheShape, weights: int) -> int:
    """What all layers keep for the whole context; a share of the weights where the file does not tell its shape."""
    layers = layers_cache(facts, shape)
    if layers is not None:
        return sum(layers)
    per_element = (BYTES_PER_ELEMENT[shape.type_k] + BYTES_PER_ELEMENT[shape.type_v]) / 4
    caches = 1 if shape.shared else shape.jobs
    return int(weights * CACHE_SHARE * shape.context * caches / USUAL_CONTEXT * per_element)


def layers_of(facts: ModelFacts) -> int:
    """Layers that can go to a GPU: the model's own and the one that makes the output."""
    return facts.block_count + 1 if facts.block_count is not None else USUAL_LAYERS


def gpu_layers_of(facts: ModelFacts, parameters: Mapping[str, Any]) -> int | None:
    """How many layers `parameters` put on a GPU, or `None` for a loader without that choice."""
    asked = parameters.get("gpu_layers")
    if asked is None:
        return None
    return layers_of(facts) if asked < 0 else min(int(asked), layers_of(facts))


def device_share(facts: ModelFacts, spec: LoaderSpec, parameters: Mapping[str, Any]) -> float:
    """Share of the layers that goes to GPUs, if there are any."""
    if not uses_gpu(spec, parameters):
        return 0.0
    layers = gpu_layers_of(facts, parameters)
    return 1.0 if layers is None else layers / layers_of(facts)


def uses_gpu(spec: LoaderSpec, parameters: Mapping[str, Any]) -> bool:
    """Whether `parameters` let the engine use a GPU."""
    return any(parameters.get(name) != value for name, value in spec.cpu_parameters.items())


def device_room(free: int) -> int:
    """What of a GPU's free memory is planned with; drivers and the display take some at any time."""
    return max(0, int(free * (1 - DEVICE_MARGIN_SHARE)) - DEVICE_MARGIN_BYTES)


def layers_that_fit(facts: ModelFacts, spec: LoaderSpec, parameters: Mapping[str, Any], free: int) -> int:
    """Most GPU layers whose weights, cache and buffers fit in `free` bytes of GPU memory."""

    def taken(layers: int) -> int:
        return estimate(facts, spec, {**parameters, "gpu_layers": layers}, gpu=True).device

    return bisect_right(range(1, layers_of(facts) + 1), device_room(free), key=taken)


def _weights(facts: ModelFacts, spec: LoaderSpec, parameters: Mapping[str, Any], converts: bool, gpu: bool) -> int:
    stored = facts.tensor_bytes or facts.file_bytes
    if spec.weight_bytes is not None:
        return spec.weight_bytes(facts, parameters, gpu) or stored
    if converts and facts.parameter_count:
        return max(stored, facts.parameter_count * CONVERTED_BYTES_PER_PARAMETER)
    return stored
