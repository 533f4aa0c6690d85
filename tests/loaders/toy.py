"""A loader with no engine: repeats the prompt's words, and misbehaves when the prompt says so."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from typing import Annotated

from pydantic import Field

from webui.errors import ContextTooLong, EngineRefused
from webui.loaders.contract import (
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
from webui.loaders.parameters import Control, Group, Parameters
from webui.loaders.shared import ContextSize
from webui.models.facts import ModelFormat


class ToyParameters(Parameters):
    context_size: ContextSize = 64
    delay: Annotated[
        float,
        Field(ge=0, le=10),
        Control("Delay", "Seconds between words.", unit="s", group=Group.BASIC, section="Toy", step=0.01),
    ] = 0.0
    slots: Annotated[int, Field(ge=1, le=8), Control("Slots", "Jobs at once.", section="Toy")] = 1
    fault: Annotated[str, Control("Fault", "What goes wrong while loading.", section="Toy")] = ""
    fragile: Annotated[bool, Control("Fragile", "Crashes at the first prompt.", section="Toy")] = False


class ToyLoader(Loader[ToyParameters]):
    def load(self, progress: ReportProgress) -> LoadedModel:
        progress("reading", 0.5)
        if self.parameters.fault == "refuse":
            raise EngineRefused("The toy refuses.", cause="it was told to")
        if self.parameters.fault == "raise":
            raise RuntimeError("a toy's own error")
        if self.parameters.fault == "crash":
            signal.raise_signal(signal.SIGSEGV)
        if self.parameters.fault == "hang":
            time.sleep(3600)
        print("toy: printed on standard output", flush=True)
        return LoadedModel(self.parameters.context_size, "CPU", "cpu", "toy", "1", slots=self.parameters.slots)

    def tokenize(self, text: str, *, add_bos: bool) -> list[int]:
        return [len(word) for word in text.split()]

    def generate(self, request: GenerationRequest, cancelled: threading.Event) -> Iterator[Chunk | Finished]:
        words = request.prompt.split()
        if len(words) >= self.parameters.context_size:
            raise ContextTooLong(
                "The prompt does not fit the context.",
                prompt_tokens=len(words),
                context_size=self.parameters.context_size,
            )
        if self.parameters.fragile:
            signal.raise_signal(signal.SIGSEGV)
        count = 0
        began = time.monotonic()
        reason: FinishReason = "stop"
        for word in words:
            if cancelled.wait(self.parameters.delay):
                reason = "cancelled"
                break
            if word == "CRASH":
                signal.raise_signal(signal.SIGSEGV)
            if word == "RAISE":
                raise ValueError("a toy's own error")
            if word == "HANG":
                time.sleep(3600)
            if count == request.sampling.max_tokens:
                reason = "length"
                break
            count += 1
            yield Chunk(word + " ")
        yield Finished(reason, len(words), count, 0.0, time.monotonic() - began)


SPEC = LoaderSpec(
    name="toy",
    title="Toy",
    summary="Repeats the prompt.",
    parameters=ToyParameters,
    loader=ToyLoader,
    formats=frozenset(ModelFormat),
    devices=("cpu",),
    samplers=frozenset({"max_tokens"}),
    can_open=lambda facts: Verdict(True, "opens anything"),
    slots=lambda parameters: parameters.slots,
    safe_steps=({"fragile": False},),
)
