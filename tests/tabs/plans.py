"""Memory plans of many machines, made by hand: what the page has to draw."""

from __future__ import annotations

from webui.planning.memory import GIB, MIB
from webui.planning.plan import Alternative, DevicePlan, Measured, MemoryPlan

DAY = 1_790_000_000.0


def device(key: str, name: str, free: float | None, capacity: float | None, **parts: float) -> DevicePlan:
    """A device whose figures are given in GiB."""
    layers = int(parts.pop("layers")) if "layers" in parts else None
    taken = {part: int(count * GIB) for part, count in parts.items()}
    available = None if free is None else int(free * GIB)
    return DevicePlan(
        key,
        name,
        **taken,
        available=available,
        capacity=None if capacity is None else int(capacity * GIB),
        layers=layers,
    )


FITS = MemoryPlan(
    "SmolLM2-135M",
    "xllamacpp",
    exact=False,
    fits=True,
    constraint="the machine's memory would be full first",
    devices=(device("cpu", "Memory", 5.8, 7.8, weights=0.09, mapped=0.09, kv_cache=0.18, compute=0.1, other=0.03),),
    largest_context=8192,
)
LAPTOP = MemoryPlan(
    "Llama-3.1-8B",
    "llama-cpp-python",
    exact=False,
    fits=False,
    constraint="33 layers need 5.9 GiB on the GeForce RTX 3060 Laptop GPU, where 4.9 GiB are free.",
    devices=(
        device("gpu0", "GeForce RTX 3060 Laptop GPU", 4.9, 6, weights=4.3, kv_cache=1, compute=0.6, layers=33),
        device("cpu", "Memory", 9.1, 15.6, weights=0.3, mapped=0.3, compute=0.02, other=0.2),
    ),
    alternatives=(
        Alternative("24 of 33 layers on the GPU", int(6.1 * GIB), True, {"gpu_layers": 24}),
        Alternative("context 4,096", int(5.4 * GIB), True, {"context_size": 4096}),
        Alternative("8-bit KV cache", int(5.6 * GIB), False, {"cache_type_k": "q8_0", "cache_type_v": "q8_0"}),
        Alternative("a Q3_K_M file of the same model, about 3.7 GiB", int(4.6 * GIB), True),
    ),
    largest_context=4096,
)
FOUR_CARDS = MemoryPlan(
    "Llama-3.3-70B",
    "xllamacpp",
    exact=True,
    fits=True,
    constraint="the RTX 4090 would be full first",
    devices=(
        device("gpu0", "RTX 4090", 23.1, 24, weights=19, kv_cache=2.5, compute=1.1, layers=40),
        device("gpu1", "RTX 3090", 23.5, 24, weights=15, kv_cache=2.1, compute=0.7, layers=32),
        device("gpu2", "RTX 3060", 11.4, 12, weights=4.2, kv_cache=0.5, compute=0.5, layers=9),
        device("gpu3", "Quadro P2000", 0.4, 5),
        device("cpu", "Memory", 48, 64, weights=0.6, mapped=0.6, compute=0.1, other=0.4),
    ),
    largest_context=65536,
    measured=Measured({"gpu0": 22 * GIB, "gpu1": 17 * GIB, "gpu2": 5 * GIB, "cpu": 900 * MIB}, DAY),
)
UNKNOWN_ROOM = MemoryPlan(
    "phi",
    "llamafile",
    exact=False,
    fits=True,
    constraint="",
    devices=(device("cpu", "Memory", None, None, weights=2.3, kv_cache=0.4, compute=0.2, other=0.05),),
)
PAGED = MemoryPlan(
    "Mixtral-8x7B",
    "llama-cpp-python",
    exact=False,
    fits=True,
    constraint="the machine's memory is less than the file",
    devices=(device("cpu", "Memory", 15, 31, weights=26, mapped=26, kv_cache=1, compute=0.3, other=0.1),),
    warnings=("The file is larger than what is free: parts of it are read again for every token.",),
    largest_context=32768,
)
ENORMOUS = MemoryPlan(
    "Kimi-K2",
    "ctransformers",
    exact=False,
    fits=False,
    constraint="It needs 620 GiB, and 5.8 GiB of memory are free.",
    devices=(device("cpu", "Memory", 5.8, 7.8, weights=600, kv_cache=12, compute=8, other=0.2),),
    alternatives=(Alternative("a Q2_K file of the same model, about 2.2 GiB", int(2.4 * GIB), True),),
    corrected=True,
)
PLANS = {
    "fits": FITS,
    "laptop": LAPTOP,
    "four cards": FOUR_CARDS,
    "unknown": UNKNOWN_ROOM,
    "paged": PAGED,
    "enormous": ENORMOUS,
}
