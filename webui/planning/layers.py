"""Where a load puts each layer: the machine's own memory or one of the GPUs."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

from webui.loaders.contract import LoaderSpec
from webui.models.facts import ModelFacts
from webui.models.weights import MOST_LAYERS

HOST = -1
USUAL_BLOCKS = 32
FILLED_SHARE = 0.9
"""Of a GPU's free memory, what transformers fills with weights."""


@dataclass(frozen=True, slots=True)
class Placement:
    """A device for each layer and for what makes the output: the index of a GPU, or `HOST`."""

    layers: tuple[int, ...]
    output: int

    def count(self, device: int) -> int:
        """Layers on `device`, what makes the output counted as one."""
        return self.layers.count(device) + (self.output == device)


def blocks_of(facts: ModelFacts) -> int:
    """Layers of the model; a usual number where the header tells none, or more than there are."""
    count = facts.block_count
    return USUAL_BLOCKS if count is None else min(count, MOST_LAYERS)


def layers_of(facts: ModelFacts) -> int:
    """Layers that can go to a GPU: the model's own and the one that makes the output."""
    return facts.block_count + 1 if facts.block_count is not None else USUAL_BLOCKS + 1


def gpu_layers_of(facts: ModelFacts, parameters: Mapping[str, Any]) -> int | None:
    """How many layers `parameters` put on a GPU, or `None` for a loader without that choice."""
    asked = parameters.get("gpu_layers")
    if asked is None:
        return None
    return layers_of(facts) if asked < 0 else min(int(asked), layers_of(facts))


def uses_gpu(spec: LoaderSpec, parameters: Mapping[str, Any]) -> bool:
    """Whether `parameters` let the engine use a GPU."""
    return any(parameters.get(name) != value for name, value in spec.cpu_parameters.items())


def place(
    facts: ModelFacts, spec: LoaderSpec, parameters: Mapping[str, Any], free: Sequence[int | None], each: Sequence[int]
) -> Placement:
    """Where the layers go on a machine whose GPUs have `free` bytes; `each` are the bytes of the layers' weights.

    llama.cpp puts the last layers on GPUs, the output first of all, and spreads them by `tensor_split`, or by what is
    free. transformers fills one GPU after the other, and the machine's memory with the rest.
    """
    blocks = blocks_of(facts)
    if not free or not uses_gpu(spec, parameters):
        return Placement((HOST,) * blocks, HOST)
    asked = gpu_layers_of(facts, parameters)
    if asked is None:
        return _filled(parameters, free, each)
    wanted = min(asked, blocks + 1)
    start = blocks + 1 - wanted
    shares = _shares(parameters, free)
    bounds = [bound / sum(shares) for bound in accumulate(shares)]
    last = len(shares) - 1
    devices = [HOST] * start + [min(last, bisect_right(bounds, place / wanted)) for place in range(wanted)]
    if parameters.get("split_mode") == "none":
        main = min(int(parameters.get("main_gpu") or 0), last)
        devices = [device if device == HOST else main for device in devices]
    return Placement(tuple(devices[:blocks]), devices[blocks])


def _shares(parameters: Mapping[str, Any], free: Sequence[int | None]) -> list[float]:
    """How much of the layers each GPU gets."""
    asked = [float(share) for share in str(parameters.get("tensor_split") or "").split(",") if share.strip()]
    shares = [*asked[: len(free)], *[0.0] * (len(free) - len(asked))] if asked else []
    if not sum(shares):
        known = [float(one) for one in free if one]
        shares = [float(one) if one else 0.0 for one in free] if len(known) == len(free) else [1.0] * len(free)
    return shares


def _filled(parameters: Mapping[str, Any], free: Sequence[int | None], each: Sequence[int]) -> Placement:
    """One GPU after the other, as far as its memory goes; "single" means that everything goes to one."""
    if parameters.get("device_map") == "single":
        main = min(int(parameters.get("main_gpu") or 0), len(free) - 1)
        return Placement((main,) * len(each), main)
    devices: list[int] = []
    room = [None if one is None else int(one * FILLED_SHARE) for one in free]
    device, left = 0, room[0]
    for size in each:
        while device != HOST and left is not None and left < size:
            device = device + 1 if device + 1 < len(free) else HOST
            left = room[device] if device != HOST else None
        devices.append(device)
        if left is not None:
            left -= size
    return Placement(tuple(devices), devices[-1] if devices else HOST)
