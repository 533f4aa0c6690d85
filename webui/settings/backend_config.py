"""`backend_config.json`: which backends are used, in which order, with which parameters.

    {"preferred_backend": "auto", "gpu_enabled": true, "fallback_enabled": true, "fallback_order": ["xllamacpp"],
     "backends": {"xllamacpp": {"enabled": true, "priority": 1, "context_size": 8192}}}

A backend's parameters stand beside `enabled` and `priority`, or in a mapping `parameters` there; both are read. A
smaller priority is tried earlier; `fallback_order` goes before priorities. This file is shared with other programs, so
what is not understood here is reported and kept when the file is written. Where the whole file cannot be understood,
its last good copy is used (`webui.settings.last_good`).
"""

from __future__ import annotations

import difflib
import json
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from webui.errors import InvalidSetting
from webui.settings.last_good import good_text, last_good
from webui.settings.reading import read_text

TOP_KEYS = ("preferred_backend", "gpu_enabled", "fallback_enabled", "fallback_order")
SWITCHES = ("enabled", "priority", "parameters")
ABOUT_THE_FILE = frozenset({"version", "last_modified", "$schema"})
"""Keys that tell of the file itself and set nothing; whoever wrote them keeps them."""
NAMED_DIFFERENTLY = {"torch_dtype": "dtype"}
"""Parameter names of the shared format whose field has another name here."""
LARGEST_PRIORITY = 1_000_000


@dataclass(frozen=True, slots=True)
class Found:
    """What there is to go by: `data` is empty without a file, or the last good copy's where the file is broken."""

    source: str
    data: dict[str, Any] = field(default_factory=dict)
    problems: tuple[InvalidSetting, ...] = ()
    broken: bool = False


def find(path: Path) -> Found:
    """Read the file, or its last good copy where it cannot be understood, which `problems` says."""
    doubled: list[str] = []
    try:
        data = parse(read_text(path, path.name), path.name, doubled) if path.exists() else {}
    except InvalidSetting as error:
        text = good_text(path, parse)
        if text is None:
            return Found(path.name, problems=(error,), broken=True)
        copy = last_good(path)
        written = time.strftime("%Y-%m-%d %H:%M", time.localtime(copy.stat().st_mtime))
        error = InvalidSetting(
            f"{error.message}; {copy.name} of {written} is used instead",
            cause=error.cause,
            hint=f"Correct {path}, or save any backend setting: the broken file is then kept as {path.name}.broken.",
            source=path.name,
        )
        return Found(copy.name, parse(text, copy.name), (error,), broken=True)
    return Found(path.name, data, tuple(_doubled(name, path.name) for name in doubled))


def parse(text: str, source: str, doubled: list[str] | None = None) -> dict[str, Any]:
    """The file's object; raises `InvalidSetting` where it is not JSON or not an object.

    Keys that stand twice in one object, of which JSON takes the last, are added to `doubled`.
    """

    def one_object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        result: dict[str, Any] = {}
        for key, value in pairs:
            if key in result and doubled is not None:
                doubled.append(key)
            result[key] = value
        return result

    if not text.strip():
        raise InvalidSetting(
            f"{source} is empty", hint="Write {} into it, or remove it, to start with the defaults.", source=source
        )
    try:
        data = json.loads(text, object_pairs_hook=one_object)
    except json.JSONDecodeError as error:
        raise InvalidSetting(
            f"{source} is not valid JSON: {error.msg} in line {error.lineno}, column {error.colno}",
            hint="Correct that line, or move the file away; it is written anew when a setting is saved.",
            source=source,
        ) from error
    except RecursionError as error:
        raise InvalidSetting(f"{source} is nested too deeply to be a configuration", source=source) from error
    except ValueError as error:  # a number of thousands of digits
        raise InvalidSetting(f"{source} cannot be read", cause=str(error), source=source) from error
    if not isinstance(data, dict):
        raise InvalidSetting(f"{source} must hold one JSON object", source=source)
    return data


def name_in_file(key: str) -> str:
    """How a dotted key is written in this file: `backends.xllamacpp.context_size`, `gpu_enabled`."""
    section, _, rest = key.partition(".")
    return f"backends.{rest}" if section == "loaders" else rest or key


def named(data: Mapping[str, Any]) -> tuple[str, ...]:
    """The backends that the file describes, whether there are such or not."""
    backends = data.get("backends")
    return tuple(backends) if isinstance(backends, dict) else ()


def entry(data: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """All that the file says of one backend, by the names it has there."""
    backends = data.get("backends")
    found = backends.get(name) if isinstance(backends, dict) else None
    if not isinstance(found, dict):
        return {}
    nested = found.get("parameters")
    return {**found, **nested} if isinstance(nested, dict) else found


def flatten(data: Mapping[str, Any], source: str) -> tuple[dict[str, Any], list[InvalidSetting]]:
    """Dotted keys and values of the file, and what in it cannot be understood.

    `enabled` and `priority` of all backends become `backends.disabled` and `backends.fallback_order`.
    """
    values: dict[str, Any] = {}
    problems: list[InvalidSetting] = []
    for key, value in data.items():
        if key in TOP_KEYS:
            values[f"backends.{key}"] = value
        elif key != "backends" and key not in ABOUT_THE_FILE:
            problems.append(_not_known(key, source, [*TOP_KEYS, "backends"], "a setting"))
    backends = data.get("backends")
    if backends is None:
        return values, problems
    if not isinstance(backends, dict):
        problems.append(_must_be("backends", backends, source, "an object with the names of backends"))
        return values, problems
    disabled: list[str] = []
    priorities: dict[str, float] = {}
    for name, entry in backends.items():
        if not isinstance(entry, dict):
            problems.append(_must_be(f"backends.{name}", entry, source, "an object with the backend's parameters"))
            continue
        problems += _read_switches(name, entry, source, disabled, priorities)
        nested = entry.get("parameters")
        merged = {key: value for key, value in entry.items() if key not in SWITCHES}
        merged.update(nested if isinstance(nested, dict) else {})
        for parameter, value in merged.items():
            values[f"loaders.{name}.{parameter}"] = value
    if any(isinstance(entry, dict) and "enabled" in entry for entry in backends.values()):
        values["backends.disabled"] = tuple(disabled)
    if priorities and "backends.fallback_order" not in values:
        values["backends.fallback_order"] = tuple(sorted(priorities, key=lambda name: priorities[name]))
    return values, problems


def unknown_backend(name: str, source: str, known: Iterable[str]) -> InvalidSetting:
    """A backend that is described and does not exist here."""
    return _not_known(f"backends.{name}", source, [f"backends.{other}" for other in known], "a backend")


def unknown_parameter(key: str, source: str, known: Iterable[str]) -> InvalidSetting:
    """A parameter that its backend does not have; `key` and `known` are dotted keys of that backend."""
    owner = key.split(".", 2)[1]
    return _not_known(name_in_file(key), source, [name_in_file(other) for other in known], f"a parameter of {owner}")


def apply(data: dict[str, Any], changes: Mapping[str, Any], names: Iterable[str]) -> dict[str, Any]:
    """`data` with dotted `changes` written into it, everything else kept. `names` are all backends there are.

    Raises `InvalidSetting` where the place of a change holds what is no object, which would be lost.
    """
    result = dict(data)
    backends = result.get("backends", {})
    backends = dict(backends) if isinstance(backends, dict) else backends

    def own(name: str) -> dict[str, Any]:
        if not isinstance(backends, dict):
            raise _must_be("backends", backends, "backend_config.json", "an object with the names of backends")
        found = backends.get(name, {})
        if not isinstance(found, dict):
            raise _must_be(f"backends.{name}", found, "backend_config.json", "an object with the backend's parameters")
        copy = backends[name] = dict(found)
        return copy

    for key, value in changes.items():
        section, _, rest = key.partition(".")
        if section == "loaders":
            name, _, parameter = rest.partition(".")
            _set_parameter(own(name), parameter, value)
        elif rest == "disabled":
            there = [name for name in named(result) if isinstance(backends[name], dict)]
            for name in dict.fromkeys([*names, *there, *value]):
                own(name)["enabled"] = name not in value
        else:
            result[rest] = value
            if rest == "fallback_order":
                for place, name in enumerate(value, start=1):
                    own(name)["priority"] = place
    if backends:
        result["backends"] = backends
    return result


def text_of(data: Mapping[str, Any]) -> str:
    """The file's text. Text that is no valid Unicode, which JSON allows in its escaped form, stays escaped."""
    text = json.dumps(data, indent=2, ensure_ascii=False) + "\n"
    try:
        text.encode()
    except UnicodeEncodeError:
        return json.dumps(data, indent=2) + "\n"
    return text


def remove(data: dict[str, Any], keys: Iterable[str]) -> dict[str, Any]:
    """`data` without the given dotted keys, everything else kept."""
    result = json.loads(json.dumps(data))
    backends = result.get("backends")
    backends = backends if isinstance(backends, dict) else {}
    entries = [entry for entry in backends.values() if isinstance(entry, dict)]
    for key in keys:
        section, _, rest = key.partition(".")
        if section == "loaders":
            name, _, parameter = rest.partition(".")
            entry = backends.get(name)
            if not isinstance(entry, dict):
                continue
            for written in (parameter, *_other_names(parameter)):
                _drop(entry, written)
        elif rest == "disabled":
            for entry in entries:
                entry.pop("enabled", None)
        else:
            result.pop(rest, None)
            if rest == "fallback_order":
                for entry in entries:
                    entry.pop("priority", None)
    return dict(result)


def _set_parameter(entry: dict[str, Any], parameter: str, value: Any) -> None:
    for other in _other_names(parameter):
        _drop(entry, other)
    nested = entry.get("parameters")
    if isinstance(nested, dict) and parameter in nested:
        entry["parameters"] = {**nested, parameter: value}
    else:
        entry[parameter] = value


def _drop(entry: dict[str, Any], written: str) -> None:
    entry.pop(written, None)
    nested = entry.get("parameters")
    if isinstance(nested, dict) and written in nested:
        entry["parameters"] = {key: value for key, value in nested.items() if key != written}


def _other_names(parameter: str) -> list[str]:
    return [written for written, name in NAMED_DIFFERENTLY.items() if name == parameter]


def _read_switches(
    name: str, entry: Mapping[str, Any], source: str, disabled: list[str], priorities: dict[str, float]
) -> list[InvalidSetting]:
    problems = []
    enabled = entry.get("enabled", True)
    if not isinstance(enabled, bool):
        problems.append(_must_be(f"backends.{name}.enabled", enabled, source, "true or false"))
    elif not enabled:
        disabled.append(name)
    priority = entry.get("priority")
    if isinstance(priority, int | float) and not isinstance(priority, bool) and abs(priority) <= LARGEST_PRIORITY:
        priorities[name] = priority
    elif priority is not None:
        problems.append(_must_be(f"backends.{name}.priority", priority, source, "a number; 1 is tried first"))
    nested = entry.get("parameters", {})
    if not isinstance(nested, dict):
        problems.append(_must_be(f"backends.{name}.parameters", nested, source, "an object of parameters"))
    return problems


def _must_be(key: str, value: Any, source: str, allowed: str) -> InvalidSetting:
    return InvalidSetting(f"{key} is {repr(value)[:60]} in {source}, and must be {allowed}", key=key, source=source)


def _not_known(key: str, source: str, known: Iterable[str], kind: str) -> InvalidSetting:
    near = difflib.get_close_matches(key, list(known), n=1, cutoff=0.75)
    return InvalidSetting(
        f"{key} in {source} is not {kind}" + (f"; did you mean {near[0]}?" if near else ""),
        hint="It sets nothing, and is kept in the file.",
        key=key,
        source=source,
    )


def _doubled(key: str, source: str) -> InvalidSetting:
    return InvalidSetting(f"{key} stands twice in {source}; the last one counts", key=key, source=source)
