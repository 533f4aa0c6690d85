"""Trying models for real: each is loaded, answers one token, and is let go again.

The model that is loaded is put aside meanwhile and brought back afterwards. What was learnt about earlier loads is left
aside: everything is tried as it is asked.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from webui.diagnostics.load_result import LoadResult
from webui.diagnostics.long_work import LongRun, LongWork, Runs
from webui.errors import AppError, Cancelled
from webui.hardware import memory
from webui.hardware.facts import total_device_memory
from webui.models.facts import ModelFacts
from webui.models.inspect import model_id
from webui.planning.selection import Candidate
from webui.pool import LoadRequest, Pool
from webui.pool.pool import open_pool

if TYPE_CHECKING:
    from webui.context import AppContext

AUTO = "auto"
ALL = "all"
WHY = "Models are being tested."


@dataclass(frozen=True, slots=True)
class Wanted:
    """One load to try; `loader` is a name or "auto"."""

    facts: ModelFacts
    loader: str = AUTO


OnResult = Callable[[LoadResult], None]
OnStart = Callable[[Wanted], None]


async def try_load(pool: Pool, request: LoadRequest) -> LoadResult:
    """Load, see one token, and say how it went; the model stays. Only a cancellation is raised."""
    name, path = model_id(request.facts), request.facts.path
    try:
        status = await pool.load(request)
    except Cancelled:
        raise
    except AppError as error:
        steps = [rung for rung in pool.status.ladder if rung.state == "failed"]
        return LoadResult(name, path, request.loader, False, steps=len(steps), error=error)
    return LoadResult(
        name,
        path,
        status.loader or request.loader,
        True,
        load_time=status.load_seconds,
        memory_usage=status.memory_bytes,
        device=status.model.device if status.model is not None else "",
        steps=sum(rung.state in ("worked", "failed") for rung in status.ladder),
        degraded=status.degraded.sentence if status.degraded is not None else "",
    )


async def try_models(
    context: AppContext,
    wanted: Sequence[Wanted],
    *,
    on_start: OnStart = lambda one: None,
    on_result: OnResult = lambda result: None,
) -> list[LoadResult]:
    """Try each in turn. Raises `Busy` while a load or a reply is on."""
    found: list[LoadResult] = []
    async with context.pool.set_aside(WHY), _pool(context) as pool:
        for one in wanted:
            on_start(one)
            found.append(await try_load(pool, LoadRequest(one.facts, one.loader)))
            on_result(found[-1])
            await pool.unload()
    return found


def each(context: AppContext, models: Sequence[ModelFacts], loaders: Sequence[str] = ()) -> list[Wanted]:
    """What to try: with the loader that would be chosen, with those named, or with `ALL` that are ready for it."""
    if ALL not in loaders:
        return [Wanted(facts, loader) for facts in models for loader in loaders or (AUTO,)]
    return [Wanted(facts, one.loader) for facts in models for one in ready(context, facts)]


def ready(context: AppContext, facts: ModelFacts) -> list[Candidate]:
    return [candidate for candidate in context.pool.rank(facts) if candidate.suitable]


def _pool(context: AppContext) -> Any:
    """A pool of its own, in which nothing is remembered of earlier loads, and whose failures are in the history."""
    return open_pool(
        lambda: context.settings,
        context.loaders,
        available_memory=memory.available,
        device_memory=context.free_on_devices,
        device_total=lambda: total_device_memory(context.usable()),
        history=context.history,
        plan=context.plan,
        engines=context.engines,
        devices=context.devices,
    )


@dataclass(slots=True)
class ModelTestRun(LongRun):
    """A run, as it is shown: `results` grows, `now` is what is being tried."""

    wanted: Sequence[Wanted]
    now: Wanted | None = None
    results: list[LoadResult] = field(default_factory=list)


class ModelTests(Runs[ModelTestRun]):
    """The tests of the running app. Methods belong to the event loop."""

    def __init__(self, context: Callable[[], AppContext], long_work: LongWork) -> None:
        super().__init__(long_work, why=WHY, doing="Testing models")
        self._context = context

    def start(self, wanted: Sequence[Wanted]) -> ModelTestRun:
        """Begin in the background; raises `Busy` while something else has the machine."""
        run = ModelTestRun(wanted)
        return self.begin(run, lambda: self._work(run))

    async def _work(self, run: ModelTestRun) -> None:
        def begun(one: Wanted) -> None:
            run.now = one

        try:
            await try_models(self._context(), run.wanted, on_start=begun, on_result=run.results.append)
        finally:
            run.now = None
