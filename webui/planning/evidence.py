"""What is known of loaders on this machine, for one model, and which of them it puts first.

Without evidence the order of priority holds, with those that open a file as it is before those that convert it. In the
order of weight, evidence changes it so:

1. A loader whose plan does not fit by far goes behind those whose plan does, or may, or is far smaller.
2. A loader whose engine uses no GPU here goes behind those whose engine does, among those that open the file alike.
3. Measured loaders stand by speed in the places that they have among them; a loader that was never measured keeps its
   place, since nothing says that it is slower. Differences within `NOISE` change nothing. Speeds that were not measured
   alike (with other parameters than would be used, one by a benchmark and one by replies, or at very different depths
   of the context) count as different only beyond `UNLIKE_NOISE`, and one on a GPU says nothing of the processor.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from webui.hardware.facts import HardwareFacts
from webui.loaders.contract import LoaderSpec
from webui.loaders.devices import Ability
from webui.planning.layers import uses_gpu
from webui.planning.memory import PAGED_TIMES, SLACK
from webui.planning.plan import CPU, MemoryPlan
from webui.planning.speed import Speed
from webui.planning.support import cannot_run

NOISE = 0.05
UNLIKE_NOISE = 0.25
LIKE_DEPTH = 1024
"""Tokens in the context by which measurements may differ and still be alike; so may twice as many as the other's."""
INERT = frozenset(
    {
        "cache_ram",
        "cache_reuse",
        "check_tensors",
        "context_shift",
        "context_size",
        "shared_cache",
        "slots",
        "warmup",
    }
)
"""Parameters that do not change how fast one reply is written."""
DEVICES = frozenset(
    {
        "device",
        "device_map",
        "draft_gpu_layers",
        "fit_to_memory",
        "gpu",
        "gpu_layers",
        "main_gpu",
        "max_memory",
        "offload_kv_cache",
        "offload_operations",
        "split_mode",
        "tensor_split",
    }
)
"""Parameters that mean nothing where there is no GPU."""

_NOTHING: Mapping[str, Any] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Engines:
    """What is known of engines on this machine, whatever the model; a loader that is left out is an unknown one.

    `on_gpu` tells whether an engine uses a GPU here, and `gpu` whether there is one that models may go to. `obstacles`
    say in a sentence why an engine would end at once.
    """

    on_gpu: Mapping[str, bool] = field(default_factory=dict)
    gpu: bool = True
    obstacles: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Evidence:
    """What is known, by loader; a loader that is left out is one of which nothing is known.

    `asked` are the full parameters it would be loaded with, `plans` the plans for that; `speeds` are measurements of
    this model, machine and these engines.
    """

    asked: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    plans: Mapping[str, MemoryPlan] = field(default_factory=dict)
    speeds: Sequence[Speed] = ()
    engines: Engines = field(default_factory=Engines)


def engines_here(
    hardware: HardwareFacts, abilities: Iterable[Ability], loaders: Iterable[str], *, gpu: bool
) -> Engines:
    """What the facts and the engines' own words say; `gpu`: models may go to GPUs."""
    told = [ability for ability in abilities if ability.installed and ability.told]
    lacking = "Its ready-made package needs a processor with AVX2, and this one has none."
    return Engines(
        on_gpu={ability.loader: bool(ability.kinds) for ability in told},
        gpu=gpu and bool(hardware.gpus),
        obstacles={name: lacking for name in loaders if cannot_run(name, hardware.cpu)},
    )


@dataclass(frozen=True, slots=True)
class Figure:
    """The measurement that stands for a loader. `exact`: with the parameters that would be used."""

    loader: str
    speed: Speed
    exact: bool

    @property
    def rate(self) -> float:
        return self.speed.tokens_per_second

    @property
    def by_reply(self) -> bool:
        return self.speed.source == "reply"


@dataclass(frozen=True, slots=True)
class Ranking:
    """Loaders by `priority`, as they stand without measurements (`unmeasured`), and in the `order` of preference.

    `figures` holds those that were measured, `large` the plans that do not fit by far, `without_gpu` the engines that
    leave a GPU idle.
    """

    priority: tuple[str, ...]
    unmeasured: tuple[str, ...]
    order: tuple[str, ...]
    converting: frozenset[str]
    figures: Mapping[str, Figure]
    large: Mapping[str, MemoryPlan]
    without_gpu: frozenset[str]


def ranked(
    names: Sequence[str], converting: frozenset[str], specs: Mapping[str, LoaderSpec], evidence: Evidence
) -> Ranking:
    """`names`, which stand by priority, by the rules above; `converting` are those that have to rewrite the file."""
    large = _too_large(names, evidence.plans)
    blind = _without_gpu(names, specs, evidence)
    base = sorted(names, key=lambda name: (name in large, name in converting, name in blind))
    figures = {one.loader: one for one in _figures([name for name in base if name not in large], specs, evidence)}
    by_speed = iter(_by_speed([figures[name] for name in base if name in figures]))
    order = tuple(next(by_speed).loader if name in figures else name for name in base)
    return Ranking(tuple(names), tuple(base), order, converting, figures, large, blind)


def _too_large(names: Sequence[str], plans: Mapping[str, MemoryPlan]) -> dict[str, MemoryPlan]:
    """The plans that do not fit by far; where all are of that kind, those that need far more than the least."""
    found = {name: plans[name] for name in names if name in plans and _exceeds(plans[name])}
    if len(found) < len(names):
        return found
    least = min((one.total for one in found.values()), default=0)
    return {name: one for name, one in found.items() if one.total > least * SLACK}


def _without_gpu(names: Sequence[str], specs: Mapping[str, LoaderSpec], evidence: Evidence) -> frozenset[str]:
    """Loaders known to leave a GPU idle that is asked for and that another of `names` uses."""
    wanting = [name for name in names if _wants_gpu(name, specs, evidence)]
    if not evidence.engines.gpu or not any(evidence.engines.on_gpu.get(name) for name in wanting):
        return frozenset()
    return frozenset(name for name in wanting if evidence.engines.on_gpu.get(name) is False)


def _surely_faster(one: Figure, other: Figure) -> bool:
    """Whether `one` is faster than `other` by more than what two measurements of the same may differ."""
    return one.rate > other.rate * (1 + (NOISE if _alike(one, other) else UNLIKE_NOISE))


def _alike(one: Figure, other: Figure) -> bool:
    near, far = sorted((one.speed.depth, other.speed.depth))
    same_depth = far <= max(2 * near, near + LIKE_DEPTH)
    return one.exact and other.exact and one.by_reply == other.by_reply and same_depth


def _by_speed(figures: Sequence[Figure]) -> list[Figure]:
    """Always next: the first by priority of those that the fastest one left is not surely faster than."""
    left, found = list(figures), []
    while left:
        fastest = max(left, key=lambda one: one.rate)
        found.append(next(one for one in left if not _surely_faster(fastest, one)))
        left.remove(found[-1])
    return found


def _figures(names: Sequence[str], specs: Mapping[str, LoaderSpec], evidence: Evidence) -> list[Figure]:
    """One measurement for each measured loader: of a kind and at a depth that all of them have, where there is such."""
    usable = {name: _usable(specs[name], evidence) for name in names}
    usable = {name: speeds for name, speeds in usable.items() if speeds}
    if not usable:
        return []
    kinds = [{(speed.source == "reply", speed.depth) for speed in speeds} for speeds in usable.values()]
    common = set.intersection(*kinds)
    shared = min(common) if common else None

    def figure(name: str, speeds: Sequence[Speed]) -> Figure:
        asked = evidence.asked.get(name, _NOTHING)

        def fitness(speed: Speed) -> tuple[bool, int, bool, int, float]:
            kind = (speed.source == "reply", speed.depth)
            return (kind != shared, _differences(speed, asked, evidence.engines.gpu), *kind, -speed.measured_at)

        best = min(speeds, key=fitness)
        return Figure(name, best, _differences(best, asked, evidence.engines.gpu) == 0)

    return [figure(name, speeds) for name, speeds in usable.items()]


def _usable(spec: LoaderSpec, evidence: Evidence) -> list[Speed]:
    """The loader's measurements on the kind of device that it would use now."""
    mine = [speed for speed in evidence.speeds if speed.loader == spec.name]
    if not evidence.engines.gpu or spec.name not in evidence.asked:
        return mine
    wanted = uses_gpu(spec, evidence.asked[spec.name])
    return [speed for speed in mine if uses_gpu(spec, speed.parameters) == wanted]


def _differences(speed: Speed, asked: Mapping[str, Any], gpu: bool) -> int:
    """How many of the parameters that matter were others; what one side does not know, did not exist yet."""
    aside = INERT if gpu else INERT | DEVICES
    return sum(speed.parameters[name] != asked[name] for name in (speed.parameters.keys() & asked.keys()) - aside)


def _wants_gpu(name: str, specs: Mapping[str, LoaderSpec], evidence: Evidence) -> bool:
    asked = evidence.asked.get(name)
    return asked is None or not specs[name].cpu_parameters or uses_gpu(specs[name], asked)


def _exceeds(plan: MemoryPlan) -> bool:
    """Beyond what an estimate may be wrong by, on all devices together, since layers can be moved; or mapped pages that
    would be read from disk all the time.
    """
    if plan.fits or any(device.available is None for device in plan.devices):
        return False
    room = sum(device.available or 0 for device in plan.devices)
    host = plan.device(CPU)
    thrashing = host is not None and host.mapped > (host.available or 0) * PAGED_TIMES
    return thrashing or sum(device.kept for device in plan.devices) > room * SLACK
