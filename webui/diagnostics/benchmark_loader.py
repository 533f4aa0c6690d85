"""The benchmark of one loader: loads it, warms it up, and measures replies at every depth, turn and turn about."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from typing import Any

from webui.diagnostics.benchmark_prompts import Prompts
from webui.diagnostics.benchmark_request import BenchmarkRequest, prompt_tokens
from webui.diagnostics.benchmark_results import DepthResult, LoaderResult, figure
from webui.diagnostics.benchmark_sample import Sample, others_busy, sample
from webui.errors import AppError, Busy, Cancelled, ContextTooLong, EngineRefused
from webui.loaders.contract import LoadedModel, LoaderSpec
from webui.loaders.parameters import keep_known
from webui.pool import LoadRequest, Pool, PoolState, PoolStatus

MOST_LOADS = 3
"""Loads per loader: they take long and vary little."""
WARM_UP_TOKENS = 8
LOAD_WEIGHT = 300
READ_WEIGHT = 0.1
"""What a load, and a token of a prompt, count for in the share that is done; a token of a reply counts for one."""

Report = Callable[[str, float], None]


class Superseded(Cancelled):
    """Somebody else took the pool while it was being measured."""

    default_hint = "Run the benchmark again when nobody loads or unloads models."


@dataclass(slots=True)
class _Depth:
    """What was measured at one depth so far."""

    depth: int
    samples: list[Sample] = field(default_factory=list)
    memory: int | None = None
    problem: str = ""

    def result(self) -> DepthResult:
        return DepthResult(
            self.depth,
            tuple(one.prompt_tokens for one in self.samples),
            tuple(one.completion_tokens for one in self.samples),
            figure(one.prompt_tokens_per_second for one in self.samples),
            figure(one.tokens_per_second for one in self.samples),
            figure(one.first_token_seconds for one in self.samples),
            self.memory,
            self.problem or self._missing(),
        )

    def _missing(self) -> str:
        if self.samples and all(one.tokens_per_second is None for one in self.samples):
            return "The model ended its replies after one token, which says nothing about speed."
        if self.samples and all(one.prompt_tokens_per_second is None for one in self.samples):
            return "The engine had the prompts in its cache, or did not tell how long it read them."
        return ""


class LoaderBenchmark:
    """`run` measures; `result` is what there is so far, also after a failure. `disturbed` as in `BenchmarkRun`."""

    def __init__(
        self,
        pool: Pool,
        spec: LoaderSpec,
        request: BenchmarkRequest,
        configured: Mapping[str, Any],
        *,
        report: Report,
        on_change: Callable[[LoaderResult], None],
    ) -> None:
        self.result = LoaderResult(spec.name)
        self.disturbed = False
        self._pool = pool
        self._spec = spec
        self._request = request
        self._wanted, self._notes = parameters_for(request, spec, configured)
        self._report = report
        self._on_change = on_change
        self._loads: list[float] = []
        self._depths = [_Depth(depth) for depth in request.depths]
        self._model: LoadedModel | None = None
        self._done = 0.0

    async def run(self) -> LoaderResult:
        """Raises `Superseded`; any other failure is part of the result."""
        try:
            for turn in range(self._times):
                await self._load(turn)
            await self._measure()
        except Superseded:
            raise
        except AppError as error:
            if self._model is not None and (cause := self._taken()):
                raise Superseded("The benchmark was ended.", cause=cause) from error
            self.result = replace(self.result, error=error.to_dict())
        self._changed()
        return self.result

    # --- loading ------------------------------------------------------------------------------------------------

    @property
    def _times(self) -> int:
        return min(self._request.runs, MOST_LOADS)

    async def _load(self, turn: int) -> None:
        self._tell(f"loading, {turn + 1} of {self._times}")
        status = await load(self._pool, LoadRequest(self._request.facts, self._spec.name, self._wanted))
        self._model = status.model
        self._loads.append(status.load_seconds or 0.0)
        self._done += LOAD_WEIGHT
        if turn + 1 == self._times and self._model is not None:
            self._describe(status, self._model)

    def _describe(self, status: PoolStatus, model: LoadedModel) -> None:
        degraded = (status.degraded.sentence,) if status.degraded is not None else ()
        self.result = replace(
            self.result,
            device=model.device,
            engine=model.engine,
            engine_version=model.engine_version,
            version=self._spec.availability(self._request.facts, status.parameters).version,
            context_size=model.context_size,
            parameters=status.parameters,
            notes=(*self._notes, *degraded, *status.notes),
        )

    # --- measuring ----------------------------------------------------------------------------------------------

    async def _measure(self) -> None:
        prompts = Prompts(self._pool.tokenize)
        await self._alone()
        self._tell("warming up")
        await self._sample(await prompts.of(prompt_tokens(0), 0), min(WARM_UP_TOKENS, self._request.reply_tokens))
        room = self._model.context_size if self._model is not None else 0
        for one in self._depths:
            needed = self._request.context_for(one.depth)
            if room and needed > room:
                one.problem = f"It takes a context of {needed:,} tokens; this one holds {room:,}."
        for run in range(1, self._request.runs + 1):
            for one in self._depths:
                if not one.problem:
                    self._tell(f"run {run} of {self._request.runs} at depth {one.depth:,}")
                    await self._measure_at(one, run, prompts)
                self._done += self._weight(one.depth)
                self._changed()

    async def _measure_at(self, one: _Depth, run: int, prompts: Prompts) -> None:
        prompt = await prompts.of(prompt_tokens(one.depth), run)
        try:
            one.samples.append(await self._sample(prompt, self._request.reply_tokens))
        except ContextTooLong as error:
            one.problem = f"{error.message} {error.cause}".strip()
        held = [worker.memory_bytes for worker in self._pool.workers() if worker.state == "serving"]
        one.memory = max((size for size in (one.memory, *held) if size is not None), default=None)

    async def _sample(self, prompt: str, reply_tokens: int) -> Sample:
        self._check_ours()
        began = time.time()
        try:
            found = await sample(self._pool, prompt, reply_tokens)
        finally:
            self.disturbed |= others_busy(self._pool, began)
        self._check_ours()  # the job may have been handed over
        return found

    def _check_ours(self) -> None:
        """Raises `Superseded` where somebody has chosen another model, `EngineRefused` where the engine began anew."""
        if cause := self._taken():
            raise Superseded("The benchmark was ended.", cause=cause)
        status = self._pool.status
        if status.model is not self._model or status.state is not PoolState.READY:
            raise EngineRefused("The engine had to be started again in the middle of the benchmark.")

    def _taken(self) -> str:
        """What somebody else has done with the pool; empty where it holds what was loaded here, or tries to."""
        status = self._pool.status
        if status.state is PoolState.EMPTY:
            return "the model was unloaded meanwhile"
        same = status.facts is None or status.facts.path == self._request.facts.path
        if not same or status.incoming is not None or (status.loader or self._spec.name) != self._spec.name:
            return "another model was loaded meanwhile"
        return ""

    async def _alone(self) -> None:
        """Models on their way out may still be writing replies: wait until they are gone."""
        self._tell("waiting for the model before it to finish")
        async with aclosing(self._pool.watch()) as changes:
            async for _ in changes:
                if len(self._pool.pids()) <= 1:
                    return

    # --- telling ------------------------------------------------------------------------------------------------

    def _weight(self, depth: int) -> float:
        return prompt_tokens(depth) * READ_WEIGHT + self._request.reply_tokens

    def _tell(self, text: str) -> None:
        whole = self._times * LOAD_WEIGHT + self._request.runs * sum(map(self._weight, self._request.depths))
        self._report(f"{self._spec.name}: {text}", min(1.0, self._done / whole))

    def _changed(self) -> None:
        held = max((one.memory for one in self._depths if one.memory is not None), default=None)
        peak = self._pool.peak_memory_bytes() if self._model is not None else None
        self.result = replace(
            self.result,
            load=figure(self._loads),
            depths=tuple(one.result() for one in self._depths if one.samples or one.problem),
            memory_bytes=held,
            # The system counts the peak in coarser steps than what is held.
            peak_memory_bytes=max(peak, held or 0) if peak is not None else None,
        )
        self._on_change(self.result)


async def load(pool: Pool, request: LoadRequest) -> PoolStatus:
    """Load within the benchmark: whoever cancels the benchmark cancels the load. Raises `Superseded` where somebody
    else is loading, or cancels this load.
    """
    try:
        return await pool.load(request)
    except asyncio.CancelledError:
        await pool.cancel_load()
        raise
    except (Busy, Cancelled) as error:
        raise Superseded("The benchmark was ended.", cause=error.message.rstrip(".").lower()) from error


def parameters_for(
    request: BenchmarkRequest, spec: LoaderSpec, configured: Mapping[str, Any]
) -> tuple[dict[str, Any], tuple[str, ...]]:
    """What to load with, and what is to be said of it. Raises `InvalidSetting`.

    Unless the context was chosen for the benchmark, it becomes as large as its depths need, as far as the model was
    trained for it.
    """
    wanted = keep_known(spec.parameters, request.parameters)
    notes = tuple(f"{spec.name} has no parameter {name}." for name in request.parameters if name not in wanted)
    values = spec.parameters.parse({**configured, **wanted}, where=f"the parameters of {spec.title}")
    present = getattr(values, "context_size", None)
    if present and "context_size" not in wanted:
        needed = min(request.context_size, request.facts.context_length or request.context_size)
        if needed > present:
            wanted["context_size"] = needed
    return wanted, notes
