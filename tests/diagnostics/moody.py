"""Loaders for benchmarks: the toy with a clock, one that crashes in the middle, one that reads from its cache."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from dataclasses import replace

from tests.loaders import toy
from webui.loaders.contract import Chunk, Finished, GenerationRequest

CRASHES_AT = 4
"""The prompt at which the moody loader crashes: its first tokens and the warm-up are behind it."""


class MoodyLoader(toy.ToyLoader):
    asked = 0

    def generate(self, request: GenerationRequest, cancelled: threading.Event) -> Iterator[Chunk | Finished]:
        self.asked += 1
        if self.parameters.fault == "moody" and self.asked == CRASHES_AT:
            signal.raise_signal(signal.SIGSEGV)
        for event in super().generate(request, cancelled):
            if isinstance(event, Finished):
                cached = event.prompt_tokens - 1 if self.parameters.fault == "cached" else 0
                event = replace(event, prompt_seconds=0.5, cached_tokens=cached)
            yield event


def spec(name: str, fault: str = "", **values: object) -> tuple[toy.LoaderSpec, dict[str, object]]:
    """A loader called `name`, and the settings that make it behave as `fault` says."""
    settings = {f"loaders.{name}.{key}": value for key, value in {"fault": fault, "delay": 0.002, **values}.items()}
    return replace(toy.SPEC, name=name, title=name, loader=MoodyLoader, safe_steps=()), settings
