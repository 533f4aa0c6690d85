"""An extension whose backends do as they are told, for the page's tests: they wait, refuse, crash and write on cue.

Copied into a home as `extensions/stage/__init__.py`. A cue is a file beside it: `first.crash`, `second.refuse`,
`second.wait` and so on act while that loader loads; with `first.full` the GPU takes more than two layers only with an
8-bit cache; with `first.write` its replies go on as long as the file is there. The backend `absent` is not installed.
"""

from __future__ import annotations

import signal
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from webui.errors import DeviceOutOfMemory, EngineRefused
from webui.hooks import hook
from webui.loaders.contract import (
    Availability,
    Chunk,
    Finished,
    GenerationRequest,
    LoadedModel,
    Loader,
    LoaderSpec,
    ReportProgress,
    Verdict,
)
from webui.loaders.parameters import Parameters
from webui.loaders.shared import CacheTypeK, CacheTypeV, ContextSize, GpuLayers
from webui.models.facts import ModelFacts, ModelFormat

CUES = Path(__file__).parent
LOOK_SECONDS = 0.02
WORD_SECONDS = 0.4


class StageParameters(Parameters):
    context_size: ContextSize = 2048
    gpu_layers: GpuLayers = -1
    cache_type_k: CacheTypeK = "f16"
    cache_type_v: CacheTypeV = "f16"


class Staged(Loader[StageParameters]):
    name = ""

    def load(self, progress: ReportProgress) -> LoadedModel:
        values, title = self.parameters, f"The {self.name} engine"
        progress("waiting for its cue", 0.5)
        while self._cue("wait"):
            time.sleep(LOOK_SECONDS)
        if self._cue("refuse"):
            raise EngineRefused(f"{title} refuses this file.", cause="it was told to")
        if self._cue("crash"):
            print(f"{self.name}: last words", file=sys.stderr, flush=True)
            signal.raise_signal(signal.SIGSEGV)
        if self._cue("full") and values.gpu_layers not in (0, 1, 2) and values.cache_type_k == "f16":
            raise DeviceOutOfMemory(f"{title} found the GPU full.")
        return LoadedModel(values.context_size, "CPU", "cpu", self.name, "1", slots=2)

    def tokenize(self, text: str, *, add_bos: bool) -> list[int]:
        return [1] * len(text.split())

    def generate(self, request: GenerationRequest, cancelled: threading.Event) -> Iterator[Chunk | Finished]:
        yield Chunk(f"{self.name} ")
        while request.sampling.max_tokens != 1 and self._cue("write"):
            if cancelled.wait(WORD_SECONDS):
                yield Finished("cancelled", 1, 1, 0.01, 0.01)
                return
            yield Chunk("and writes ")
        yield Chunk("has written.")
        yield Finished("stop", 1, 2, 0.01, 0.01)

    def _cue(self, what: str) -> bool:
        return (CUES / f"{self.name}.{what}").exists()


class First(Staged):
    name = "first"


class Second(Staged):
    name = "second"


def _absent(spec: LoaderSpec, facts: ModelFacts | None, parameters: object) -> Availability:
    return Availability(False, f"the package {spec.name} is not installed")


def spec_of(name: str, loader: type[Staged], **options: Any) -> LoaderSpec:
    """`loader` as a backend that opens anything."""
    return LoaderSpec(
        name=name,
        title=f"{name.capitalize()} engine",
        summary="Does as it is told.",
        parameters=StageParameters,
        loader=loader,
        formats=frozenset({ModelFormat.GGUF}),
        devices=("cpu", "cuda"),
        samplers=frozenset({"max_tokens"}),
        can_open=lambda facts: Verdict(True, "it opens anything"),
        cpu_parameters={"gpu_layers": 0},
        slots=lambda parameters: 2,
        **options,
    )


@hook
def add_loaders() -> Any:
    return [spec_of("absent", First, find=_absent), spec_of("first", First), spec_of("second", Second)]
