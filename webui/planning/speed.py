"""How fast a loader ran a model here, as it was measured."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Source = Literal["bench", "tune", "reply"]
"""Who measured: a benchmark, a trial of settings, or a reply that was written anyway."""


@dataclass(frozen=True, slots=True)
class Speed:
    """One measurement. `parameters` are the loader's full values as plain JSON types.

    `depth` is how many tokens the context held before the measured ones; generation slows down with it. Of replies,
    speeds are medians of `recent`, the latest ones of that depth. `measured_at` is seconds since the epoch.
    """

    loader: str
    parameters: Mapping[str, Any]
    tokens_per_second: float
    prompt_tokens_per_second: float | None = None
    load_seconds: float | None = None
    memory_bytes: int | None = None
    depth: int = 0
    measured_at: float = 0.0
    source: Source = "bench"
    recent: tuple[float, ...] = field(default=())
