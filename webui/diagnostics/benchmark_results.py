"""What a benchmark found: plain facts that are kept as JSON and compared later.

Figures keep the values of all their runs, so that a later comparison knows the noise of both sides.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from pydantic import Field, TypeAdapter

from webui.errors import AppError

Quantity = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=0)]
State = Literal["running", "done", "stopped", "failed"]


@dataclass(frozen=True, slots=True)
class Figure:
    """One thing measured several times; at least once."""

    values: Annotated[tuple[Quantity, ...], Field(min_length=1)]

    @property
    def median(self) -> float:
        return statistics.median(self.values)

    @property
    def lowest(self) -> float:
        return min(self.values)

    @property
    def highest(self) -> float:
        return max(self.values)

    @property
    def spread(self) -> float | None:
        """Half of what lies between the lowest and the highest value, as a share of the median; none for one value."""
        if len(self.values) < 2 or self.median <= 0:
            return None
        return (self.highest - self.lowest) / 2 / self.median


def figure(values: Iterable[float | None]) -> Figure | None:
    """The values that are known, as one figure; `None` where there are none."""
    known = tuple(float(value) for value in values if value is not None)
    return Figure(known) if known else None


@dataclass(frozen=True, slots=True)
class DepthResult:
    """Speeds with so many tokens in the context. `depth` is what was asked for; `prompt_tokens` and
    `completion_tokens` are what each run had, as the engine counted. `problem` says why something is missing.

    `memory_bytes` is the most the worker held in memory after a run.
    """

    depth: Count
    prompt_tokens: tuple[Count, ...] = ()
    completion_tokens: tuple[Count, ...] = ()
    prompt_speed: Figure | None = None
    speed: Figure | None = None
    first_token: Figure | None = None
    memory_bytes: Count | None = None
    problem: str = ""


@dataclass(frozen=True, slots=True)
class LoaderResult:
    """All of one loader. `version` is that of its package, `parameters` are those the engine was loaded with.

    `memory_bytes` is what the worker holds at the end, `peak_memory_bytes` the most it ever held. `notes` are what was
    done differently from what was asked. `error` (as `AppError.to_dict`) says why there is nothing, or nothing more.
    """

    loader: str
    device: str = ""
    engine: str = ""
    engine_version: str = ""
    version: str | None = None
    context_size: Count | None = None
    parameters: dict[str, Any] = field(default_factory=dict)
    load: Figure | None = None
    depths: tuple[DepthResult, ...] = ()
    memory_bytes: Count | None = None
    peak_memory_bytes: Count | None = None
    notes: tuple[str, ...] = ()
    error: dict[str, Any] | None = None

    @property
    def failure(self) -> AppError | None:
        return AppError.from_dict(self.error) if self.error is not None else None

    @property
    def measured(self) -> tuple[DepthResult, ...]:
        """The depths at which there is any speed."""
        return tuple(one for one in self.depths if one.first_token is not None)


@dataclass(frozen=True, slots=True)
class BenchmarkRun:
    """One benchmark of one file on one machine. `id` sorts by date. `machine` is the machine's fingerprint.

    `parameters` are those that were set for the benchmark, over the configured ones. `disturbed`: somebody else's
    replies were written meanwhile, so that the figures are too low.
    """

    id: str
    at: Quantity
    app_version: str
    machine: str
    model: str
    path: str
    file_bytes: Count
    runs: Count
    reply_tokens: Count
    depths: tuple[Count, ...]
    parameters: dict[str, Any] = field(default_factory=dict)
    results: tuple[LoaderResult, ...] = ()
    state: State = "running"
    seconds: Quantity = 0.0
    disturbed: bool = False
    format: Literal[1] = 1

    def result(self, loader: str) -> LoaderResult | None:
        return next((one for one in self.results if one.loader == loader), None)

    @property
    def failed(self) -> bool:
        """Whether no loader could be measured at all."""
        return not any(one.measured for one in self.results)


_ADAPTER = TypeAdapter(BenchmarkRun)


def run_to_json(run: BenchmarkRun) -> bytes:
    return _ADAPTER.dump_json(run, indent=1)


def run_to_dict(run: BenchmarkRun) -> dict[str, Any]:
    """`run` as plain JSON types, with the medians of each loader's first depth beside it for those who want one row."""
    content: dict[str, Any] = _ADAPTER.dump_python(run, mode="json")
    for result, one in zip(content["results"], run.results, strict=True):
        result |= summary(one)
        for depth, found in zip(result["depths"], one.depths, strict=True):
            depth |= medians(found)
    return content


def run_from_json(content: bytes) -> BenchmarkRun:
    """The inverse of `run_to_json`; raises `ValueError` for anything else."""
    return _ADAPTER.validate_json(content)


def summary(result: LoaderResult) -> dict[str, float | None]:
    """Load time, and the speeds at the first depth that was measured."""
    first = result.measured[0] if result.measured else DepthResult(0)
    return {"load_seconds": _median(result.load), **medians(first)}


def medians(found: DepthResult) -> dict[str, float | None]:
    return {
        "prompt_tokens_per_second": _median(found.prompt_speed),
        "tokens_per_second": _median(found.speed),
        "first_token_seconds": _median(found.first_token),
    }


def _median(found: Figure | None) -> float | None:
    return found.median if found is not None else None
