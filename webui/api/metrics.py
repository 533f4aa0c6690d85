"""`GET /metrics`: counts and states for Prometheus, in its text format 0.0.4.

The format is a dozen lines to write, so no package is needed for it. Counters are those of this process and only grow;
what was before the start is in the record of use (`python3 app.py stats`).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import accumulate
from typing import TYPE_CHECKING, Literal, TypeVar

import psutil
from fastapi import APIRouter
from fastapi.responses import Response

import webui
from webui.models.inspect import model_id
from webui.pool.metric_totals import BOUNDS, Counts, Times

if TYPE_CHECKING:
    from webui.context import AppContext

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
PREFIX = "gguf_loader_"
FRESH_SECONDS = 5.0
"""Older samples of GPUs say nothing of now; they are taken only while somebody watches."""

Labels = Mapping[str, str]
Key = TypeVar("Key", tuple[str, str], tuple[str, str, str])
Sample = tuple[str, Labels, float]
"""What is added to the family's name ("", "_bucket" …), the labels and the value."""


@dataclass(frozen=True, slots=True)
class Family:
    """Samples of one name with what they mean."""

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    help: str
    samples: Iterable[Sample]


def routes(context: AppContext) -> APIRouter:
    router = APIRouter()
    started = psutil.Process().create_time()

    @router.get("/metrics")
    async def metrics() -> Response:
        states = [*_states(context), *_process(started)]
        counted = await asyncio.to_thread(context.metrics.totals.counts)
        return Response(exposition([*_counters(counted), *states]), media_type=CONTENT_TYPE)

    return router


def exposition(families: Iterable[Family]) -> str:
    """The families as text; those without samples are left out."""
    lines: list[str] = []
    for family in families:
        samples = list(family.samples)
        if samples:
            lines += [f"# HELP {family.name} {_escaped(family.help)}", f"# TYPE {family.name} {family.kind}"]
            lines += [f"{family.name}{suffix}{_labels(labels)} {_number(value)}" for suffix, labels, value in samples]
    return "\n".join(lines) + "\n"


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace("\n", "\\n")


def _labels(labels: Labels) -> str:
    if not labels:
        return ""
    return "{" + ",".join(f'{name}="{_quoted(value)}"' for name, value in labels.items()) + "}"


def _quoted(text: str) -> str:
    """Names come from files: odd bytes in them must not break the answer's UTF-8."""
    clean = text.encode("utf-8", "replace").decode()
    return _escaped(clean).replace('"', '\\"')


def _number(value: float) -> str:
    return str(int(value)) if float(value).is_integer() else repr(float(value))


def _counters(counts: Counts) -> list[Family]:
    served = ("model", "loader")
    return [
        _counter("loads_total", "Attempts to load a model.", (*served, "outcome"), counts.loads),
        _histogram("load_duration_seconds", "Time that loads took which worked.", counts.load_times),
        _counter("requests_total", "Replies that an engine was asked for.", (*served, "outcome"), counts.replies),
        _counter("errors_total", "Failures of loads and replies.", ("loader", "category", "code"), counts.errors),
        _histogram(
            "time_to_first_token_seconds", "From the request to the first token of its reply.", counts.first_tokens
        ),
        _counter("prompt_tokens_total", "Tokens of prompts.", served, counts.prompt_tokens),
        _counter("prompt_tokens_cached_total", "Of these, tokens out of the cache.", served, counts.cached_tokens),
        _counter("completion_tokens_total", "Tokens of replies.", served, counts.tokens),
        _counter("prompt_seconds_total", "Time spent on reading prompts.", served, counts.prompt_seconds),
        _counter("completion_seconds_total", "Time spent on writing replies.", served, counts.seconds),
    ]


def _counter(name: str, help_text: str, labels: tuple[str, ...], counted: Mapping[Key, float]) -> Family:
    samples = [("", dict(zip(labels, key, strict=True)), float(value)) for key, value in sorted(counted.items())]
    return Family(PREFIX + name, "counter", help_text, samples)


def _histogram(name: str, help_text: str, timed: Mapping[tuple[str, str], Times]) -> Family:
    samples: list[Sample] = []
    for (model, loader), times in sorted(timed.items()):
        labels = {"model": model, "loader": loader}
        sums = list(accumulate(times.counts))
        for bound, below in zip([*map(_number, BOUNDS), "+Inf"], sums, strict=True):
            samples.append(("_bucket", {**labels, "le": bound}, below))
        samples += [("_sum", labels, times.seconds), ("_count", labels, sums[-1])]
    return Family(PREFIX + name, "histogram", help_text, samples)


def _gauge(name: str, help_text: str, value: float | None, labels: Labels | None = None) -> Family:
    return Family(PREFIX + name, "gauge", help_text, [] if value is None else [("", labels or {}, float(value))])


def _states(context: AppContext) -> list[Family]:
    """What holds at this moment; belongs to the event loop."""
    status, taken = context.pool.status, context.plans.taken
    planned, measured = taken.compared if taken is not None else (None, None)
    loaded = {}
    if status.facts is not None and status.model is not None:
        loaded = {
            "model": model_id(status.facts),
            "loader": status.loader or "",
            "device": status.model.device_kind,
            "engine_version": status.model.engine_version,
        }
    samples = context.monitor.since(-1).samples
    fresh = samples[-1].gpus if samples and time.time() - samples[-1].at < FRESH_SECONDS else ()
    uses = [("", {"gpu": str(place)}, gpu.use / 100) for place, gpu in enumerate(fresh) if gpu.use is not None]
    held = [
        ("", {"gpu": str(place)}, float(gpu.memory_used))
        for place, gpu in enumerate(fresh)
        if gpu.memory_used is not None
    ]
    return [
        _gauge("build_info", "The version of this app.", 1, {"version": webui.__version__}),
        _gauge("model_loaded", "The model that answers now.", 1 if loaded else None, loaded),
        _gauge("jobs_running", "Replies being written.", status.running),
        _gauge("jobs_queued", "Requests that wait for their turn.", status.queued),
        _gauge("worker_memory_bytes", "What the worker's processes hold.", status.memory_bytes),
        _gauge("model_memory_planned_bytes", "What the plan said of the model that is loaded.", planned),
        _gauge("model_memory_measured_bytes", "What was measured of it.", measured),
        Family(PREFIX + "gpu_utilization_ratio", "gauge", "Use of each GPU, while somebody watches it.", uses),
        Family(PREFIX + "gpu_memory_used_bytes", "gauge", "Memory of each GPU in use, likewise.", held),
    ]


def _process(started: float) -> list[Family]:
    """What monitoring expects of any process, under its usual names."""
    resident = float(psutil.Process().memory_info().rss)
    return [
        Family("process_start_time_seconds", "gauge", "When the app was started.", [("", {}, started)]),
        Family("process_resident_memory_bytes", "gauge", "Memory of the app itself.", [("", {}, resident)]),
    ]
