"""What one older value meant, and which of today's settings it asks for. Pure: the disk is asked through `World`."""

from __future__ import annotations

import difflib
import ntpath
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from webui.loaders.contract import LoaderSpec
from webui.loaders.parameters import controls
from webui.loaders.sampling import SamplingParameters
from webui.migration.arguments import arguments
from webui.migration.converting import Refused, convert, opposite
from webui.migration.forms import plain_name
from webui.migration.names import (
    LEFT_ARGUMENTS,
    OPPOSITES,
    PARAMETERS,
    backend_named,
    parameter_named,
    sampling_named,
)
from webui.migration.plan import Finding, Wish, shown_value
from webui.settings.declared import Declared

NOTHING = "nothing is set there"
EMPTY = "it is empty"
PATHS = frozenset(("executable", "lora", "projector", "draft_model", "control_vector", "assistant_model"))
OFF_CPU = "transformers places layers by device_map, which is chosen by itself"
MODEL_ENDINGS = (".gguf", ".ggml", ".bin", ".llamafile", ".llamafile.exe")


@dataclass(frozen=True, slots=True)
class World:
    """What rules may know beside the file: what can be set here, and what lies on the disk.

    `folders` are searched for models that are named without a folder, besides those that a file names itself.
    """

    keys: Mapping[str, Declared]
    loaders: Mapping[str, LoaderSpec]
    is_file: Callable[[Path], bool]
    is_folder: Callable[[Path], bool]
    folders: Sequence[Path] = ()
    own_models: Path = Path()

    def backends(self) -> tuple[str, ...]:
        return tuple(self.loaders)


def sampling_keys() -> dict[str, Declared]:
    """The sampling values that a preset may hold, declared as settings are."""
    return {
        spec.name: Declared(f"sampling.{spec.name}", SamplingParameters, spec) for spec in controls(SamplingParameters)
    }


SAMPLING_KEYS = sampling_keys()


def left(reason: str) -> Finding:
    return Finding(reason=reason)


def setting(world: World, key: str, value: Any, rank: int = 5, how: str = "") -> Finding:
    """A value for one setting."""
    if value is None:
        return left(NOTHING)
    try:
        converted, done = convert(world.keys[key], value)
    except Refused as refused:
        return left(str(refused))
    return Finding((Wish(key, converted, rank, how="; ".join(filter(None, (how, done)))),))


def sampling(name: str, value: Any, rank: int) -> Finding | None:
    """A sampling value of the preset, None where `name` is none."""
    field = sampling_named(name)
    declared = SAMPLING_KEYS.get(field)
    if declared is None:
        return None
    if value is None:
        return left(NOTHING)
    try:
        converted, done = convert(declared, value)
    except Refused as refused:
        return left(str(refused))
    return Finding((Wish(declared.key, converted, rank, how="; ".join(filter(None, (_renamed(name, field), done)))),))


def parameter(world: World, name: str, value: Any, backends: Iterable[str], rank: int) -> Finding | None:
    """A parameter of each of `backends` that has it; None where none of them has it."""
    field, opposed = parameter_named(name)
    asked = tuple(backends)
    if field in ("load_in_8bit", "load_in_4bit"):
        return _quantized(world, field, value, asked, rank)
    findings, lacking = [], []
    for backend in asked:
        found = _of_backend(world, backend, field, value, rank, opposed=opposed)
        if found is None:
            lacking.append(backend)
        else:
            findings.append(found)
    if not findings:
        return None
    named = _renamed(name, field)
    merged = together(findings)
    wishes = tuple(replace(wish, how="; ".join(filter(None, (named, wish.how)))) for wish in merged.wishes)
    no_such = f"{', '.join(lacking)} {'has' if len(lacking) == 1 else 'have'} no {field}" if lacking else ""
    return Finding(wishes, "; ".join(filter(None, (merged.reason, no_such))))


def _of_backend(
    world: World, backend: str, field: str, value: Any, rank: int, *, opposed: bool = False
) -> Finding | None:
    if backend == "transformers" and field == "gpu_layers":
        if value in (0, "0") and not isinstance(value, bool):
            return Finding((Wish("loaders.transformers.device_map", "cpu", rank, how="no layers on the GPU"),))
        return left(OFF_CPU)
    key = f"loaders.{backend}.{field}"
    if key not in world.keys:
        return None
    if value is None:
        return left(NOTHING)
    how = ""
    if field in PATHS and value != "":
        found = existing(world, value, ())
        if found is None or not (world.is_file(found) or world.is_folder(found)):
            return left("there is no such file")
        value = str(found)
    try:
        converted, done = convert(world.keys[key], opposite(value) if opposed else value)
    except Refused as refused:
        return left(str(refused))
    if backend == "ctransformers" and field == "gpu_layers" and value in (-1, "-1"):
        how = "ctransformers itself took -1 for none; all layers are meant"
    return Finding((Wish(key, converted, rank, how=how or done),))


def _quantized(world: World, field: str, value: Any, backends: Sequence[str], rank: int) -> Finding | None:
    """transformers' two switches of bitsandbytes, which are one choice here."""
    key = "loaders.transformers.quantization"
    if "transformers" not in backends or key not in world.keys:
        return None
    if not isinstance(value, bool):
        return left("it must be true or false")
    if not value:
        return left("weights are loaded as they are by default")
    wanted = "bitsandbytes-8bit" if field == "load_in_8bit" else "bitsandbytes-4bit"
    return Finding((Wish(key, wanted, rank, how="called quantization now"),))


def argument(world: World, name: str, value: Any, backends: Sequence[str], rank: int) -> Finding:
    """One free argument: a parameter, a sampling value, or why it is left."""
    plain = plain_name(name)
    if plain in LEFT_ARGUMENTS:
        return left(LEFT_ARGUMENTS[plain])
    found = parameter(world, name, value, backends, rank) or sampling(name, value, rank)
    if found is not None:
        return found
    if not plain:
        return left("this is no argument that is known")
    whom = f"{backends[0]} has" if len(backends) == 1 else "backends have"
    return left(f"{whom} no parameter of this name here" + near(plain))


def argument_line(world: World, value: Any, backends: Sequence[str], rank: int) -> Finding:
    """All arguments of a list or of one line, which stand in the plan as one value."""
    findings = []
    for name, item, written in arguments(value):
        shown = shown_value("", written)
        found = argument(world, name, item, backends, rank)
        wishes = tuple(
            replace(wish, how=f"{shown}: {wish.key.rpartition('.')[2]}" + (f", {wish.how}" if wish.how else ""))
            for wish in found.wishes
        )
        findings.append(Finding(wishes, f"{shown}: {found.reason}" if found.reason else ""))
    return together(findings)


def together(findings: Iterable[Finding]) -> Finding:
    """Several findings as one; each reason is said once."""
    every = list(findings)
    reasons = dict.fromkeys(finding.reason for finding in every if finding.reason)
    return Finding(tuple(wish for finding in every for wish in finding.wishes), "; ".join(reasons))


# Backends by name


def preferred(world: World, value: Any, rank: int = 5) -> Finding:
    """The backend that goes before all others."""
    if value is None:
        return left(NOTHING)
    if not isinstance(value, str):
        return left("it must be the name of a backend")
    if plain_name(value) in ("auto", "automatic", "default", ""):
        return Finding((Wish("backends.preferred_backend", "auto", rank),))
    name = backend_named(value, world.loaders)
    if name is None:
        return left(f"there is no backend {shown_value('', value)} here")
    how = "" if name == value else f"called {name} here"
    return Finding((Wish("backends.preferred_backend", name, rank, how=how),))


def order(world: World, value: Any, rank: int = 5) -> Finding:
    """The order in which backends are tried."""
    if value in (None, []):
        return left(NOTHING if value is None else EMPTY)
    if not isinstance(value, list):
        return left("it must be a list of backends")
    found = [(item, backend_named(item, world.loaders) if isinstance(item, str) else None) for item in value]
    names = [name for _, name in found if name is not None]
    unknown = [shown_value("", item) for item, name in found if name is None]
    reason = f"no backend here: {', '.join(unknown)}" if unknown else ""
    if not names:
        return left(reason)
    once = list(dict.fromkeys(names))
    how = "" if once == value else "by the names of today"
    return Finding((Wish("backends.fallback_order", once, rank, how=how),), reason)


# Models


def folder(world: World, value: Any) -> Finding:
    """The folder whose models are listed."""
    if value in (None, ""):
        return left(NOTHING)
    if not isinstance(value, str):
        return left("it must be a folder")
    path = _path(value)
    if path is None or not path.is_absolute() or not world.is_folder(path):
        return left("there is no such folder now")
    if path == world.own_models:
        return left("it is the models folder by default")
    return Finding((Wish("models.directory", str(path)),))


def model(world: World, value: Any, folders: Sequence[Path], *, first: bool) -> Finding:
    """A model that was used: it stays in the list, and the `first` is the one to start with."""
    if value in (None, ""):
        return left(NOTHING)
    if not isinstance(value, str):
        return left("it must be the path of a model")
    path = existing(world, value, folders)
    if path is None or not world.is_file(path):
        return left("there is no such file now")
    if not path.name.lower().endswith(MODEL_ENDINGS):
        return left("it is no model file")
    wishes = [Wish("models.default_model", str(path), how="the model used last is loaded at start")] if first else []
    return Finding((*wishes, Wish("models.files", str(path), item=str(path))))


def existing(world: World, text: Any, folders: Sequence[Path]) -> Path | None:
    """The path that `text` named: as it stands, or by its name in one of the folders. None where there is none."""
    path = _path(text)
    if path is None:
        return None
    if path.is_absolute():
        return path if world.is_file(path) or world.is_folder(path) else None
    within = (base / path for base in (*folders, *world.folders))
    return next((one for one in within if world.is_file(one) or world.is_folder(one)), None)


def _path(text: Any) -> Path | None:
    if not isinstance(text, str) or not text.strip() or "\0" in text:
        return None
    try:
        return Path(os.path.normpath(Path(text.strip()).expanduser()))
    except RuntimeError:  # the home of a user who does not exist
        return None


def near(name: str) -> str:
    """`; perhaps n_ctx was meant`, or ""."""
    known = [*PARAMETERS, *OPPOSITES, *SAMPLING_KEYS, *PARAMETERS.values()]
    found = difflib.get_close_matches(name, known, n=1, cutoff=0.85)
    return f"; perhaps {found[0]} was meant" if found and found[0] != name else ""


def base_name(text: str) -> str:
    """The last part of a path of any system."""
    return ntpath.basename(text)


def _renamed(name: str, field: str) -> str:
    return "" if plain_name(name) == field else f"called {field} now"
