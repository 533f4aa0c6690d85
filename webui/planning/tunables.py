"""What of a loader can be tuned for a model on a machine: parameters that change the speed and nothing else.

Only parameters that the loader declares are varied, over values that make sense here. Such as change what the model
says (a smaller cache type) are left alone unless the user allows it.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from webui.hardware.facts import CpuFacts
from webui.loaders.contract import LoaderSpec
from webui.loaders.threads import threads_for
from webui.models.facts import ModelFacts

FREE = frozenset(
    {
        "gpu_layers",
        "threads",
        "threads_batch",
        "batch_size",
        "micro_batch_size",
        "flash_attention",
        "cpu_repacking",
        "poll",
    }
)
"""Parameters that a search may set as it likes: they change nothing of what a model says."""
BATCHES = (32, 64, 128, 256, 512, 1024, 2048)
MOST_ON_CPU = 512
"""Larger batches only help where a GPU has to be kept busy."""
LAYER_SHARES = (0.0, 0.25, 0.5, 0.75)
POLLS = (0, 50, 100)
FULL_CACHE = "f16"
SMALL_CACHE = "q8_0"

Values = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Axis:
    """One thing to vary. Each of `values` is what to set for it; the one that holds already is `usual`.

    `ordered`: neighbours behave alike, so a search may climb from one to the next. `pins`, one for each value, are set
    along with any value but the usual one, where the setting does not hold them yet: what the engine would otherwise
    derive from the value, also when that changes later.
    """

    name: str
    values: tuple[Values, ...]
    usual: int
    ordered: bool = False
    pins: tuple[Values, ...] = ()


@dataclass(frozen=True, slots=True)
class Setting:
    """A loader with what is changed of its usual parameters, sorted by name."""

    loader: str
    changes: tuple[tuple[str, Any], ...] = ()

    @property
    def parameters(self) -> dict[str, Any]:
        return dict(self.changes)


@dataclass(frozen=True, slots=True)
class Space:
    """What can be varied of one loader; `usual` are all its parameters as a load has them now."""

    loader: str
    usual: Values
    axes: tuple[Axis, ...]

    def without(self, names: Container[str]) -> Space:
        """The same space, with these parameters left as they are."""
        free = (axis for axis in self.axes if not any(name in names for value in axis.values for name in value))
        axes = (replace(axis, pins=tuple(_less(pin, names) for pin in axis.pins)) for axis in free)
        return replace(self, axes=tuple(axes))

    def setting(self, changes: Values) -> Setting:
        """Changes to the usual parameters, those that change nothing left out."""
        kept = {name: value for name, value in changes.items() if self.usual[name] != value}
        return Setting(self.loader, tuple(sorted(kept.items())))

    def moved(self, axis: Axis, setting: Setting, index: int) -> Setting:
        """`setting` with another value of `axis`."""
        pins = axis.pins[index] if axis.pins and index != axis.usual else {}
        return self.setting({**pins, **setting.parameters, **axis.values[index]})

    def place(self, axis: Axis, setting: Setting) -> int:
        """Which value of `axis` the setting has; the usual one where it has none of them."""
        held = {**self.usual, **setting.parameters}
        fitting = (i for i, one in enumerate(axis.values) if all(held[name] == value for name, value in one.items()))
        return next(fitting, axis.usual)


def space_of(
    spec: LoaderSpec,
    usual: Values,
    facts: ModelFacts,
    cpu: CpuFacts,
    *,
    gpu: bool,
    cache_quantization: bool = False,
) -> Space:
    """The space of `spec` for a model. `gpu`: the engine can use one here."""
    declared = spec.parameters.model_fields.keys() & usual.keys()
    makers = (
        _gpu_layers(usual, facts) if gpu and "gpu_layers" in declared else None,
        _threads(usual, cpu) if "threads" in declared else None,
        _micro_batch(usual, gpu) if {"batch_size", "micro_batch_size"} <= declared else None,
        _batch(usual, gpu) if "batch_size" in declared and "micro_batch_size" not in declared else None,
        _threads_batch(usual, cpu) if {"threads", "threads_batch"} <= declared else None,
        _flash_attention(usual) if "flash_attention" in declared else None,
        _repacking(usual) if "cpu_repacking" in declared else None,
        _poll(usual) if "poll" in declared else None,
        _cache_type(usual) if cache_quantization and {"cache_type_k", "cache_type_v"} <= declared else None,
    )
    return Space(spec.name, dict(usual), tuple(axis for axis in makers if axis is not None and len(axis.values) > 1))


def _less(values: Values, names: Container[str]) -> Values:
    return {name: value for name, value in values.items() if name not in names}


def thread_counts(cpu: CpuFacts) -> list[int]:
    """Numbers of threads worth trying: powers of two and what lies between them, up to the cores that may be used."""
    logical = max(1, cpu.usable_cores)
    physical = cpu.performance_cores or cpu.allowed_physical or logical
    counts = {1, threads_for(cpu), min(physical, logical), logical}
    power = 2
    while power < logical:
        counts |= {power, min(power * 3 // 2, logical)}
        power *= 2
    return sorted(counts)


def _threads(usual: Values, cpu: CpuFacts) -> Axis:
    now = usual["threads"] or threads_for(cpu)
    axis = _numbers("threads", {*thread_counts(cpu), now}, now, usual)
    # The engine reads prompts with as many threads as it generates with, unless told otherwise. More threads are tried
    # for both, fewer for replies alone, since prompts gain by each; from then on they are tuned apart.
    apart = "threads_batch" in usual and not usual["threads_batch"]
    return (
        replace(axis, pins=tuple({"threads_batch": max(one["threads"], now)} for one in axis.values)) if apart else axis
    )


def _threads_batch(usual: Values, cpu: CpuFacts) -> Axis:
    now = usual["threads_batch"] or usual["threads"] or threads_for(cpu)
    axis = _numbers("threads_batch", {*thread_counts(cpu), now}, now, usual)
    if usual["threads_batch"]:
        return axis
    # Nothing there means the threads of replies, whatever they are by then.
    numbers = sorted({*thread_counts(cpu), now})
    return replace(axis, values=tuple({"threads_batch": number} for number in numbers))


def _numbers(name: str, counts: Iterable[int], now: int, usual: Values) -> Axis:
    """An axis of numbers of which `now` is in force; it is written as the usual value, which may stand for it."""
    numbers = sorted(counts)
    values = tuple({name: usual[name] if number == now else number} for number in numbers)
    return Axis(name, values, numbers.index(now), ordered=True)


def _gpu_layers(usual: Values, facts: ModelFacts) -> Axis | None:
    if not facts.block_count:
        return None
    most = facts.block_count + 1
    asked = usual["gpu_layers"]
    now = most if asked < 0 else min(asked, most)
    return _numbers("gpu_layers", {now, most, *(round(most * share) for share in LAYER_SHARES)}, now, usual)


def _micro_batch(usual: Values, gpu: bool) -> Axis:
    batch = usual["batch_size"]
    now = min(usual["micro_batch_size"], batch)
    sizes = sorted({now, *_batches(gpu)})
    values = tuple(
        {"micro_batch_size": usual["micro_batch_size"], "batch_size": batch}
        if size == now
        else {"micro_batch_size": size, "batch_size": max(size, batch)}
        for size in sizes
    )
    return Axis("micro_batch_size", values, sizes.index(now), ordered=True)


def _batch(usual: Values, gpu: bool) -> Axis:
    now = usual["batch_size"]
    return _numbers("batch_size", {now, *_batches(gpu)}, now, usual)


def _batches(gpu: bool) -> Iterator[int]:
    return (size for size in BATCHES if gpu or size <= MOST_ON_CPU)


def _flash_attention(usual: Values) -> Axis:
    """`auto` is on wherever the device can, so only `off` is another thing; a small cache needs it on."""
    small = usual.get("cache_type_v", FULL_CACHE) != FULL_CACHE
    now = usual["flash_attention"]
    other = "on" if now == "off" else "off"
    return _choices("flash_attention", now, () if small else (other,))


def _repacking(usual: Values) -> Axis:
    now = usual["cpu_repacking"]
    # auto switches it on wherever that is not known to crash.
    return _choices("cpu_repacking", now, ("off",) if now == "auto" else ("auto",))


def _poll(usual: Values) -> Axis:
    return _choices("poll", usual["poll"], POLLS)


def _cache_type(usual: Values) -> Axis | None:
    held = {name: usual[name] for name in ("cache_type_k", "cache_type_v")}
    small = dict.fromkeys(held, SMALL_CACHE)
    if set(held.values()) != {FULL_CACHE} or usual.get("flash_attention") == "off":
        return None
    return Axis("cache_type", (held, small), 0)


def _choices(name: str, now: Any, others: Iterable[Any]) -> Axis:
    values = [now, *(value for value in others if value != now)]
    return Axis(name, tuple({name: value} for value in values), 0)
