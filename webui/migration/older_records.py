"""What lay beside older configurations: lists of models, and how fast models ran."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from webui.migration import meanings
from webui.migration.meanings import World, left
from webui.migration.names import backend_named
from webui.migration.older_chats import TIMES, time_of
from webui.migration.plan import Entry, Finding, Key, Wish

PATH_KEYS = ("path", "file_path", "model_path", "file", "filename", "location")
MODEL_LISTS = ("models", "recent_models", "model_list", "known_models", "downloaded", "installed", "favorites")
SPEED_LISTS = ("records", "history", "metrics", "entries", "benchmarks", "results", "performance", "measurements")
SPEED = (
    "tokens_per_second",
    "tokens_per_sec",
    "tok_per_s",
    "tps",
    "speed",
    "generation_speed",
    "avg_tokens_per_second",
)
PROMPT_SPEED = ("prompt_tokens_per_second", "prompt_speed", "prompt_tps", "prompt_eval_speed")
LOAD_TIME = ("load_time", "load_time_seconds", "load_seconds", "model_load_time")
MODEL = ("model", "model_name", "model_path", "file", "model_id")
BACKEND = ("backend", "loader", "engine", "backend_name", "backend_type")
FASTEST = 1_000_000.0


def models_in(content: Any, file: Path, world: World) -> list[Entry] | None:
    """One entry for each model of a list; None where the file is no such list."""
    holders = list(_lists(content, MODEL_LISTS))
    if not holders:
        return None
    found = []
    for key, items in holders:
        for place, item in items:
            path = next((item[name] for name in PATH_KEYS if name in item), None) if isinstance(item, dict) else item
            if not isinstance(path, str) or not path.lower().endswith(meanings.MODEL_ENDINGS):
                return None
            finding = meanings.model(world, path, (file.parent, file.parent / "models"), first=False)
            beside = sorted(set(item) - set(PATH_KEYS)) if isinstance(item, dict) else []
            note = f"{', '.join(beside)}: read from the model itself" if beside and finding.wishes else ""
            found.append(Entry(file, (*key, place), item, meanings.together((finding, left(note)))))
    return [*found, *_beside(content, [key for key, _ in holders], file)]


def speeds_in(content: Any, file: Path, world: World) -> list[Entry] | None:
    """One entry for each measured speed; None where the file is no record of such."""
    holders = list(_lists(content, SPEED_LISTS))
    found = []
    for key, items in holders:
        for place, item in items:
            if not isinstance(item, dict):
                return None
            found.append(Entry(file, (*key, place), item, _speed(item, str(place), world)))
    if not any(entry.finding.wishes for entry in found):
        return None
    return [*found, *_beside(content, [key for key, _ in holders], file)]


def _lists(content: Any, names: tuple[str, ...]) -> Iterator[tuple[Key, list[tuple[str | int, Any]]]]:
    """The lists in a file: the file itself, those of an object under one of `names`, or else the object's own items."""
    if isinstance(content, list) and content:
        yield (), list(enumerate(content))
    elif isinstance(content, dict):
        named = [name for name in content if name.lower() in names and content[name]]
        for name in named:
            inner = content[name]
            if isinstance(inner, list):
                yield (name,), list(enumerate(inner))
            elif isinstance(inner, dict):
                yield (name,), list(inner.items())
        if not named and content and all(isinstance(item, dict) for item in content.values()):
            yield (), list(content.items())


def _beside(content: Any, keys: list[Key], file: Path) -> Iterator[Entry]:
    """What stands beside the lists."""
    if isinstance(content, dict) and () not in keys:
        for name, value in content.items():
            if (name,) not in keys:
                yield Entry(file, (name,), value, left("it tells of the file and not of a model"))


def _speed(item: dict[str, Any], name: str, world: World) -> Finding:
    fast = _number(item, SPEED)
    model = next((item[key] for key in MODEL if isinstance(item.get(key), str) and item[key]), name)
    if fast is None or not 0 < fast < FASTEST:
        return left("it tells no speed")
    backend = next((item[key] for key in BACKEND if isinstance(item.get(key), str)), "")
    speed = {
        "model": meanings.base_name(model),
        "loader": backend_named(backend, world.loaders) or backend,
        "tokens_per_second": fast,
        "prompt_tokens_per_second": _number(item, PROMPT_SPEED),
        "load_seconds": _number(item, LOAD_TIME),
        "at": next((at for key in TIMES if (at := time_of(item.get(key))) is not None), None),
    }
    known = {*SPEED, *PROMPT_SPEED, *LOAD_TIME, *MODEL, *BACKEND, *TIMES}
    beside = sorted(key for key in item if key not in known)
    same = "|".join(map(str, speed.values()))
    return Finding((Wish("speeds", speed, item=same),), f"without its {', '.join(beside)}" if beside else "")


def _number(item: dict[str, Any], names: tuple[str, ...]) -> float | None:
    values = (item[name] for name in names if name in item)
    numbers = (float(value) for value in values if isinstance(value, int | float) and not isinstance(value, bool))
    return next((number for number in numbers if math.isfinite(number) and number >= 0), None)
