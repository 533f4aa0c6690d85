"""Attempts and failures in the words a person reads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from webui.errors import AppError, DeviceOutOfMemory, EngineCrashed, EngineHung, HostOutOfMemory, TimedOut
from webui.loaders.contract import LoaderSpec
from webui.loaders.parameters import controls
from webui.models.facts import ModelFacts
from webui.planning.memory import GIB, MIB, context_of, gpu_layers_of, uses_gpu

_CACHE_NAMES = {"f32": "32-bit", "f16": "16-bit", "bf16": "16-bit", "q8_0": "8-bit"}


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
    """`text` with a capital at its beginning and a stop at its end."""
    text = text.strip()
    return text[:1].upper() + text[1:] + ("" if text.endswith((".", "!", "?", "…")) else ".")


def lost(spec: LoaderSpec, facts: ModelFacts, asked: Mapping[str, Any], given: Mapping[str, Any]) -> tuple[str, ...]:
    """What running with `given` instead of `asked` costs, each as a noun phrase; empty where it costs nothing."""
    changed = {name for name, value in given.items() if asked.get(name) != value}
    found: list[str] = []
    layers, asked_layers = gpu_layers_of(facts, given), gpu_layers_of(facts, asked)
    if uses_gpu(spec, asked) and not uses_gpu(spec, given):
        found.append("the GPU")
    elif layers is not None and asked_layers is not None and layers < asked_layers:
        found.append(f"{asked_layers - layers} of {asked_layers} layers on the GPU")
    if "context_size" in changed:
        found.append(f"a context of {context_of(facts, asked):,} tokens (it is {given['context_size']:,})")
    cache = sorted({cache_name(given[name]) for name in ("cache_type_k", "cache_type_v") if name in changed})
    if cache:
        found.append(f"the full precision of the KV cache (it is {'/'.join(cache)})")
    handled = {"gpu_layers", "context_size", "cache_type_k", "cache_type_v", *spec.cpu_parameters}
    others = [control.control.label for control in controls(spec.parameters) if control.name in changed - handled]
    if others:
        found.append(f"some speed ({', '.join(label[:1].lower() + label[1:] for label in others)})")
    return tuple(found)


def load_state(spec: LoaderSpec, facts: ModelFacts, parameters: Mapping[str, Any]) -> str:
    """Where in memory's terms an attempt stood: "28 layers" on the GPU, or the context."""
    layers = gpu_layers_of(facts, parameters)
    if layers and uses_gpu(spec, parameters):
        return f"{layers} layers"
    context = context_of(facts, parameters)
    return f"a context of {context:,}" if context else "these settings"


def why(title: str, error: AppError, at: str = "") -> str:
    """A failure as a clause: "the GPU ran out of memory at 28 layers"."""
    at = f" at {at}" if at else ""
    if isinstance(error, DeviceOutOfMemory):
        return f"the GPU ran out of memory{at}"
    if isinstance(error, HostOutOfMemory):
        return f"the machine's memory did not suffice{at}"
    if isinstance(error, EngineCrashed):
        signal = error.facts.get("signal")
        return f"{title} crashed ({signal})" if signal else f"{title} ended unexpectedly"
    if isinstance(error, EngineHung):
        return f"{title} hung"
    if isinstance(error, TimedOut):
        return f"{title} took too long"
    text = error.message.rstrip(".")
    return text if text.startswith(title) else f"{title}: {text}"
