"""`backend_config.json`: which backends are used, in which order, with which parameters.

    {"preferred_backend": "auto", "gpu_enabled": true, "fallback_enabled": true, "fallback_order": ["xllamacpp"],
     "backends": {"xllamacpp": {"enabled": true, "priority": 1, "context_size": 8192}}}

A backend's parameters stand beside `enabled` and `priority`, or in a mapping `parameters` there; both are read. A
smaller priority is tried earlier; `fallback_order` goes before priorities. This file is shared with other programs, so
what is not understood here is reported and kept when the file is written.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from typing import Any

from webui.errors import InvalidSetting

TOP_KEYS = ("preferred_backend", "gpu_enabled", "fallback_enabled", "fallback_order")
NAMED_DIFFERENTLY = {"torch_dtype": "dtype"}
"""Parameter names of the shared format whose field has another name here."""


def parse(text: str, source: str) -> dict[str, Any]:
    """The file's object; raises `InvalidSetting` where it is not JSON or not an object."""
    try:
        data = json.loads(text) if text.strip() else {}
    except json.JSONDecodeError as error:
        raise InvalidSetting(
            f"{source} is not valid JSON: {error.msg} in line {error.lineno}, column {error.colno}",
            hint="Correct that line, or move the file away; it is written anew when a setting is saved.",
            source=source,
        ) from error
    except RecursionError as error:
        raise InvalidSetting(f"{source} is nested too deeply to be a configuration", source=source) from error
    if not isinstance(data, dict):
        raise InvalidSetting(f"{source} must hold one JSON object", source=source)
    return data


def flatten(data: Mapping[str, Any], source: str) -> tuple[dict[str, Any], list[InvalidSetting]]:
    """Dotted keys and values of the file, and what in it cannot be understood.

    `enabled` and `priority` of all backends become `backends.disabled` and `backends.fallback_order`.
    """
    values: dict[str, Any] = {}
    problems: list[InvalidSetting] = []
    for key, value in data.items():
        if key in TOP_KEYS:
            values[f"backends.{key}"] = value
        elif key != "backends":
            # `version` and the like belong to whoever wrote them; only a likely slip is worth a word.
            problems += _slip(key, source)
    backends = data.get("backends")
    if backends is None:
        return values, problems
    if not isinstance(backends, dict):
        problems.append(InvalidSetting(f"backends in {source} must be an object of backends", source=source))
        return values, problems
    disabled: list[str] = []
    priorities: dict[str, float] = {}
    for name, entry in backends.items():
        if not isinstance(entry, dict):
            problems.append(InvalidSetting(f"backends.{name} in {source} must be an object", source=source))
            continue
        problems += _read_switches(name, entry, source, disabled, priorities)
        nested = entry.get("parameters")
        merged = {**{k: v for k, v in entry.items() if k not in ("enabled", "priority", "parameters")}}
        merged.update(nested if isinstance(nested, dict) else {})
        for parameter, value in merged.items():
            values[f"loaders.{name}.{parameter}"] = value
    if any(isinstance(entry, dict) and "enabled" in entry for entry in backends.values()):
        values["backends.disabled"] = tuple(disabled)
    if priorities and "backends.fallback_order" not in values:
        values["backends.fallback_order"] = tuple(sorted(priorities, key=lambda name: priorities[name]))
    return values, problems


def apply(data: dict[str, Any], changes: Mapping[str, Any], names: Iterable[str]) -> dict[str, Any]:
    """`data` with dotted `changes` written into it, everything else kept. `names` are all backends there are."""
    result = dict(data)
    backends = {
        name: dict(entry) if isinstance(entry, dict) else {} for name, entry in (data.get("backends") or {}).items()
    }
    for key, value in changes.items():
        section, _, rest = key.partition(".")
        if section == "loaders":
            name, _, parameter = rest.partition(".")
            _set_parameter(backends.setdefault(name, {}), parameter, value)
        elif rest == "disabled":
            for name in dict.fromkeys([*names, *backends, *value]):
                backends.setdefault(name, {})["enabled"] = name not in value
        else:
            result[rest] = value
            if rest == "fallback_order":
                for place, name in enumerate(value, start=1):
                    backends.setdefault(name, {})["priority"] = place
    if backends:
        result["backends"] = backends
    return result


def remove(data: dict[str, Any], keys: Iterable[str]) -> dict[str, Any]:
    """`data` without the given dotted keys, everything else kept."""
    result = json.loads(json.dumps(data))
    backends = result.get("backends") or {}
    for key in keys:
        section, _, rest = key.partition(".")
        if section == "loaders":
            name, _, parameter = rest.partition(".")
            entry = backends.get(name) or {}
            entry.pop(parameter, None)
            (entry.get("parameters") or {}).pop(parameter, None)
        elif rest == "disabled":
            for entry in backends.values():
                entry.pop("enabled", None)
        else:
            result.pop(rest, None)
            if rest == "fallback_order":
                for entry in backends.values():
                    entry.pop("priority", None)
    return dict(result)


def _set_parameter(entry: dict[str, Any], parameter: str, value: Any) -> None:
    nested = entry.get("parameters")
    if isinstance(nested, dict) and parameter in nested:
        entry["parameters"] = {**nested, parameter: value}
    else:
        entry[parameter] = value


def _read_switches(
    name: str, entry: Mapping[str, Any], source: str, disabled: list[str], priorities: dict[str, float]
) -> list[InvalidSetting]:
    problems = []
    enabled = entry.get("enabled", True)
    if not isinstance(enabled, bool):
        problems.append(
            InvalidSetting(
                f"backends.{name}.enabled is {enabled!r} in {source}, and must be true or false",
                key=f"backends.{name}.enabled",
                source=source,
            )
        )
    elif not enabled:
        disabled.append(name)
    priority = entry.get("priority")
    if isinstance(priority, int | float) and not isinstance(priority, bool) and math.isfinite(priority):
        priorities[name] = priority
    elif priority is not None:
        problems.append(
            InvalidSetting(
                f"backends.{name}.priority is {priority!r} in {source}, and must be a number; 1 is tried first",
                key=f"backends.{name}.priority",
                source=source,
            )
        )
    return problems


def _slip(key: str, source: str) -> list[InvalidSetting]:
    import difflib

    near = difflib.get_close_matches(key, [*TOP_KEYS, "backends"], n=1, cutoff=0.75)
    if not near:
        return []
    return [InvalidSetting(f"{key} in {source} is not a setting; did you mean {near[0]}?", key=key, source=source)]
