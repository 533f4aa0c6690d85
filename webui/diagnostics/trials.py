"""Trials of settings: short real measurements in worker processes of their own, a few of which are kept between trials.

Loading is most of a trial. Settings that race against each other are measured in turns, so their workers are kept, as
many as memory holds. An engine that crashes, hangs, refuses or takes too long costs its own trial and nothing else.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from webui.errors import AppError, EngineHung, HostOutOfMemory, TimedOut
from webui.loaders.contract import Finished, GenerationRequest, LoadedModel, LoaderSpec
from webui.loaders.generation import Generation
from webui.loaders.sampling import SamplingParameters
from webui.loaders.supervisor import WorkerLimits, WorkerProcess
from webui.models.facts import ModelFacts
from webui.planning.plan import MemoryPlan
from webui.planning.races import Result
from webui.pool.tasks import to_the_end

MOST_WORKERS = 5
ROOM = 0.5
"""A worker is kept beside others where the next one takes less than this share of the memory that is free."""
WARMING_TOKENS = 4
WARMING_WORDS = 16
CANCEL_SECONDS = 3.0
"""How long an engine may take to listen to a cancel before its worker is ended."""
LEAST_TOKENS = 4
"""A reply cut short with fewer tokens has no speed to tell."""
SILENCE_SECONDS = 60.0
LEAST_LIMIT = 5.0
PROMPT_SECONDS, REPLY_SECONDS = 1.0, 1.0
"""How long a trial's prompt and reply should take with the settings in force."""
PROMPTS, REPLIES = (96, 512), (16, 128)
"""Bounds of their tokens."""
TEXT = (
    "the small house stood by the sea and in the evening people came there to hear of ships and storms and of lamps in "
    "far windows that were lit for those who had gone out in the morning and had not come back with the others"
)


@dataclass(frozen=True, slots=True)
class Load:
    """What each trial makes the engine do: a prompt of about this many words, and a reply of at most so many tokens."""

    words: int = 64
    tokens: int = 24


@dataclass(frozen=True, slots=True)
class Measured:
    """A trial that went well, with what it tells beside the speeds."""

    result: Result
    prompt_tokens: int
    own_seconds: float
    load_seconds: float
    memory_bytes: int | None


@dataclass(slots=True)
class Kept:
    """A worker with the model loaded."""

    worker: WorkerProcess
    model: LoadedModel
    load_seconds: float


Plan = Callable[[str, Mapping[str, Any]], MemoryPlan]
"""What a load with (loader, its parameters) takes here, and whether it fits."""


class TrialBench:
    """The workers of one model's trials. Belongs to one event loop; `close` leaves no process."""

    def __init__(self, facts: ModelFacts, loaders: Mapping[str, LoaderSpec], plan: Plan, limits: WorkerLimits) -> None:
        self.load = Load()
        self._facts, self._loaders, self._plan, self._limits = facts, loaders, plan, limits
        self._kept: dict[str, Kept] = {}
        self._starting: set[WorkerProcess] = set()
        self._count = 0

    async def measure(
        self, loader: str, parameters: Mapping[str, Any], *, limit: float, keep: Mapping[str, Any] | None = None
    ) -> Measured:
        """One trial of a loader with its full `parameters`; raises the `AppError` of one that fails.

        `limit` bounds the seconds of the prompt and the reply. The worker with the parameters `keep` is not ended to
        make room for this one, unless memory asks for it.
        """
        began = time.monotonic()
        kept = await self._worker(loader, parameters, limit, _key(loader, keep) if keep is not None else "")
        try:
            finished = await self._reply(kept, self._request(kept.model, self.load), limit)
        except BaseException:
            await self._drop(_key(loader, parameters))
            raise
        own = finished.prompt_seconds + finished.generation_seconds
        result = replace(_result(finished), seconds=time.monotonic() - began)
        if result.reply <= 0:
            raise TimedOut(f"The engine wrote {finished.completion_tokens} tokens, which are too few to measure.")
        return Measured(result, finished.prompt_tokens, own, kept.load_seconds, kept.worker.memory_bytes())

    async def calibrate(self, loader: str, parameters: Mapping[str, Any], *, limit: float) -> Measured:
        """Measure once, and from then on let trials be as long as suits this speed."""
        seen = await self.measure(loader, parameters, limit=limit)
        per_word = max(1.0, seen.prompt_tokens / self.load.words)
        prompt = _between(PROMPTS, (seen.result.prompt or 0.0) * PROMPT_SECONDS)
        self.load = Load(round(prompt / per_word), _between(REPLIES, seen.result.reply * REPLY_SECONDS))
        return seen

    async def close(self) -> None:
        """End all workers."""
        workers = [*(kept.worker for kept in self._kept.values()), *self._starting]
        self._kept.clear()
        await to_the_end(_stop_all(workers))

    # --- workers --------------------------------------------------------------------------------------------------

    async def _worker(self, loader: str, parameters: Mapping[str, Any], limit: float, keep: str) -> Kept:
        key = _key(loader, parameters)
        kept = self._kept.pop(key, None)
        if kept is not None and not kept.worker.exited.is_set():
            self._kept[key] = kept  # the latest used is the last
            return kept
        await self._make_room(loader, parameters, keep)
        kept = await self._started(loader, parameters, limit)
        self._kept[key] = kept
        return kept

    async def _make_room(self, loader: str, parameters: Mapping[str, Any], keep: str) -> None:
        """End the workers used longest ago: beyond the most there may be, or all where memory is short."""
        while self._kept:
            plan = self._plan(loader, parameters)
            short = any(one.available is not None and one.kept > one.available * ROOM for one in plan.devices)
            if not short and plan.fits and len(self._kept) < MOST_WORKERS:
                return
            oldest = next((key for key in self._kept if key != keep or short or not plan.fits), "")
            await self._drop(oldest)
        plan = self._plan(loader, parameters)
        if not plan.fits:
            raise HostOutOfMemory("It does not fit in memory.", cause=plan.constraint)

    async def _started(self, loader: str, parameters: Mapping[str, Any], limit: float) -> Kept:
        spec = self._loaders[loader]
        worker = WorkerProcess(spec, limits=self._limits)
        began = time.monotonic()
        self._starting.add(worker)
        try:
            await worker.start()
            model = await worker.load(self._facts, spec.parameters.parse(parameters, where=spec.title))
            kept = Kept(worker, model, time.monotonic() - began)
            await self._reply(kept, self._request(model, Load(WARMING_WORDS, WARMING_TOKENS)), limit)
        except BaseException:
            await to_the_end(worker.stop())
            raise
        finally:
            self._starting.discard(worker)
        return kept

    async def _drop(self, key: str) -> None:
        if (kept := self._kept.pop(key, None)) is not None:
            await to_the_end(kept.worker.stop())

    # --- one reply ------------------------------------------------------------------------------------------------

    def _request(self, model: LoadedModel, load: Load) -> GenerationRequest:
        """A prompt like no other before it, from its first word on: no engine has any of it in its cache."""
        self._count += 1
        most = max(1, model.context_size // 2)
        words = TEXT.split()
        count = max(1, min(load.words, most // 2) - 2)
        rest = (words[(self._count * 7 + place) % len(words)] for place in range(count))
        prompt = " ".join([str(self._count), "times", *rest])
        return GenerationRequest(prompt, SamplingParameters(max_tokens=min(load.tokens, most), temperature=0.0))

    async def _reply(self, kept: Kept, request: GenerationRequest, limit: float) -> Finished:
        """The end of a reply, which is cut short after `limit` seconds; raises where that leaves nothing to measure."""
        generation = kept.worker.generate(request)
        reading = asyncio.create_task(_read(generation))
        try:
            done, _ = await asyncio.wait({reading}, timeout=max(LEAST_LIMIT, limit))
            if not done:
                generation.cancel()
                done, _ = await asyncio.wait({reading}, timeout=CANCEL_SECONDS)
            if not done:
                hung = EngineHung(f"{kept.worker.spec.title} fell silent, and was ended.")
                await to_the_end(kept.worker.end_hung(hung))
                raise hung
            finished = reading.result()
        finally:
            reading.cancel()
            with contextlib.suppress(asyncio.CancelledError, AppError):
                await reading
        if finished.reason == "cancelled" and finished.completion_tokens < LEAST_TOKENS:
            raise TimedOut(f"It was cut short after {limit:.0f} s, far slower than the usual settings.")
        return finished


async def _read(generation: Generation) -> Finished:
    async with contextlib.aclosing(generation.events()) as events:
        async for event in events:
            if isinstance(event, Finished):
                return event
    raise AssertionError("a generation ends with its end")


async def _stop_all(workers: list[WorkerProcess]) -> None:
    await asyncio.gather(*(worker.stop() for worker in workers))


def _result(finished: Finished) -> Result:
    """Speeds by the engine's own clock: what the app adds is the same for all settings."""
    read = finished.prompt_tokens - finished.cached_tokens
    prompt = read / finished.prompt_seconds if finished.prompt_seconds > 0 else None
    tokens, seconds = finished.completion_tokens - 1, finished.generation_seconds
    return Result(tokens / seconds if seconds > 0 and tokens > 0 else 0.0, prompt)


def _between(bounds: tuple[int, int], value: float) -> int:
    return max(bounds[0], min(bounds[1], round(value)))


def _key(loader: str, parameters: Mapping[str, Any]) -> str:
    return json.dumps([loader, parameters], sort_keys=True, default=str)
