"""How fast models ran in the older app: what was carried over of that, for looking back.

These figures tell neither how many tokens they are of nor with which version and settings they were measured. So they
are kept in a file of their own, beside the record of use and not in it, and nothing is decided by them.
"""

from __future__ import annotations

import json
import math
import statistics
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

GGUF = ".gguf"
YEAR_2100 = 4_102_444_800.0


@dataclass(frozen=True, slots=True)
class OlderFigures:
    """One model with one backend ("" where none was told): medians of `count` measurements, tokens per second and
    seconds; `first` and `last` are when they were made, in seconds since the epoch.
    """

    model: str
    loader: str
    count: int
    speed: float
    prompt_speed: float | None
    load_seconds: float | None
    first: float | None
    last: float | None

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def read_speeds(path: Path) -> list[dict[str, Any]]:
    """The measured speeds that were carried over; none where there is no such file or it is damaged."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return []
    return [item for item in content if isinstance(item, dict)] if isinstance(content, list) else []


def older_figures(path: Path, model: str = "", loader: str = "") -> list[OlderFigures]:
    """By model and backend, the one measured most first; `model` and `loader` leave others out. Reads a file."""
    grouped: defaultdict[tuple[str, str], list[dict[str, Any]]] = defaultdict(list)
    for item in read_speeds(path):
        file = str(item.get("model") or "")
        # Named as the catalogue names them, so that both can be told to be the same model.
        name = file[: -len(GGUF)] if file.lower().endswith(GGUF) else file
        key = (name, str(item.get("loader") or ""))
        if _numbers([item], "tokens_per_second") and model in ("", key[0]) and loader in ("", key[1]):
            grouped[key].append(item)
    found = [_figures(*key, items) for key, items in grouped.items()]
    return sorted(found, key=lambda one: (-one.count, one.model, one.loader))


def _figures(model: str, loader: str, items: Sequence[dict[str, Any]]) -> OlderFigures:
    prompts, loads, times = (_numbers(items, name) for name in ("prompt_tokens_per_second", "load_seconds", "at"))
    times = [at for at in times if 0 <= at < YEAR_2100]
    return OlderFigures(
        model,
        loader,
        len(items),
        statistics.median(_numbers(items, "tokens_per_second")),
        statistics.median(prompts) if prompts else None,
        statistics.median(loads) if loads else None,
        min(times, default=None),
        max(times, default=None),
    )


def _numbers(items: Sequence[dict[str, Any]], name: str) -> list[float]:
    values = (item.get(name) for item in items)
    return [float(value) for value in values if isinstance(value, int | float) and math.isfinite(value)]
