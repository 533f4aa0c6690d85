"""An engine whose speed is a table: what it says of its times follows from its parameters, and it takes none.

`speed` holds the tokens per second of a reply with values of parameters ("threads=2:80,poll=0:60"; the first that fits
counts, and without one it is 50), `faults` what happens with them ("poll=0:SIGSEGV,poll=100:late hang"). A fault that
begins with "late " strikes at a prompt, the others while loading. As long as there is a file `hold`, prompts of more
than one word are not answered.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

from pydantic import Field

from tests.fakes import faults
from webui.errors import EngineRefused
from webui.loaders.contract import (
    Chunk,
    Finished,
    GenerationRequest,
    LoadedModel,
    Loader,
    LoaderSpec,
    ReportProgress,
    Verdict,
)
from webui.loaders.parameters import Control, Group, Parameters
from webui.loaders.shared import CacheTypeK, CacheTypeV, ContextSize, Threads
from webui.models.facts import ModelFormat

PROMPT_SPEED = 400.0
MOMENT = 0.02


class TunableParameters(Parameters):
    context_size: ContextSize = 4096
    threads: Threads = 1
    poll: Annotated[int, Field(ge=0, le=100), Control("Polling", "Spins.", group=Group.BASIC, section="Fake")] = 50
    cache_type_k: CacheTypeK = "f16"
    cache_type_v: CacheTypeV = "f16"
    speed: Annotated[str, Control("Speed", "Tokens per second, by value.", section="Fake")] = "threads=2:80"
    faults: Annotated[str, Control("Faults", "What goes wrong, by value.", section="Fake")] = ""
    hold: Annotated[str, Control("Hold", "A file that keeps replies from being written.", section="Fake")] = ""
    seconds: Annotated[float, Control("Seconds", "What each reply really takes.", section="Fake")] = 0.0


class TunableLoader(Loader[TunableParameters]):
    def load(self, progress: ReportProgress) -> LoadedModel:
        self._strike(late=False)
        return LoadedModel(self.parameters.context_size, "CPU", "cpu", "tunable", "1")

    def tokenize(self, text: str, *, add_bos: bool) -> list[int]:
        return [len(word) for word in text.split()]

    def generate(self, request: GenerationRequest, cancelled: threading.Event) -> Iterator[Chunk | Finished]:
        self._strike(late=True)
        cancelled.wait(self.parameters.seconds)
        while self.parameters.hold and Path(self.parameters.hold).exists() and " " in request.prompt:
            if cancelled.wait(MOMENT):
                yield Finished("cancelled", 1, 0, 0.0, 0.0)
                return
        speed = float(next(self._fitting(self.parameters.speed), "50"))
        prompt, tokens = len(request.prompt.split()), request.sampling.max_tokens
        yield Chunk("word " * tokens, tokens)
        yield Finished("length", prompt, tokens, prompt / PROMPT_SPEED, (tokens - 1) / speed)

    def _strike(self, *, late: bool) -> None:
        for fault in self._fitting(self.parameters.faults):
            if fault.startswith("late ") == late:
                self._commit(fault.removeprefix("late "))

    def _fitting(self, rules: str) -> Iterator[str]:
        """What the rules say of the parameters as they are."""
        values = self.parameters.model_dump(mode="json")
        for rule in filter(None, rules.split(",")):
            condition, _, said = rule.partition(":")
            name, _, value = condition.partition("=")
            if str(values[name]) == value:
                yield said

    def _commit(self, fault: str) -> None:
        if fault == "refuse":
            raise EngineRefused("The engine refuses.", cause="it was told to")
        if fault == "hang":
            time.sleep(3600)
        faults.commit(fault)


SPEC = LoaderSpec(
    name="tunable",
    title="Tunable",
    summary="As fast as its table says.",
    parameters=TunableParameters,
    loader=TunableLoader,
    formats=frozenset(ModelFormat),
    devices=("cpu",),
    samplers=frozenset({"max_tokens"}),
    can_open=lambda facts: Verdict(True, "opens anything"),
)
