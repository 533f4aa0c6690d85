"""An extension for benchmarks: a loader that gives tokens at an even pace, so that only the page's own time varies."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Iterator
from typing import Annotated

from pydantic import Field

from webui.hooks import hook
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
from webui.loaders.parameters import Control, Parameters
from webui.models.facts import ModelFormat

SENTENCE = "A **steady** reply of `words` in sentences, with an item or two, goes on and on."
WORDS = SENTENCE.split()


class MetronomeParameters(Parameters):
    pace: Annotated[
        float, Field(gt=0, le=10_000), Control("Pace", "Tokens each second.", unit="tokens/s", section="Metronome")
    ] = 150.0


class MetronomeLoader(Loader[MetronomeParameters]):
    def load(self, progress: ReportProgress) -> LoadedModel:
        return LoadedModel(1 << 20, "CPU", "cpu", "metronome", "1")

    def tokenize(self, text: str, *, add_bos: bool) -> list[int]:
        return list(range(len(text.split())))

    def generate(self, request: GenerationRequest, cancelled: threading.Event) -> Iterator[Chunk | Finished]:
        began = time.monotonic()
        reason: FinishReason = "length"
        for count in range(request.sampling.max_tokens):
            due = began + (count + 1) / self.parameters.pace
            if cancelled.wait(max(0.0, due - time.monotonic())):
                reason = "cancelled"
                break
            yield Chunk(WORDS[count % len(WORDS)] + (" " if count % 40 else "\n\n"))
        first = 1 / self.parameters.pace
        prompt = len(request.prompt.split())
        yield Finished(reason, prompt, count + 1, first, time.monotonic() - began - first)


SPEC = LoaderSpec(
    name="metronome",
    title="Metronome",
    summary="Tokens at an even pace, for benchmarks.",
    parameters=MetronomeParameters,
    loader=MetronomeLoader,
    formats=frozenset(ModelFormat),
    devices=("cpu",),
    samplers=frozenset({"max_tokens"}),
    can_open=lambda facts: Verdict(True, "gives words whatever the file"),
)


@hook
def add_loaders() -> Iterable[LoaderSpec]:
    return [SPEC]
