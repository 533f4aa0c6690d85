"""Memory plans: from a model's facts, a loader's parameters and a machine's room to bytes per device. Pure, quick."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from webui.loaders.contract import LoaderSpec
from webui.loaders.llama_log import EnginePlan
from webui.models.facts import ModelFacts
from webui.models.inspect import model_id
from webui.planning.layers import gpu_layers_of, layers_of, uses_gpu
from webui.planning.memory import Part, device_room, estimate, parts
from webui.planning.plan import CPU, DevicePlan, Machine, MemoryPlan
from webui.planning.repacking import repacked_types
from webui.planning.selection import verdict_of
from webui.planning.words import size

HOST_NAME = "Memory"


@dataclass(frozen=True, slots=True)
class Extras:
    """What is loaded beside the model: a projector's and adapters' bytes, and the draft model."""

    bytes: int = 0
    draft: ModelFacts | None = None


@dataclass(frozen=True, slots=True)
class Question:
    """A load to be planned, with the loader's full `parameters`. `corrected` are bytes that loads like it took more
    than was planned for them, or less.
    """

    facts: ModelFacts
    spec: LoaderSpec
    parameters: Mapping[str, Any]
    machine: Machine
    extras: Extras = Extras()
    corrected: int = 0

    def with_(self, **changes: Any) -> Question:
        """The same with some other parameters."""
        return replace(self, parameters={**self.parameters, **changes})


def outline(question: Question, engine: EnginePlan | None = None) -> MemoryPlan:
    """The plan without alternatives. With the engine's own figures it is exact."""
    devices = _devices(question, engine)
    return MemoryPlan(
        model_id(question.facts),
        question.spec.name,
        engine is not None,
        all(device.fits for device in devices),
        constraint_of(devices),
        tuple(devices),
        corrected=question.corrected != 0,
        warnings=tuple(_warnings(question, devices)),
    )


def fits(question: Question, *, gpus_alone: bool = False) -> bool:
    """Whether the load fits, or just its share of the GPUs; what `outline` says, sooner."""
    return all(device.fits for device in _devices(question)[1 if gpus_alone else 0 :])


def constraint_of(devices: Sequence[DevicePlan]) -> str:
    """What is full, or would be first, in one sentence."""
    for device in devices:
        if not device.fits:
            return _full(device)
    known = [device for device in devices if device.available is not None and device.total]
    if not known:
        return "How much memory is free is not known."
    tightest = min(known, key=_left)
    beside = " beside the pages of the file" if tightest.mapped else ""
    return f"{tightest.name} is the tightest: {size(max(0, _left(tightest)))} would stay free{beside}."


def _devices(question: Question, engine: EnginePlan | None = None) -> list[DevicePlan]:
    facts, spec, machine = question.facts, question.spec, question.machine
    gpus = machine.gpus if uses_gpu(spec, question.parameters) else ()
    found = parts(
        facts,
        spec,
        question.parameters,
        [gpu.free for gpu in gpus],
        converts=verdict_of(spec, facts).converts,
        repacked=repacked_types(spec.name, machine.instruction_sets),
    )
    if engine is not None:
        found = _as_the_engine_says(found, engine)
    found = _with_extras(found, question)
    devices = [_device(found[0], CPU, HOST_NAME, machine.available, machine.total)]
    for gpu, part in zip(gpus, found[1:], strict=True):
        room = None if gpu.free is None else device_room(gpu.free)
        devices.append(_device(part, gpu.key, gpu.name, room, gpu.total))
    return _in_one_room(devices) if any(gpu.shared for gpu in gpus) else devices


def _full(device: DevicePlan) -> str:
    free = size(device.available or 0)
    if device.available is not None and device.kept > device.available:
        return f"{device.name}: {size(device.kept)} are needed, and {free} are free."
    if device.available is not None and device.kept + device.margin > device.available:
        margin = size(device.margin)
        return f"{device.name}: {size(device.kept)} are needed beside a margin of {margin}, and {free} are free."
    return f"{device.name}: the file's {size(device.mapped)} would be read from disk again and again; {free} are free."


def _left(device: DevicePlan) -> int:
    return (device.available or 0) - device.kept


def _device(part: Part, key: str, name: str, available: int | None, capacity: int | None) -> DevicePlan:
    return DevicePlan(
        key, name, part.weights, part.cache, part.compute, part.other, available, capacity, part.mapped, part.layers
    )


def _with_extras(found: list[Part], question: Question) -> list[Part]:
    """Projector, adapters and draft model lie where the model's last layers do; a correction is the engine's own."""
    host, *devices = found
    extra = question.extras.bytes
    if question.extras.draft is not None:
        extra += estimate(question.extras.draft, question.spec, question.parameters).total - question.spec.engine_bytes
    on_gpu = question.parameters.get("projector_on_gpu", True) and any(part.layers for part in devices)
    if extra and on_gpu:
        index = max(range(len(devices)), key=lambda place: devices[place].layers)
        devices[index] = replace(devices[index], other=devices[index].other + extra)
        extra = 0
    other = max(0, host.other + extra + question.corrected)
    return [replace(host, other=other), *devices]


def _as_the_engine_says(found: list[Part], engine: EnginePlan) -> list[Part]:
    """Caches and buffers from the engine; where they lie, and the weights, as computed."""
    computed = sum(part.cache for part in found)
    scale = engine.cache / computed if computed else 0.0
    caches = [round(part.cache * scale) for part in found]
    caches[0] += engine.cache - sum(caches) if computed else engine.cache
    said = [engine.host_compute, *engine.device_compute]
    compute = [*said, *[0] * (len(found) - len(said))][: len(found)]
    return [
        replace(part, cache=cache, compute=buffer) for part, cache, buffer in zip(found, caches, compute, strict=True)
    ]


def _in_one_room(devices: list[DevicePlan]) -> list[DevicePlan]:
    """A GPU that uses the machine's memory leaves less of it, and gets no more than there is."""
    host, *gpus = devices
    if host.available is None:
        return devices
    taken = sum(gpu.total for gpu in gpus)
    host_room = max(0, host.available - taken)
    return [
        replace(host, available=host_room),
        *(replace(gpu, available=min(gpu.available or 0, max(0, (host.available or 0) - host.kept))) for gpu in gpus),
    ]


def _warnings(question: Question, devices: Sequence[DevicePlan]) -> list[str]:
    """What the user chose and would regret."""
    facts, parameters = question.facts, question.parameters
    sentences = []
    trained, asked = facts.context_length, parameters.get("context_size")
    if trained and isinstance(asked, int) and asked > trained:
        sentences.append(f"The model was trained for {trained:,} tokens of context; beyond them its replies get worse.")
    wanted = gpu_layers_of(facts, parameters)
    if wanted is not None and len(devices) > 1 and 0 < wanted < layers_of(facts) // 3:
        sentences.append("With so few layers on the GPU, it hardly makes the model faster.")
    return sentences
