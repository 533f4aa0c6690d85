"""Hand-made loads, as the pool would tell them, for what the page makes of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.loaders import toy
from webui.errors import AppError, DeviceOutOfMemory, EngineCrashed, EngineRefused
from webui.loaders import LOADERS
from webui.loaders.contract import LoadedModel
from webui.models.facts import ModelFacts, ModelFormat
from webui.planning.recovery import Attempt, Better, Degraded, StepKind
from webui.pool import LoadRequest, LoadStory, PoolState, PoolStatus, Rung

EVIL = "<img src=x onerror=alert(1)>"
KNOWN = {**LOADERS, "toy": toy.SPEC}
FACTS = ModelFacts(Path("/m/big.gguf"), ModelFormat.GGUF, (Path("/m/big.gguf"),), 100, "Big")
OTHER = ModelFacts(Path("/m/other.gguf"), ModelFormat.GGUF, (Path("/m/other.gguf"),), 100, "Other")
LOADED = LoadedModel(2048, "CPU", "cpu", "llama.cpp", "1")

BETTER = Better("Load with 24 layers and an 8-bit cache", "xllamacpp", {"gpu_layers": 24, "cache_type_k": "q8_0"})
DEGRADED = Degraded("Runs without the GPU: the GPU ran out of memory at 28 layers.", (BETTER,))


def attempt(kind: StepKind, loader: str = "xllamacpp", **more: Any) -> Attempt:
    return Attempt(kind, loader, more.pop("parameters", {"context_size": 4096}), **more)


def failed(of: Attempt, error: AppError, *, at: float = 100.0, seconds: float = 1.5) -> Rung:
    return Rung(of, "failed", at, seconds, error)


def ladder() -> tuple[Rung, ...]:
    """Out of memory on the GPU, then a crash, then the CPU works."""
    no_room = DeviceOutOfMemory("The GPU has no room.", evidence=["cudaMalloc failed: out of memory"])
    fewer = attempt(StepKind.FEWER_LAYERS, changes={"gpu_layers": 12}, reason="28 layers did not fit.")
    cpu = attempt(
        StepKind.CPU, changes={"gpu_layers": 0}, reason="The GPU build crashed.", given_up="the GPU, so it is slower"
    )
    return (
        failed(attempt(StepKind.ASKED), no_room),
        failed(fewer, EngineCrashed("The engine died.", cause="SIGSEGV"), at=102.0, seconds=2.0),
        Rung(cpu, "worked", 104.0, 3.25),
    )


def hopeless() -> tuple[Rung, ...]:
    refused = EngineRefused("It refuses.", cause="wrong tensors", evidence=["bad tensor"])
    return (
        failed(attempt(StepKind.ASKED), refused),
        Rung(attempt(StepKind.NEXT_LOADER, "toy"), "skipped", 102.0, 0.0),
        failed(attempt(StepKind.NEXT_LOADER, "llama-cpp-python"), EngineCrashed("It died."), at=103.0),
    )


def story(**changes: Any) -> LoadStory:
    values: dict[str, Any] = {
        "model": "big",
        "path": "/m/big.gguf",
        "asked_loader": "auto",
        "cause": "load",
        "at": 100.0,
        "seconds": 6.75,
        "rungs": ladder(),
        "outcome": "loaded",
        "loader": "xllamacpp",
        "degraded": DEGRADED,
    }
    return LoadStory(**{**values, **changes})


def degraded_status(**changes: Any) -> PoolStatus:
    values: dict[str, Any] = {
        "facts": FACTS,
        "loader": "xllamacpp",
        "model": LOADED,
        "ladder": ladder(),
        "degraded": DEGRADED,
        "asked": LoadRequest(FACTS, "auto", {"gpu_layers": 28}),
    }
    return PoolStatus(PoolState.READY, **{**values, **changes})


def failed_status(error: AppError, **changes: Any) -> PoolStatus:
    values: dict[str, Any] = {
        "failure": error,
        "ladder": hopeless(),
        "asked": LoadRequest(FACTS, "auto", {"context_size": 4096}),
    }
    return PoolStatus(PoolState.FAILED, **{**values, **changes})
