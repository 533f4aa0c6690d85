"""A real model and a living worker for each entry of the map, for the contract suite.

A new backend needs nothing here: it gets the first of the models below that it opens as it is. One that needs more (a
program, a key) has a line in `NEEDS`.
"""

from __future__ import annotations

import asyncio
import stat
import sys
import threading
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import pytest

from tests.builders.gguf import tiny_llama_spm
from tests.builders.llama import Shape
from tests.builders.transformers_dir import tiny_llama_dir
from webui.loaders import LOADERS
from webui.loaders.contract import Chunk, Finished, GenerationRequest, LoadedModel, LoaderSpec
from webui.loaders.parameters import keep_known
from webui.loaders.sampling import SamplingParameters
from webui.loaders.supervisor import WorkerProcess
from webui.models.facts import ModelFacts
from webui.models.inspect import inspect_model

T = TypeVar("T")
CONTEXT = 768
COMMON = {"context_size": CONTEXT, "threads": 1, "slots": 2, "batch_size": 256}
SLOW = Shape(blocks=6, width=256, heads=8, heads_kv=4, feed_forward=1024)
"""Tiny, and still slow enough that a reply can be cancelled in the middle."""


@dataclass(frozen=True)
class Models:
    """The model files of the suite."""

    starter: Path
    sentencepiece: Path
    directory: Path

    def for_loader(self, spec: LoaderSpec) -> ModelFacts:
        """The first model that `spec` opens without converting it."""
        for path in (self.starter, self.sentencepiece, self.directory):
            facts = inspect_model(path)
            verdict = spec.can_open(facts)
            if verdict.ok and not verdict.converts:
                return facts
        raise AssertionError(f"no model for {spec.name}: add one to tests/loaders/conftest.py")


def _server_program(folder: Path) -> dict[str, Any]:
    """llama.cpp's real server behind an executable that takes llama-server's flags."""
    script = Path(__file__).parents[1] / "fakes" / "llama_server.py"
    program = folder / "llama-server"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{script}" "$@"\n')
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    return {"executable": str(program)}


NEEDS: dict[str, Callable[[Path], dict[str, Any]]] = {"llamafile": _server_program}
"""Parameters a backend cannot do without, made in a folder of the test's."""


@dataclass(frozen=True)
class Reply:
    """A whole generation: its text, its chunks, its end."""

    text: str
    chunks: tuple[Chunk, ...]
    finished: Finished


class LivingEngine:
    """A worker with a loaded model, driven from synchronous tests; its event loop runs in a thread of its own."""

    def __init__(self, spec: LoaderSpec, facts: ModelFacts, parameters: dict[str, Any]) -> None:
        self.spec = spec
        self.facts = facts
        self.parameters = spec.parameters.parse(keep_known(spec.parameters, {**COMMON, **parameters}))
        self.model: LoadedModel
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self.worker = WorkerProcess(spec)

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(240)

    def load(self) -> LivingEngine:
        self.run(self.worker.start())
        self.model = self.run(self.worker.load(self.facts, self.parameters))
        return self

    def close(self) -> None:
        self.run(self.worker.stop())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def tokenize(self, text: str, *, add_bos: bool = True) -> list[int]:
        return self.run(self.worker.tokenize(text, add_bos=add_bos))

    def ask(
        self, prompt: str, *, stop: tuple[str, ...] = (), cancel_after: int | None = None, **sampling: Any
    ) -> Reply:
        """Generate; `cancel_after` cancels when so many chunks have come."""
        return self.run(self.collect(prompt, stop=stop, cancel_after=cancel_after, **sampling))

    async def collect(
        self, prompt: str, *, stop: tuple[str, ...] = (), cancel_after: int | None = None, **sampling: Any
    ) -> Reply:
        request = GenerationRequest(prompt, SamplingParameters(**{"temperature": 0.0, **sampling}), stop)
        return await self.collect_request(request, cancel_after)

    async def collect_request(self, request: GenerationRequest, cancel_after: int | None = None) -> Reply:
        generation = self.worker.generate(request)
        chunks: list[Chunk] = []
        finished: Finished | None = None
        async for event in generation.events():
            assert finished is None, "Finished is the last event"
            if isinstance(event, Finished):
                finished = event
            else:
                chunks.append(event)
            if len(chunks) == cancel_after:
                generation.cancel()
        assert finished is not None
        return Reply("".join(chunk.text for chunk in chunks), tuple(chunks), finished)


@pytest.fixture(scope="session")
def models(starter_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Models:
    folder = tmp_path_factory.mktemp("models")
    return Models(
        starter_model,
        tiny_llama_spm(folder / "sentencepiece.gguf", shape=SLOW),
        tiny_llama_dir(folder / "directory", shape=SLOW),
    )


@pytest.fixture(scope="session")
def start_engine(models: Models, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., LivingEngine]:
    """Start a worker of the named loader on its model (or on `facts`) and load it; the caller closes it."""

    def start(name: str, facts: ModelFacts | None = None, **parameters: Any) -> LivingEngine:
        spec = LOADERS[name]
        needed = NEEDS[name](tmp_path_factory.mktemp("needs")) if name in NEEDS else {}
        living = LivingEngine(spec, facts or models.for_loader(spec), {**needed, **parameters})
        try:
            return living.load()
        except BaseException:
            living.close()
            raise

    return start


@pytest.fixture(scope="module", params=list(LOADERS))
def engine(request: pytest.FixtureRequest, start_engine: Callable[..., LivingEngine]) -> Iterator[LivingEngine]:
    """One worker for each entry of the map, shared by the tests of a module."""
    living = start_engine(request.param)
    yield living
    living.close()
