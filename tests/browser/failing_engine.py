"""An engine that fails as real ones do: it says their lines and ends their way. For the pictures of failures.

What it does stands in the file `fault` beside the models folder: a name of `FAULTS`, or one of `generate`'s. Without
that file it answers.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, cast

from webui.errors import ContextTooLong
from webui.loaders.causes import explain_lines
from webui.loaders.contract import (
    Availability,
    Chunk,
    Finished,
    FinishReason,
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

FAULT_FILE = "fault"
TITLE = "Example engine"
TEXT = "A lighthouse keeper writes down the weather every evening. The wind comes from the west, and the sea is grey."
SLOW_SECONDS = 1.0
FITTING_LAYERS = 14

FAULTS = {
    "broken_package": (
        "OSError: libcudart.so.12: cannot open shared object file: No such file or directory",
        "RuntimeError: Failed to load shared library 'libllama.so': libcudart.so.12: cannot open shared object file",
    ),
    "incompatible_driver": (
        "ggml_cuda_init: failed to initialize CUDA: CUDA driver version is insufficient for CUDA runtime version",
        "CUDA error: CUDA driver version is insufficient for CUDA runtime version",
    ),
    "device_out_of_memory": (
        "load_tensors: offloading 28 repeating layers to GPU",
        "ggml_backend_cuda_buffer_type_alloc_buffer: allocating 4095.05 MiB on device 0: cudaMalloc failed: out of "
        "memory",
        "alloc_tensor_range: failed to allocate CUDA0 buffer of size 4293994496",
        "llama_model_load: error loading model: unable to allocate CUDA0 buffer",
    ),
    "port_taken": (
        "srv  start: couldn't bind HTTP server socket, hostname: 127.0.0.1, port: 8080",
        "srv  main: exiting due to HTTP server error",
    ),
    "storage_failed": ("OSError: [Errno 28] No space left on device: 'model-00002-of-00004.safetensors'",),
    "engine_refused": (
        "llama_model_loader: loaded meta data with 23 key-value pairs",
        "graph_reserve: the scheduler refused the plan (status 7)",
    ),
}
"""What a load that fails with this code says last."""


class FailingParameters(Parameters):
    context_size: ContextSize = 4096
    gpu_layers: GpuLayers = 0
    cache_type_k: CacheTypeK = "f16"
    cache_type_v: CacheTypeV = "f16"


class FailingEngine(Loader[FailingParameters]):
    def load(self, progress: ReportProgress) -> LoadedModel:
        progress("reading the weights", 0.4)
        fault = self._fault()
        lines = FAULTS.get(fault, ())
        if lines and self._applies(fault):
            self._say(lines)
            raise explain_lines(TITLE, "load the model", lines)
        if fault == "hang":
            time.sleep(3600)
        if fault == "garble":
            channel = cast(Any, self.died).__self__._answers
            channel.write(b"llama_print_timings: eval time = 12.1 ms\n" * 50_000)
            channel.flush()
            time.sleep(3600)
        if fault == "crash while loading":
            self._crash()
        device = ("GPU", "cuda") if self.parameters.gpu_layers else ("CPU", "cpu")
        return LoadedModel(self.parameters.context_size, *device, "example", "1.0")

    def tokenize(self, text: str, *, add_bos: bool) -> list[int]:
        return [len(word) for word in text.split()]

    def generate(self, request: GenerationRequest, cancelled: threading.Event) -> Iterator[Chunk | Finished]:
        fault, words = self._fault(), request.prompt.split()
        if len(words) >= self.parameters.context_size:
            raise ContextTooLong(
                f"The prompt has {len(words):,} tokens and the context {self.parameters.context_size:,}.",
                prompt_tokens=len(words),
                context_size=self.parameters.context_size,
            )
        count, reason = 0, cast(FinishReason, "stop")
        for word in TEXT.split():
            if count == request.sampling.max_tokens or cancelled.wait(SLOW_SECONDS if fault == "slow" else 0.0):
                reason = "cancelled" if cancelled.is_set() else "length"
                break
            if count == 12 and fault == "crash":
                self._crash()
            if count == 12 and fault == "hang later":
                time.sleep(3600)
            count += 1
            yield Chunk(word + " ")
        yield Finished(reason, len(words), count, 0.0, 0.0)

    def _fault(self) -> str:
        file = Path(self.facts.path).parent.parent / FAULT_FILE
        return file.read_text(encoding="utf-8") if file.is_file() else ""

    def _applies(self, fault: str) -> bool:
        """Whether what is loaded now runs into it: a driver only on the GPU, its memory only with much on it."""
        layers = self.parameters.gpu_layers
        if fault == "device_out_of_memory":
            return layers > FITTING_LAYERS and self.parameters.cache_type_k == "f16"
        return layers != 0 or fault != "incompatible_driver"

    def _crash(self) -> None:
        self._say(["ggml_backend_amx_mul_mat: unexpected tile configuration", "Segmentation fault (core dumped)"])
        signal.raise_signal(signal.SIGSEGV)

    @staticmethod
    def _say(lines: Sequence[str]) -> None:
        for line in lines:
            os.write(2, line.encode() + b"\n")


def _absent(spec: LoaderSpec, facts: ModelFacts | None, parameters: object) -> Availability:
    return Availability(False, f"the package {spec.name} is not installed")


def _spec(name: str, title: str, **options: Any) -> LoaderSpec:
    return LoaderSpec(
        name=name,
        title=title,
        summary="Fails as it is told to.",
        parameters=FailingParameters,
        loader=FailingEngine,
        formats=frozenset(ModelFormat),
        devices=("cpu", "cuda"),
        samplers=frozenset({"max_tokens"}),
        can_open=lambda facts: Verdict(True, "it opens anything"),
        cpu_parameters={"gpu_layers": 0},
        **options,
    )


SPEC = _spec("example-engine", TITLE)
ABSENT = _spec("absent-engine", "Absent engine", find=_absent)
