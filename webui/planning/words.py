"""Attempts and failures in the words a person reads."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from webui.errors import (
    AppError,
    BrokenPackage,
    DeviceOutOfMemory,
    EngineCrashed,
    EngineGarbled,
    EngineHung,
    EngineRefused,
    HostOutOfMemory,
    IncompatibleDriver,
    MissingPackage,
    PortTaken,
    TimedOut,
)
from webui.loaders.contract import LoaderSpec
from webui.loaders.parameters import controls
from webui.models.facts import ModelFacts
from webui.planning.layers import gpu_layers_of, uses_gpu
from webui.planning.memory import GIB, MIB, context_of

_CACHE_NAMES = {"f32": "32-bit", "f16": "16-bit", "bf16": "16-bit", "q8_0": "8-bit"}
_FEATURES = {
    "attention": "the fastest attention",
    "batch_size": "large prompt batches",
    "compile": "compilation",
    "cpu_repacking": "weight repacking",
    "flash_attention": "flash attention",
    "library": "the fastest build",
    "micro_batch_size": "large prompt batches",
    "quantization": "quantising while loading",
    "shared_cache": "a KV cache of its own for each job",
    "threads": "half of the threads",
    "use_mlock": "locking in memory",
    "use_mmap": "memory-mapping the file",
}
"""What a changed parameter means to a person who reads "without …"."""
_CLAUSES: Mapping[type[AppError], str] = {
    BrokenPackage: "{} did not start",
    EngineGarbled: "the answers of {} made no sense",
    EngineHung: "{} hung",
    EngineRefused: "{} refused the file",
    IncompatibleDriver: "the GPU driver was too old for {}",
    MissingPackage: "{} was not installed",
    PortTaken: "the port of {} was taken",
    TimedOut: "{} took too long",
}
"""Failures that need no numbers, as clauses in which the loader is named."""
_FREE = {"use_mmap": True}
"""Changes that cost nothing."""


def size(count: int) -> str:
    """`count` bytes, as precise as matters for memory."""
    return f"{count / GIB:.1f} GiB" if count >= GIB else f"{count / MIB:.0f} MiB"


def cache_name(kind: Any) -> str:
    """A cache type as people say it: "8-bit" for q8_0."""
    return _CACHE_NAMES.get(str(kind), str(kind))


def listed(parts: Sequence[str]) -> str:
    """`a`, `a and b`, `a, b and c`."""
    return " and ".join([", ".join(parts[:-1]), parts[-1]] if len(parts) > 1 else parts)


def sentence(text: str) -> str:
    """A clause as a sentence of its own. A loader's name at the beginning is written as it is."""
    text = text.strip()
    text = text[:1].upper() + text[1:] if text.startswith(("the ", "last time ")) else text
    return text + ("" if text.endswith((".", "!", "?", "…")) else ".")


def features(spec: LoaderSpec, names: Iterable[str]) -> list[str]:
    """Parameters as things one can do without, in the order of the controls and each once."""
    wanted = set(names)
    labels = [(one.name, one.control.label) for one in controls(spec.parameters) if one.name in wanted]
    return list(dict.fromkeys(_FEATURES.get(name, label[:1].lower() + label[1:]) for name, label in labels))


def _differences(
    spec: LoaderSpec, facts: ModelFacts, asked: Mapping[str, Any], given: Mapping[str, Any]
) -> list[tuple[str, str]]:
    """What is different with `given`, each as (what it costs, how it runs)."""
    changed = {name for name, value in given.items() if asked.get(name) != value and _FREE.get(name) != value}
    found: list[tuple[str, str]] = []
    layers, before = gpu_layers_of(facts, given), gpu_layers_of(facts, asked)
    if uses_gpu(spec, asked) and not uses_gpu(spec, given):
        found.append(("the GPU", "on the CPU"))
    elif layers is not None and before is not None and layers < before:
        found.append(
            (f"{before - layers} of {before} layers on the GPU", f"with {layers} of {before} layers on the GPU")
        )
    if "context_size" in changed:
        smaller = f"a context of {given['context_size']:,} tokens instead of {context_of(facts, asked):,}"
        found.append((smaller, f"with {smaller}"))
    cache = sorted({cache_name(given[name]) for name in ("cache_type_k", "cache_type_v") if name in changed})
    if cache:
        name = f"{'/'.join(cache)} KV cache"
        found.append((f"precision of the KV cache ({'/'.join(cache)})", f"with an {name}"))
    special = {"gpu_layers", "context_size", "cache_type_k", "cache_type_v", *spec.cpu_parameters}
    rest = features(spec, changed - special)
    if rest:
        found.append((listed(rest), f"without {listed(rest)}"))
    return found


def lost(spec: LoaderSpec, facts: ModelFacts, asked: Mapping[str, Any], given: Mapping[str, Any]) -> str:
    """What running with `given` instead of `asked` costs; empty where it costs nothing."""
    return "; ".join(cost for cost, _how in _differences(spec, facts, asked, given))


def running(spec: LoaderSpec, facts: ModelFacts, asked: Mapping[str, Any], given: Mapping[str, Any]) -> list[str]:
    """How it runs with `given` where that is less than `asked`: "on the CPU", "with a context of …"."""
    return [how for _cost, how in _differences(spec, facts, asked, given)]


def why(spec: LoaderSpec, facts: ModelFacts, parameters: Mapping[str, Any], error: AppError) -> str:
    """A failure as a clause of the past: "the GPU ran out of memory at 28 layers"."""
    layers, context = gpu_layers_of(facts, parameters), context_of(facts, parameters)
    if isinstance(error, DeviceOutOfMemory):
        on_gpu = f" at {layers} layer{'s' if layers > 1 else ''}" if layers and uses_gpu(spec, parameters) else ""
        return f"the GPU ran out of memory{on_gpu}"
    if isinstance(error, HostOutOfMemory):
        return "the machine's memory did not suffice" + (f" for a context of {context:,} tokens" if context else "")
    if isinstance(error, EngineCrashed):
        signal = error.facts.get("signal")
        return f"{spec.title} crashed ({signal})" if signal else f"{spec.title} ended unexpectedly"
    clause = _CLAUSES.get(type(error))
    if clause is not None:
        return clause.format(spec.title)
    text = error.message.rstrip(".")
    return text if text.lower().startswith(f"{spec.title.lower()} ") else f"{spec.title} failed (“{text}”)"
