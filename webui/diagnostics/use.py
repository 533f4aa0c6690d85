"""The record of use together with what holds now: advice from it, and what its buttons do."""

from __future__ import annotations

import threading
import time
from dataclasses import replace
from typing import TYPE_CHECKING

from webui.diagnostics.benchmark_request import BenchmarkRequest, default_depths
from webui.diagnostics.tuning import Wanted
from webui.errors import AppError, InvalidRequest
from webui.hardware import memory
from webui.loaders.parameters import keep_known
from webui.models.facts import ModelFacts
from webui.models.inspect import model_id
from webui.planning.record import Record
from webui.planning.record_advice import advise
from webui.planning.record_rules import Act, Here, Loaded, RecordAdvice
from webui.planning.record_trend import models_of
from webui.pool import LoadRequest

if TYPE_CHECKING:
    from webui.context import AppContext

FRESH_SECONDS = 60.0
"""How old what was read may be where nothing was added: rules look back from now."""


class Use:
    """For pages: reads the record again only when something was added or some time has passed. For threads."""

    def __init__(self, context: AppContext) -> None:
        self._context = context
        self._lock = threading.Lock()
        self._read: tuple[int, float, Record] | None = None

    def record(self) -> Record:
        metrics = self._context.metrics
        with self._lock:
            changes, now = metrics.changes, time.monotonic()
            if self._read is None or self._read[0] != changes or now - self._read[1] > FRESH_SECONDS:
                self._read = (changes, now, metrics.record())
            return self._read[2]

    def advice(self) -> list[RecordAdvice]:
        """What holds now and was not dismissed, what matters most first."""
        record = self.record()
        return advise(record, here(self._context, record), self._context.metrics.dismissed())


def here(context: AppContext, record: Record) -> Here:
    """What the rules know of this machine; looks at files and packages."""
    engines, status = context.engines(), context.pool.status
    enabled = [spec for name, spec in context.loaders.items() if context.settings.backends.enabled(name)]
    loaded = None
    if status.facts is not None and status.model is not None and status.loader and status.started_at:
        loaded = Loaded(model_id(status.facts), status.loader, status.started_at, status.model.context_size)
    return Here(
        time.time(),
        ready=frozenset(spec.name for spec in enabled if spec.availability().ok),
        gpu=engines.gpu,
        on_gpu=frozenset(name for name, uses in engines.on_gpu.items() if uses),
        with_slots=frozenset(spec.name for spec in enabled if "slots" in spec.parameters.model_fields),
        suitable=_suitable(context, models_of(record)[:1]),
        loaded=loaded,
        free=memory.available(),
        memory=context.detected().memory.total,
    )


def _suitable(context: AppContext, models: list[str]) -> dict[str, frozenset[str]]:
    """Which backends can open the models, as far as their files are still there."""
    found = {}
    for model in models:
        try:
            candidates = context.pool.rank(context.catalogue.find(model))
        except AppError:
            continue
        found[model] = frozenset(one.loader for one in candidates if one.suitable)
    return found


async def carry_out(context: AppContext, act: Act, facts: ModelFacts) -> str:
    """Do what a button of advice on `facts` says; returns what was done. Raises `AppError`."""
    if act.kind == "prefer":
        spec = context.loaders[act.loader]
        saved = context.model_settings.get(facts.path).get("parameters", {})
        context.model_settings.save(facts.path, act.loader, keep_known(spec.parameters, saved))
        return f"{act.model} is loaded with {act.loader} from the next time on."
    if act.kind == "restart":
        await context.pool.load(_as_loaded(context, facts, act))
        return f"{act.model} was started again."
    if act.kind == "load":
        saved = context.model_settings.get(facts.path).get("parameters", {})
        spec = context.loaders[act.loader]
        parameters = {**keep_known(spec.parameters, saved), **act.parameters}
        await context.pool.load(LoadRequest(facts, act.loader, parameters, afresh=True))
        return f"{act.model} was loaded."
    if act.kind == "tune":
        saved = context.model_settings.get(facts.path).get("parameters", {})
        parameters = keep_known(context.loaders[act.loader].parameters, saved)
        context.tunings.start(Wanted(facts, (act.loader,), parameters=parameters))
        return "The search has begun; the Model tab shows how far it is."
    if act.kind == "benchmark":
        context.benchmarks.start(BenchmarkRequest(facts, (act.loader,), default_depths(facts)))
        return "The benchmark has begun; the Hardware tab shows how far it is."
    raise InvalidRequest("That cannot be done by a button.")


def _as_loaded(context: AppContext, facts: ModelFacts, act: Act) -> LoadRequest:
    """The load that the model came from, where it is still there."""
    status = context.pool.status
    if status.asked is not None and status.asked.facts.path == facts.path:
        return replace(status.asked, running="finish")
    return LoadRequest(facts, act.loader)
