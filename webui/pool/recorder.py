"""Makes the records of use out of what happens in the pool: figures, names and versions, never a word of a text."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import PurePath
from typing import Any

from webui.errors import AppError
from webui.hardware.sampling import Sample
from webui.loaders.supervisor import WorkerProcess
from webui.models.facts import ModelFacts
from webui.models.inspect import model_id
from webui.planning.evidence import INERT
from webui.planning.plan import CPU
from webui.planning.record import Conditions, LoadRecord, ReplyOutcome, ReplyRecord
from webui.planning.steps import Attempt
from webui.pool.choosing import PlanOf
from webui.pool.jobs import Job, JobState
from webui.pool.ladder import Ladder
from webui.pool.metrics import Metrics
from webui.pool.residency import Answered
from webui.pool.status import Rung

log = logging.getLogger(__name__)

TRIED = frozenset({"worked", "failed"})
MEMORY_PAUSE_SECONDS = 2.0
"""Between two looks at what a worker holds: each walks the table of processes."""
LEAST_TOKENS = 16
"""Fewer tokens measure the fixed cost of a request instead of the speed."""
MOST_TEXT = 80
MOST_WAITING = 2000

_OUTCOMES: Mapping[JobState, ReplyOutcome] = {JobState.DONE: "done", JobState.CANCELLED: "cancelled"}


@dataclass(frozen=True, slots=True)
class Sources:
    """What the pool does not know by itself: the GPUs' drivers, in words, the plan of a load, and what the monitor has
    sampled since a time, where somebody watched. The first two may take a moment and are asked in a thread.
    """

    driver: Callable[[], str] = lambda: ""
    plan: PlanOf | None = None
    samples: Callable[[float], Sequence[Sample]] = lambda since: ()


class Recorder:
    """All methods belong to the pool's event loop. Records are made one after the other in a thread beside it."""

    def __init__(self, metrics: Metrics, sources: Sources) -> None:
        self._metrics, self._sources = metrics, sources
        self._versions: dict[str, str] = {}
        self._driver: str | None = None
        self._waiting: list[Callable[[], None]] = []
        self._task: asyncio.Task[None] | None = None
        self._looked: tuple[WorkerProcess | None, float] = (None, float("-inf"))

    def load_ended(self, ladder: Ladder) -> None:
        """A load or restart has ended: each step that was an attempt to load is kept."""
        for climb in ladder.climbs:
            loaded = climb.residency.loaded
            self._versions |= {loader: version for loader, version in climb.versions.items() if version}
            for rung in climb.rungs:
                if rung.state in TRIED and rung.attempt.parameters:
                    stands = loaded if rung.state == "worked" else None
                    worker = climb.residency.worker if stands else None
                    if stands is not None:
                        self._versions[rung.attempt.loader] = stands.engine_version
                    version = self._versions.get(rung.attempt.loader, "")
                    device = stands.device_kind if stands is not None else ""
                    self._do(partial(self._keep_load, climb.residency.facts, rung, worker, device, version))

    def reply_ended(self, answered: Answered) -> None:
        """An engine has answered a job, to whatever end."""
        job = answered.job
        ended_at = job.created_at + (job.total_seconds or 0.0)
        samples = self._sources.samples(job.created_at + (job.started_seconds or 0.0))
        before, looked_at = self._looked
        now = time.monotonic()
        look = before is not answered.worker or now - looked_at >= MEMORY_PAUSE_SECONDS
        if look:
            self._looked = (answered.worker, now)
        self._do(partial(self._keep_reply, answered, ended_at, samples, look=look))

    async def close(self) -> None:
        """Return when everything is recorded."""
        while self._task is not None:
            await asyncio.wait([self._task])

    # --- in the thread ------------------------------------------------------------------------------------------

    def _keep_load(
        self, facts: ModelFacts, rung: Rung, worker: WorkerProcess | None, device: str, version: str
    ) -> None:
        self._driver = self._sources.driver()
        attempt, error = rung.attempt, rung.error
        kept = shown_settings(attempt.parameters)
        record = LoadRecord(
            rung.began_at + (rung.seconds or 0.0),
            self._under(facts, attempt.loader, version, attempt.parameters, device),
            "worked" if rung.state == "worked" else "failed",
            rung.seconds or 0.0,
            self._planned(facts, attempt),
            worker.memory_bytes() if worker is not None else None,
            error.code if error is not None else "",
            error.category if error is not None else "",
        )
        self._metrics.add_load(record, kept)

    def _keep_reply(self, answered: Answered, ended_at: float, samples: Sequence[Sample], *, look: bool) -> None:
        job, model = answered.job, answered.model
        parameters = answered.parameters.model_dump(mode="json")
        under = self._under(answered.facts, answered.spec.name, model.engine_version, parameters, model.device_kind)
        uses = [max(one.use for one in sample.gpus if one.use is not None) for sample in samples if _told(sample)]
        held = [one.worker_memory for sample in samples[-1:] for one in sample.gpus if one.worker_memory is not None]
        self._metrics.add_reply(
            ReplyRecord(
                ended_at,
                under,
                _OUTCOMES.get(job.state, "failed"),
                life=answered.since,
                queued=job.started_seconds or 0.0,
                first_token=job.first_token_seconds,
                memory=answered.worker.memory_bytes() if look else None,
                gpu_use=sum(uses) / len(uses) if uses else None,
                gpu_memory=sum(held) if held else None,
                shared=job.shared,
                code=job.error.code if job.error is not None and job.state is JobState.FAILED else "",
                category=job.error.category if job.error is not None and job.state is JobState.FAILED else "",
                **_figures(job),
            )
        )

    def _under(
        self, facts: ModelFacts, loader: str, version: str, parameters: Mapping[str, Any], device: str
    ) -> Conditions:
        context = parameters.get("context_size")
        if self._driver is None:
            self._driver = self._sources.driver()
        return Conditions(
            model_id(facts),
            loader,
            version,
            self._driver,
            fingerprint_of(parameters),
            context if isinstance(context, int) and context > 0 else facts.context_length or 0,
            device,
        )

    def _planned(self, facts: ModelFacts, attempt: Attempt) -> int | None:
        if self._sources.plan is None:
            return None
        with contextlib.suppress(AppError):  # a parameter that is not valid has no plan
            host = self._sources.plan(facts, attempt.loader, attempt.parameters).device(CPU)
            return host.total if host is not None else None
        return None

    # --- one after the other ------------------------------------------------------------------------------------

    def _do(self, work: Callable[[], None]) -> None:
        if len(self._waiting) < MOST_WAITING:
            self._waiting.append(work)
        if self._task is None:
            self._task = asyncio.create_task(self._work())

    async def _work(self) -> None:
        try:
            while self._waiting:
                batch, self._waiting = self._waiting, []
                await asyncio.to_thread(_each, batch)
        finally:
            self._task = None


def _each(batch: Sequence[Callable[[], None]]) -> None:
    for work in batch:
        try:
            work()
        except Exception:
            log.exception("A load or reply was not recorded")  # it costs its record and nothing else


def _figures(job: Job) -> dict[str, Any]:
    """Counts and speeds of a reply, as far as they are those of one engine."""
    finished = job.finished
    if finished is None or job.handed_over:
        return {"tokens": job.tokens}
    read = finished.prompt_tokens - finished.cached_tokens
    written, seconds = finished.completion_tokens - 1, finished.generation_seconds
    timed = written >= LEAST_TOKENS and seconds > 0
    return {
        "prompt_tokens": finished.prompt_tokens,
        "read": read,
        "tokens": finished.completion_tokens,
        "prompt_speed": read / finished.prompt_seconds
        if read >= LEAST_TOKENS and finished.prompt_seconds > 0
        else None,
        "speed": written / seconds if timed else None,
    }


def _told(sample: Sample) -> bool:
    return any(gpu.use is not None for gpu in sample.gpus)


def fingerprint_of(parameters: Mapping[str, Any]) -> str:
    """A short mark of the parameters that change how fast a model runs."""
    text = json.dumps(shown_settings(parameters), sort_keys=True)
    return hashlib.blake2b(text.encode(errors="replace"), digest_size=6).hexdigest()


def shown_settings(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters that change speed as plain values: of paths the last part, of long texts the beginning."""
    return {name: _shown(value) for name, value in sorted(parameters.items()) if name not in INERT}


def _shown(value: Any) -> Any:
    if value is None or isinstance(value, bool | int | float):
        return value
    text = str(value)
    return (PurePath(text).name if "/" in text or "\\" in text else text)[:MOST_TEXT]
