"""An engine that fails on request: in the phase, in the way and as often as its parameters say.

It repeats the prompt's words, one a chunk. It runs in a real worker under the real supervisor, so that everything
above it is tested as it is. The phases:

    load         while loading
    canary       at a prompt without the word FAULT, before the first token: what the pool asks after each load
    first_token  at a prompt with the word FAULT, before the first token
    mid_stream   when it comes to the word FAULT
    idle         loaded, once the file `signpost` appears
    unload       while closing

With `once`, the fault is committed by the first process that comes to it, and not by those after it.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

from tests.fakes import faults
from webui.errors import EngineRefused
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
from webui.loaders.shared import ContextSize
from webui.models.facts import ModelFormat

MARK = "FAULT"
REFUSAL = "refuse"


class MisbehavingParameters(Parameters):
    context_size: ContextSize = 512
    phase: Annotated[str, Control("Phase", "When it goes wrong.", section="Fault")] = ""
    fault: Annotated[str, Control("Fault", "What goes wrong.", section="Fault")] = ""
    once: Annotated[str, Control("Once", "A file that is made when it has gone wrong.", section="Fault")] = ""
    signpost: Annotated[str, Control("Signpost", "A file that says: now.", section="Fault")] = ""


class MisbehavingLoader(Loader[MisbehavingParameters]):
    def load(self, progress: ReportProgress) -> LoadedModel:
        progress("Reading", 0.5)
        print("misbehaving: loading", flush=True)
        self._come_to("load")
        if self.parameters.phase == "idle" and self._first_time():
            faults.commit_when(Path(self.parameters.signpost), self.parameters.fault)
        return LoadedModel(self.parameters.context_size, "CPU", "cpu", "misbehaving", "1")

    def tokenize(self, text: str, *, add_bos: bool) -> list[int]:
        return [len(word) for word in text.split()]

    def generate(self, request: GenerationRequest, cancelled: threading.Event) -> Iterator[Chunk | Finished]:
        words = request.prompt.split()
        self._come_to("first_token" if MARK in words else "canary")
        count = 0
        reason: FinishReason = "stop"
        for word in words:
            if cancelled.is_set() or count == request.sampling.max_tokens:
                reason = "cancelled" if cancelled.is_set() else "length"
                break
            if word == MARK:
                self._come_to("mid_stream")
            count += 1
            yield Chunk(word + " ")
        yield Finished(reason, len(words), count, 0.0, 0.0)

    def close(self) -> None:
        self._come_to("unload")

    def _come_to(self, phase: str) -> None:
        if self.parameters.phase != phase or not self._first_time():
            return
        if self.parameters.fault == REFUSAL:
            raise EngineRefused("The engine refuses.", cause="it was told to", evidence=["engine: no"])
        faults.commit(self.parameters.fault)

    def _first_time(self) -> bool:
        """Whether this is the process that is to go wrong; says so to those after it."""
        once = self.parameters.once
        if once and Path(once).exists():
            return False
        if once:
            Path(once).touch()
        return True


SPEC = LoaderSpec(
    name="misbehaving",
    title="Misbehaving",
    summary="Fails on request.",
    parameters=MisbehavingParameters,
    loader=MisbehavingLoader,
    formats=frozenset(ModelFormat),
    devices=("cpu",),
    samplers=frozenset({"max_tokens"}),
    can_open=lambda facts: Verdict(True, "opens anything"),
)
