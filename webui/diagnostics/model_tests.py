"""Trying models for real: each is loaded, answers one token, and is let go again.

The model that is loaded is put aside meanwhile and brought back afterwards. One run at a time, which goes on when the
page that started it is closed. What was learnt about earlier loads is left aside: everything is tried as it is asked.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from webui.errors import AppError, Busy, Cancelled
from webui.hardware import memory
from webui.hardware.facts import total_device_memory
from webui.models.facts import ModelFacts
from webui.models.inspect import model_id
from webui.planning.selection import Candidate
from webui.pool import LoadRequest, Pool
from webui.pool.pool import open_pool
from webui.pool.tasks import as_app_error

if TYPE_CHECKING:
    from webui.context import AppContext

log = logging.getLogger(__name__)

AUTO = "auto"
ALL = "all"
WHY = "Models are being tested."


@dataclass(frozen=True, slots=True)
class LoadResult:
    """How one load went. `backend` is the one that opened the model, or was asked for where none did.

    `load_time` is seconds, `memory_usage` the bytes its process holds, `steps` how many attempts it took; `degraded`
    says what the model had to do without.
    """

    model: str
    path: Path
    backend: str
    success: bool
    load_time: float | None = None
    memory_usage: int | None = None
    device: str = ""
    steps: int = 0
    degraded: str = ""
    error: AppError | None = None

    def to_dict(self) -> dict[str, Any]:
        return {
            "model": self.model,
            "path": str(self.path),
            "backend": self.backend,
            "success": self.success,
            "load_time": self.load_time,
            "memory_usage": self.memory_usage,
            "device": self.device,
            "steps": self.steps,
            "degraded": self.degraded,
            "error": self.error.to_dict() if self.error is not None else None,
        }


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


State = Literal["running", "done", "stopped", "failed"]


@dataclass(slots=True)
class ModelTestRun:
    """A run, as it is shown: `results` grows, `now` is what is being tried."""

    wanted: Sequence[Wanted]
    state: State = "running"
    now: Wanted | None = None
    results: list[LoadResult] = field(default_factory=list)
    error: AppError | None = None
    started_at: float = field(default_factory=time.time)

    @property
    def running(self) -> bool:
        return self.state == "running"


class ModelTests:
    """Starts runs, ends them on request, and remembers the last one. Methods belong to the event loop."""

    def __init__(self, context: Callable[[], AppContext]) -> None:
        self._context = context
        self._task: asyncio.Task[None] | None = None
        self.latest: ModelTestRun | None = None

    def start(self, wanted: Sequence[Wanted]) -> ModelTestRun:
        """Begin in the background; raises `Busy` while something else has the machine."""
        context = self._context()
        if self.latest is not None and self.latest.running:
            raise Busy(WHY, hint="Wait until that is done, or stop it.")
        if context.benchmarks.running:
            raise Busy("A benchmark is running.", hint="Wait until that is done, or stop it.")
        self.latest = run = ModelTestRun(wanted)
        self._task = asyncio.get_running_loop().create_task(self._run(run), name="model tests")
        return run

    async def stop(self) -> None:
        """End the run that is on; returns when the model before it is back."""
        if self._task is not None and not self._task.done():
            await asyncio.sleep(0)  # a task that is cancelled before its first step ends without a word
            self._task.cancel()
            await asyncio.wait([self._task])

    async def _run(self, run: ModelTestRun) -> None:
        def begun(one: Wanted) -> None:
            run.now = one

        try:
            await try_models(self._context(), run.wanted, on_start=begun, on_result=run.results.append)
            run.state = "done"
        except asyncio.CancelledError:
            run.state = "stopped"
        except Exception as error:
            run.state, run.error = "failed", as_app_error(error, "Testing models")
            if run.error is not error:
                log.exception("Testing models broke")
        finally:
            run.now = None
