"""A worker without a process: the toy's behaviour at the speed of the event loop, for storms of thousands of steps."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import random
from collections import deque
from collections.abc import AsyncGenerator, Callable
from typing import Any

from webui.errors import AppError, EngineCrashed, EngineRefused, TimedOut
from webui.loaders.contract import Chunk, Finished, FinishReason, GenerationRequest, LoadedModel, LoaderSpec
from webui.loaders.parameters import Parameters
from webui.loaders.supervisor import WorkerLimits
from webui.models.facts import ModelFacts

MOMENT = 0.002
"""Seconds that anything takes at most which is not slow."""


class Machine:
    """Where quick workers live: who is alive, and the dice that say how long things take."""

    def __init__(self, seed: int) -> None:
        self.dice = random.Random(seed)
        self.living: dict[int, QuickWorker] = {}
        self.pids = itertools.count(1)

    def worker(self, spec: LoaderSpec, *, limits: WorkerLimits) -> QuickWorker:
        return QuickWorker(self, spec, limits)

    def kill(self, pid: int) -> None:
        if pid in self.living:
            self.living[pid].die("SIGKILL")


class QuickWorker:
    """See the module; the methods are those of `WorkerProcess`."""

    def __init__(self, machine: Machine, spec: LoaderSpec, limits: WorkerLimits) -> None:
        self.spec = spec
        self.exited = asyncio.Event()
        self.output: deque[str] = deque(["quick"])
        self.pid: int | None = None
        self.parameters: Any = None
        self.hung = False
        self._machine = machine
        self._limits = limits
        self._dying = False
        self._gone = asyncio.Event()  # what those who wait for an answer hear
        self._signal = ""
        self._verdict: AppError | None = None

    async def start(self) -> None:
        self.pid = next(self._machine.pids)
        self._machine.living[self.pid] = self
        try:
            await self.pause()
        except asyncio.CancelledError:
            await asyncio.shield(self.stop())
            raise

    async def load(
        self, facts: ModelFacts, parameters: Parameters, progress: Callable[[str, float | None], None]
    ) -> LoadedModel:
        self.parameters = parameters
        await self.pause()
        progress("reading", 0.5)
        fault = self.parameters.fault
        if fault == "refuse":
            raise EngineRefused("The toy refuses.")
        if fault == "crash":
            self.die("SIGSEGV")
        if fault == "hang":
            try:
                async with asyncio.timeout(self._limits.load_seconds):
                    await self.pause(3600)
            except TimeoutError:
                raise TimedOut("Loading took too long.") from None
        await self.pause(0.05 if fault == "slow" else MOMENT)
        return LoadedModel(1000, "CPU", "cpu", "quick", "1", slots=self.parameters.slots)

    async def tokenize(self, text: str, *, add_bos: bool) -> list[int]:
        await self.pause()
        return [len(word) for word in text.split()]

    def generate(self, request: GenerationRequest) -> QuickGeneration:
        return QuickGeneration(self, request)

    def memory_bytes(self) -> int | None:
        return None if self._dying else 1000

    def peak_memory_bytes(self) -> int | None:
        return self.memory_bytes()

    async def end_hung(self, error: AppError) -> None:
        self._verdict, self.hung = self._verdict or error, True
        await asyncio.sleep(MOMENT)
        self.die("SIGKILL")

    async def stop(self) -> None:
        if self.pid is None:
            return
        await asyncio.sleep(self._machine.dice.uniform(0, 5 * MOMENT))
        self.die("")
        await self.exited.wait()

    def death(self) -> AppError:
        if self._verdict is not None:
            return AppError.from_dict(self._verdict.to_dict())
        return EngineCrashed(f"{self.spec.title} crashed ({self._signal}).", signal=self._signal)

    def die(self, signal: str) -> None:
        """The process ends now; that it has is known a moment later."""
        if self._dying:
            return
        self._dying, self._signal = True, signal
        del self._machine.living[self.pid or 0]
        self._machine.dice.random()
        delay = self._machine.dice.choice((0.0, self._machine.dice.uniform(0, MOMENT)))
        asyncio.get_running_loop().call_later(delay, self._noticed)

    def _noticed(self) -> None:
        for event in self._machine.dice.sample((self.exited, self._gone), 2):
            event.set()

    async def pause(self, most: float = MOMENT) -> None:
        """Let time pass; raises the worker's death."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._machine.dice.uniform(0, most)):
                await self._gone.wait()
        if self._gone.is_set():
            raise self.death()


class QuickGeneration:
    """One reply of a quick worker."""

    def __init__(self, worker: QuickWorker, request: GenerationRequest) -> None:
        self._worker = worker
        self._words = request.prompt.split()
        self._most = request.sampling.max_tokens
        self._cancelled = False

    def cancel(self) -> None:
        self._cancelled = True

    async def events(self) -> AsyncGenerator[Chunk | Finished, None]:
        worker, reason = self._worker, "stop"
        try:
            await worker.pause()
        except AppError as death:
            death.facts["before_start"] = True
            raise
        if worker.parameters.fragile:
            worker.die("SIGSEGV")
        if worker.parameters.fault == "mute":
            await worker.pause(3600)
        count = 0
        for word in self._words:
            await worker.pause(max(worker.parameters.delay, 0.0001))
            if self._cancelled:
                reason = "cancelled"
                break
            if word.endswith("CRASH"):
                worker.die("SIGSEGV")
                await worker.pause(3600)
            if word.endswith("RAISE"):
                raise EngineRefused("The toy was told to raise.")
            if word.endswith("HANG"):
                await worker.pause(3600)
            if count == self._most:
                reason = "length"
                break
            count += 1
            yield Chunk(word + " ")
        yield Finished(_reason(reason), len(self._words), count, 0.0, 0.0)


def _reason(reason: str) -> FinishReason:
    return "cancelled" if reason == "cancelled" else "length" if reason == "length" else "stop"
