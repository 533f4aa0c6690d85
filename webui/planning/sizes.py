"""Which sizes of models fit a machine, at which quantisation, and where; and how many layers to begin with on a GPU.

Rules of thumb for before a file is chosen; for a file there is a plan (`webui.planning.memory`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from webui.hardware.facts import GIB

BITS_PER_WEIGHT = (("Q8_0", 8.5), ("Q6_K", 6.6), ("Q5_K_M", 5.7), ("Q4_K_M", 4.9), ("Q3_K_M", 3.9), ("Q2_K", 3.0))
"""Common quantisations with what a parameter takes in them, on average."""
SHARE_FOR_WEIGHTS = 0.8
"""Of the free memory; the rest is for cache and buffers."""
SIZES = (1, 3, 8, 14, 32, 70, 120)
"""Billions of parameters that models commonly have."""
SYSTEM_BYTES = GIB // 2
"""Of the free memory, left to the system and the app."""
BUFFERS, CACHE_SHARE = 3 * GIB // 4, 0.06
"""What a context of some thousand tokens takes besides the weights: to compute in, and for the cache."""
LEAST_SHARE = 1 / 3
"""With less of a model than this on the GPU, the GPU hardly makes it faster."""
SMALL_FILE, MIDDLE_FILE = 4 * GIB, 8 * GIB
MIDDLE_SHARE, LARGE_SHARE = 0.75, 0.5

_BITS = dict(BITS_PER_WEIGHT)
_ON_GPU = ("Q8_0", "Q6_K", "Q5_K_M", "Q4_K_M", "Q3_K_M")
_ON_CPU = ("Q4_K_M", "Q3_K_M")
_SPLIT = ("Q4_K_M", "Q3_K_M")
_HIGH_ON_CPU = 1
"""Billions of parameters up to which also a processor is quick at eight bits."""

Where = Literal["gpu", "gpu and cpu", "cpu"]


@dataclass(frozen=True, slots=True)
class Fit:
    """A size of model, the best common quantisation at which it fits, and where; both `None` where it does not.

    `needed` is about what it takes with a context of some thousand tokens.
    """

    billions: int
    quantization: str | None
    where: Where | None
    needed: int


def fits(gpu_room: int, host_room: int, *, shared: bool) -> tuple[Fit, ...]:
    """For every common size. `shared`: the GPU uses the machine's memory, so that the two rooms are one."""
    return tuple(_fit(billions, gpu_room, host_room, shared) for billions in SIZES)


def needed(billions: float, quantization: str) -> int:
    """Weights, cache and buffers."""
    return int(billions * 1e9 * _BITS[quantization] / 8 * (1 + CACHE_SHARE)) + BUFFERS


def _fit(billions: int, gpu_room: int, host_room: int, shared: bool) -> Fit:
    high = ("Q8_0",) if billions <= _HIGH_ON_CPU else ()
    choices: list[tuple[Where, tuple[str, ...], int]] = [("gpu", _ON_GPU, gpu_room)]
    if gpu_room and not shared:
        choices.append(("gpu and cpu", _SPLIT, min(gpu_room + host_room, int(gpu_room / LEAST_SHARE))))
    choices.append(("cpu", (*high, *_ON_CPU), host_room))
    for where, quantizations, room in choices:
        for quantization in quantizations:
            if needed(billions, quantization) <= room:
                return Fit(billions, quantization, where, needed(billions, quantization))
    return Fit(billions, None, None, needed(billions, "Q4_K_M"))


def largest(found: tuple[Fit, ...], where: Where, quantization: str = "") -> Fit | None:
    """The largest size that runs there (at that quantisation or a better one)."""
    order = [name for name, _ in BITS_PER_WEIGHT]
    least = order.index(quantization) if quantization else len(order)
    suitable = [fit for fit in found if fit.where == where and order.index(fit.quantization or order[-1]) <= least]
    return suitable[-1] if suitable else None


def starting_layers(file_bytes: int, layers: int, device_total: int, device_free: int | None = None) -> int:
    """How many of `layers` to put on a GPU where no plan for the file is known.

    Of small files all, of middle ones those that fit within three quarters of its memory, of large ones within half;
    in no case more than fit in what is free.
    """
    if layers <= 0 or file_bytes <= 0:
        return 0
    share = 1.0 if file_bytes < SMALL_FILE else MIDDLE_SHARE if file_bytes <= MIDDLE_FILE else LARGE_SHARE
    room = int(device_total * share)
    if device_free is not None:
        room = min(room, int(device_free * SHARE_FOR_WEIGHTS))
    return min(layers, room * layers // file_bytes)
