"""The parts of an older configuration, key by key: every value of the file becomes exactly one entry of the plan."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from webui.migration import meanings
from webui.migration.converting import Refused, memory_in_mib, number, truth
from webui.migration.forms import APP_KEYS, FLAT_KEYS, SET_KEYS, plain_name
from webui.migration.meanings import EMPTY, NOTHING, World, left
from webui.migration.names import backend_named
from webui.migration.places import PATTERN
from webui.migration.plan import Entry, Finding, Key, Wish
from webui.migration.reading import Document, leaves_of
from webui.settings.backend_config import TOP_KEYS

BROWSER = "a page in a browser has no window of its own"
SPECIFIC, ARGUMENT, BACKEND, EVERY_ARGUMENT, GENERAL, EVERY = 1, 2, 3, 4, 5, 7
"""Ranks within one file: what is said more exactly goes first."""
PROCESSOR = frozenset(("cpu", "cpu_only", "none", "off", "disabled", "no_gpu"))
ANY_GPU = frozenset(("auto", "any", "gpu", "default", "prefer_gpu", "best", "all"))
GPU_VENDORS = {"cuda": "nvidia", "nvidia": "nvidia", "rocm": "amd", "amd": "amd", "hip": "amd", "intel": "intel"}
NOT_FLAT = frozenset(
    ["priority", "device", "cache", "library", "compile", "gpu", "attention", "generation", "slots", "poll"]
)
"""Names of parameters that mean nothing certain when they stand alone."""


@dataclass(frozen=True, slots=True)
class Reader:
    """Reads one configuration. `backends` are those it speaks of: all, or the one that its name says."""

    document: Document
    world: World
    backends: tuple[str, ...]
    folders: tuple[Path, ...]

    def entry(self, key: Key, value: Any, finding: Finding) -> Entry:
        return Entry(self.document.file, key, value, finding)


def interpret(document: Document, world: World) -> Iterator[Entry]:
    """Every value of a configuration with what it asks for."""
    content = document.content
    backends = _named_by_file(document.file, world) or world.backends()
    reader = Reader(document, world, backends, _model_folders(document))
    for leaf in document.repeated:
        yield reader.entry(leaf.key, leaf.value, left("a later value of the same name in this file goes before it"))
    for name, value in content.items():
        yield from _top(reader, name, value)


def _named_by_file(file: Path, world: World) -> tuple[str, ...]:
    """`llamafile.config.json` speaks of llamafile."""
    name = file.name.lower()
    found = backend_named(name.removesuffix(PATTERN), world.loaders) if name.endswith(PATTERN) else None
    return (found,) if found else ()


def _model_folders(document: Document) -> tuple[Path, ...]:
    named = (document.content.get(key) for key in FOLDER_KEYS)
    paths = (Path(text).expanduser() for text in named if isinstance(text, str) and text.startswith(("/", "~/", "C:")))
    return (*paths, document.file.parent)


def _top(reader: Reader, name: str, value: Any) -> Iterator[Entry]:
    plain, key = plain_name(name), (name,)
    if plain in SECTIONS:
        yield from _section(reader, key, value, SECTIONS[plain])
    elif plain == "recent_models" and isinstance(value, list) and value:
        yield from _recent(reader, key, value)
    elif plain in ("args", "custom_args", "extra_args"):
        yield from _arguments(reader, key, value, reader.backends, EVERY_ARGUMENT)
    elif plain in TOP:
        yield reader.entry(key, value, TOP[plain](reader, value))
    else:
        found = None
        if plain not in NOT_FLAT:
            found = meanings.parameter(reader.world, name, value, reader.backends, EVERY)
            found = found or meanings.sampling(name, value, GENERAL)
        if found is not None:
            yield reader.entry(key, value, found)
        else:
            yield from _unknown(reader, key, value)


def _unknown(reader: Reader, key: Key, value: Any) -> Iterator[Entry]:
    known = [*APP_KEYS, *SET_KEYS, *FLAT_KEYS, *TOP_KEYS]
    close = difflib.get_close_matches(plain_name(key[-1]), known, n=1, cutoff=0.85)
    reason = "this key is not known" + (f"; perhaps {close[0]} was meant" if close else "")
    yield from _leaves(reader, key, value, reason)


def _leaves(reader: Reader, key: Key, value: Any, reason: str) -> Iterator[Entry]:
    for leaf in leaves_of(value, key):
        yield reader.entry(leaf.key, leaf.value, left(reason))


Section = Callable[[Reader, Key, str, Any], Iterator[Entry]]


def _section(reader: Reader, key: Key, value: Any, rules: Section) -> Iterator[Entry]:
    """The values of an object, each by `rules`."""
    if value is None or value in ({}, []):
        yield reader.entry(key, value, left(NOTHING if value is None else EMPTY))
    elif not isinstance(value, dict):
        yield reader.entry(key, value, left("it must be an object of keys and values"))
    else:
        for name, item in value.items():
            yield from rules(reader, (*key, name), plain_name(name), item)


def _recent(reader: Reader, key: Key, value: list[Any]) -> Iterator[Entry]:
    first = True
    for place, item in enumerate(value):
        path = item.get("path") if isinstance(item, dict) else item
        found = meanings.model(reader.world, path, reader.folders, first=first)
        first = first and not found.wishes
        yield reader.entry((*key, place), item, found)


def _arguments(reader: Reader, key: Key, value: Any, backends: tuple[str, ...], rank: int) -> Iterator[Entry]:
    if value is None or value in ({}, [], ""):
        yield reader.entry(key, value, left(NOTHING if value is None else EMPTY))
    elif isinstance(value, dict):
        for name, item in value.items():
            found = meanings.argument(reader.world, name, item, backends, rank)
            yield reader.entry((*key, name), item, found)
    elif isinstance(value, list | str):
        yield reader.entry(key, value, meanings.argument_line(reader.world, value, backends, rank))
    else:
        yield reader.entry(key, value, left("it must be an object, a list or a line of arguments"))


def _ai(reader: Reader, key: Key, name: str, value: Any) -> Iterator[Entry]:
    if name == "system_prompt":
        yield reader.entry(key, value, _prompt(reader, value, SPECIFIC))
        return
    found = meanings.sampling(name, value, SPECIFIC)
    if found is None:
        yield from _leaves(reader, key, value, "there is no sampling value of this name" + meanings.near(name))
    else:
        yield reader.entry(key, value, found)


def _preferences(reader: Reader, key: Key, name: str, value: Any) -> Iterator[Entry]:
    if name in PREFERENCES:
        yield reader.entry(key, value, PREFERENCES[name](reader, value))
    else:
        yield from _unknown(reader, key, value)


def _backends(reader: Reader, key: Key, name: str, value: Any) -> Iterator[Entry]:
    backend = backend_named(str(key[-1]), reader.world.loaders)
    if backend is None:
        yield from _leaves(reader, key, value, f"there is no backend {key[-1]} here")
        return

    def rules(reader: Reader, key: Key, name: str, value: Any) -> Iterator[Entry]:
        nested = name == "parameters" and isinstance(value, dict) and value
        if nested or name in ("custom_args", "args", "extra_args"):
            yield from _arguments(reader, key, value, (backend,), ARGUMENT)
        elif isinstance(value, dict) and value:
            yield from _leaves(reader, key, value, f"{backend} has no parameter of this name here")
        else:
            yield reader.entry(key, value, _backend_value(reader.world, backend, name, str(key[-1]), value))

    yield from _section(reader, key, value, rules)


def _backend_value(world: World, backend: str, name: str, written: str, value: Any) -> Finding:
    if name == "name":
        same = isinstance(value, str) and backend_named(value, world.loaders) == backend
        return left("it only repeats the name" if same else f"it does not fit: this part speaks of {backend}")
    if name in ("enabled", "priority", "gpu_enabled") and value is None:
        return left(NOTHING)
    try:
        if name == "enabled":
            return Finding((Wish("backends.disabled", not truth(value), BACKEND, item=backend),))
        if name == "priority":
            return Finding((Wish("backends.fallback_order", number(value), BACKEND, item=backend),))
        if name == "gpu_enabled":
            if truth(value):
                return left("the GPU is used by default, with as many layers as gpu_layers says")
            found = meanings.parameter(world, "gpu_layers", 0, (backend,), SPECIFIC)
            return found if found is not None else left(f"{backend} has no GPU layers")
    except Refused as refused:
        return left(f"{refused}; 1 is tried first" if name == "priority" else str(refused))
    return meanings.argument(world, written, value, (backend,), BACKEND)


def _hardware(reader: Reader, key: Key, name: str, value: Any) -> Iterator[Entry]:
    found = None
    if name in ("force_cpu", "disable_gpu", "cpu_only"):
        try:
            found = Finding((Wish("backends.gpu_enabled", not truth(value), BACKEND, how="the opposite of it"),))
        except Refused as refused:
            found = left(NOTHING if value is None else str(refused))
    elif name in ("gpu_enabled", "use_gpu"):
        found = meanings.setting(reader.world, "backends.gpu_enabled", value, BACKEND)
    elif name in ("gpu_device", "gpu_id", "gpu_index", "device_id", "gpu"):
        found = _gpu(reader, value)
    elif name not in NOT_FLAT:
        found = meanings.parameter(reader.world, str(key[-1]), value, reader.backends, BACKEND + GENERAL)
    if found is not None:
        yield reader.entry(key, value, found)
    else:
        yield from _leaves(reader, key, value, "what the machine has is detected and not set")


def _addons(reader: Reader, key: Key, name: str, value: Any) -> Iterator[Entry]:
    yield from _leaves(reader, key, value, ADDONS)


# Single values


def _gpu(reader: Reader, value: Any) -> Finding:
    """Which GPU models may use: none, any, a vendor's, or one by its number."""
    if value is None:
        return left(NOTHING)
    if isinstance(value, bool):
        return meanings.setting(reader.world, "backends.gpu_enabled", value, BACKEND)
    text = plain_name(value)
    if text in PROCESSOR:
        return Finding((Wish("backends.gpu_enabled", False, BACKEND, how="the processor alone"),))
    if text in ANY_GPU:
        return Finding((Wish("backends.gpu_enabled", True, GENERAL),))
    vendor, _, number = text.rpartition(":") if ":" in text else ("", "", text)
    if number.isdigit() and len(number) < 3 and (not vendor or vendor in (*GPU_VENDORS, "gpu")):
        name = f"{GPU_VENDORS[vendor]}:{int(number)}" if vendor in GPU_VENDORS else str(int(number))
        return Finding((Wish("hardware.gpus", [name], BACKEND, how="the GPU of that number"),))
    return left("every GPU that a backend can use is used; choose among them on the Hardware tab")


def _prompt(reader: Reader, value: Any, rank: int) -> Finding:
    return left(EMPTY) if value == "" else meanings.setting(reader.world, "chat.system_prompt", value, rank)


def _log_level(reader: Reader, value: Any) -> Finding:
    if isinstance(value, str) and plain_name(value) in ("debug", "trace", "verbose"):
        return Finding((Wish("debug", True, how="every step is logged"),))
    return left("the log keeps everything from Info on; choose what is shown on the Diagnostics tab")


def _memory(reader: Reader, value: Any) -> Finding:
    if value is None:
        return left(NOTHING)
    try:
        mib, how = memory_in_mib(value)
    except Refused as refused:
        return left(str(refused))
    return meanings.setting(reader.world, "limits.worker_memory_mib", mib, how=how)


def _switching(reader: Reader, value: Any) -> Finding:
    if isinstance(value, str) and plain_name(value) in ("manual", "never", "off", "disabled"):
        return Finding((Wish("backends.fallback_enabled", False, GENERAL, how="another backend only when chosen"),))
    if isinstance(value, str) and plain_name(value) in ("auto", "automatic", "seamless"):
        return Finding((Wish("backends.fallback_enabled", True, GENERAL),))
    return left("another backend is tried when one fails, and chosen by hand on the Model tab")


def _other_file(reader: Reader, value: Any) -> Finding:
    if value in (None, ""):
        return left(NOTHING)
    path = meanings.existing(reader.world, value, (reader.document.file.parent,))
    if path is None or not reader.world.is_file(path):
        return left("there is no such file now")
    return left("that file is read for itself")


def _preferred(reader: Reader, value: Any) -> Finding:
    return meanings.order(reader.world, value) if isinstance(value, list) else meanings.preferred(reader.world, value)


Rule = Callable[[Reader, Any], Finding]


def _sets(key: str, rank: int = GENERAL) -> Rule:
    return lambda reader, value: meanings.setting(reader.world, key, value, rank)


def _left(reason: str) -> Rule:
    return lambda reader, value: left(reason)


def _samples(name: str) -> Rule:
    return lambda reader, value: meanings.sampling(name, value, EVERY) or left("there is no such sampling value")


def _last_model(reader: Reader, value: Any) -> Finding:
    return meanings.model(reader.world, value, reader.folders, first=True)


FOLDER_KEYS = ("default_model_dir", "model_directory", "models_directory", "model_dir", "models_dir")
ADDONS = "addons of the older app do not run here; docs/extensions.md says what does"
SECTIONS: dict[str, Section] = {
    "ai_settings": _ai,
    "preferences": _preferences,
    "backend_configs": _backends,
    "backends": _backends,
    "hardware_overrides": _hardware,
    "addon_settings": _addons,
}
PREFERENCES: dict[str, Rule] = {
    "preferred_backend": _preferred,
    "auto_fallback_enabled": _sets("backends.fallback_enabled"),
    "gpu_preference": _gpu,
    "performance_priority": _left("plans follow the model, the memory and what was measured here"),
    "allow_experimental": _left("no backend here is an experiment"),
    "max_load_time": _sets("limits.load_timeout_seconds"),
    "retry_failed_backends": _left("what is tried again follows from what failed and how"),
    "notification_level": _left("the page shows what matters where it belongs"),
}
TOP: dict[str, Rule] = {
    "version": _left("it is the version of the older file"),
    "last_modified": _left("it is the date of the older file"),
    "theme": _left("the page is light or dark as the system is; ◐ at its top changes that"),
    "window_size": _left(BROWSER),
    "window_position": _left(BROWSER),
    "window_maximized": _left(BROWSER),
    **{name: lambda reader, value: meanings.folder(reader.world, value) for name in FOLDER_KEYS},
    "recent_models": lambda reader, value: left(EMPTY if value in ([], None) else "it must be a list of models"),
    "max_recent_models": _left("the list of models has no bound"),
    "log_level": _log_level,
    "use_hardware_acceleration": _sets("backends.gpu_enabled"),
    "use_gpu": _sets("backends.gpu_enabled"),
    "gpu_enabled": _sets("backends.gpu_enabled"),
    "gpu_preference": _gpu,
    "fallback_enabled": _sets("backends.fallback_enabled"),
    "auto_fallback_enabled": _sets("backends.fallback_enabled"),
    "max_memory_usage": _memory,
    "default_temperature": _samples("temperature"),
    "default_max_tokens": _samples("max_tokens"),
    "default_system_prompt": lambda reader, value: _prompt(reader, value, EVERY),
    "system_prompt": lambda reader, value: _prompt(reader, value, EVERY),
    "backend_config_path": _other_file,
    "auto_optimize_backends": _left("every load is planned for the model and the machine"),
    "backend_switching_mode": _switching,
    "addon_dir": _left(ADDONS),
    "model_path": _last_model,
    "last_model": _last_model,
    "last_model_path": _last_model,
    "backend": _preferred,
    "preferred_backend": _preferred,
    "backend_preference": _preferred,
    "custom_fallback_order": lambda reader, value: meanings.order(reader.world, value, BACKEND),
    "fallback_order": lambda reader, value: meanings.order(reader.world, value),
    "max_load_time": _sets("limits.load_timeout_seconds"),
    "debug": _sets("debug"),
}
