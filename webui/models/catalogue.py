"""The models in the models folders, with their facts, read once and remembered by path, size and time.

The memory is one JSON file that may be deleted at any time. What is broken stays in the list, with its reason, so that
a person sees why a file they downloaded cannot be chosen.
"""

from __future__ import annotations

import difflib
import json
import logging
import os
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from webui.errors import AppError, ModelNotFound
from webui.files import write_atomically
from webui.models.facts import ModelFacts, facts_from_dict, facts_to_dict
from webui.models.ggml import MAGICS as GGML_MAGICS
from webui.models.gguf_facts import PART, set_stem
from webui.models.inspect import inspect_model, model_id
from webui.models.transformers_dir import is_transformers_dir

log = logging.getLogger(__name__)

CACHE_VERSION = 2
"""Raise it whenever facts are read differently, so that remembered ones are read anew."""
DEEPEST = 4
MOST_FILES = 50_000
"""Where somebody names a whole disk as the models folder, the walk ends here."""
COMPANION_TYPES = frozenset({"adapter", "mmproj", "imatrix"})
COMPANION_ARCHITECTURES = frozenset({"clip"})
WEIGHT_DOCUMENTS = frozenset({".json", ".jinja", ".safetensors", ".bin", ".model"})

Fingerprint = list[list[Any]]
"""[name, size in bytes, modification time in ns] of every file the facts were read from."""


@dataclass(frozen=True, slots=True)
class BrokenModel:
    """A file that looks like a model and is none; `error` says why."""

    path: Path
    error: AppError


Entry = ModelFacts | BrokenModel


class Catalogue:
    """Models under `directories` and further `files`, in order of their names. May be used from several threads.

    A further file that is not there is left out: people move models, and unplug the disks they are on.
    """

    def __init__(self, directories: Sequence[Path], cache_file: Path, files: Sequence[str] = ()) -> None:
        self.directories = tuple(directories)
        self._files = tuple(files)
        self._cache_file = cache_file
        self._lock = threading.Lock()
        self._remembered: dict[str, tuple[Fingerprint, Entry]] | None = None
        self._entries: tuple[Entry, ...] | None = None

    def entries(self) -> tuple[Entry, ...]:
        """The list as of the latest `refresh`, which the first call makes."""
        entries = self._entries
        return entries if entries is not None else self.refresh()

    def look_in(self, directories: Sequence[Path], files: Sequence[str] = ()) -> None:
        """List the models of other folders, and other further files, from now on."""
        if (tuple(directories), tuple(files)) != (self.directories, self._files):
            self.directories, self._files, self._entries = tuple(directories), tuple(files), None

    def refresh(self) -> tuple[Entry, ...]:
        """Look at the folders again; only new and changed files are opened."""
        with self._lock:
            before = self._recall()
            paths = dict.fromkeys([*candidates(self.directories), *self._further()])
            found = {str(path): self._judge(path, before) for path in paths}
            if found != before:
                self._remembered = found
                self._save(found)
            models = (entry for _, entry in found.values() if isinstance(entry, BrokenModel) or not companion(entry))
            self._entries = tuple(sorted(models, key=lambda entry: (entry.path.name.lower(), str(entry.path))))
            return self._entries

    def find(self, name_or_path: str | Path) -> ModelFacts:
        """The model of that path, file name or model id (case does not matter).

        Raises `ModelNotFound`, with the nearest names, or the error of a model that is broken.
        """
        wanted = str(name_or_path).strip()
        if not wanted:
            raise ModelNotFound("No model is named.")
        path = self._existing(wanted)
        if path is not None:
            return inspect_model(path)
        entry = self._named(wanted, self.entries()) or self._named(wanted, self.refresh())
        if entry is None:
            raise self._not_found(wanted)
        if isinstance(entry, BrokenModel):
            raise entry.error
        return entry

    def _further(self) -> Iterator[Path]:
        for name in self._files:
            path = Path(os.path.expanduser(name))  # noqa: PTH111 (Path.expanduser raises for an unknown user)
            if path.is_absolute() and os.path.exists(path):  # noqa: PTH110 (Path.exists raises for some names)
                yield path

    def _existing(self, wanted: str) -> Path | None:
        """The file named, as it stands or within one of the folders."""
        as_given = Path(os.path.expanduser(wanted))  # noqa: PTH111 (Path.expanduser raises for an unknown user)
        for path in (as_given, *(directory / as_given for directory in self.directories)):
            try:
                # A plain word is a model's name before it is a folder that happens to be here.
                if path.is_file() or (path.is_dir() and (os.sep in wanted or "/" in wanted)):
                    return path.absolute()
            except OSError:  # no path at all, such as one that is too long
                continue
        return None

    def _named(self, wanted: str, entries: Sequence[Entry]) -> Entry | None:
        lowered = wanted.lower()
        return next((entry for entry in entries if lowered in names_of(entry)), None)

    def _not_found(self, wanted: str) -> ModelNotFound:
        known = [name_of(entry) for entry in self.entries()]
        near = difflib.get_close_matches(wanted, known, n=3, cutoff=0.4)
        if near:
            hint = "Did you mean " + " or ".join(near) + "?"
        elif known:
            hint = "There are: " + ", ".join(known[:10]) + (" …" if len(known) > 10 else "")
        else:
            hint = "Put a GGUF file into " + " or ".join(str(directory) for directory in self.directories)
        return ModelNotFound(f"There is no model called {wanted[:200]!r}.", hint=hint, near=near)

    def _judge(self, path: Path, before: dict[str, tuple[Fingerprint, Entry]]) -> tuple[Fingerprint, Entry]:
        fingerprint = _fingerprint(path)
        known = before.get(str(path))
        if known is not None and known[0] == fingerprint:
            return known
        try:
            return fingerprint, inspect_model(path)
        except AppError as error:
            return fingerprint, BrokenModel(path, error)

    def _recall(self) -> dict[str, tuple[Fingerprint, Entry]]:
        if self._remembered is None:
            self._remembered = _load(self._cache_file)
        return self._remembered

    def _save(self, found: dict[str, tuple[Fingerprint, Entry]]) -> None:
        entries = {path: {"files": files, **_entry_to_dict(entry)} for path, (files, entry) in found.items()}
        try:
            write_atomically(self._cache_file, json.dumps({"version": CACHE_VERSION, "entries": entries}))
        except OSError as error:  # the list is right all the same; the next start reads the headers again
            log.warning("the catalogue cannot be remembered in %s: %s", self._cache_file, error)


def name_of(entry: Entry) -> str:
    """The model id, also for a broken file."""
    return model_id(entry) if isinstance(entry, ModelFacts) else set_stem(entry.path)


def names_of(entry: Entry) -> set[str]:
    """Everything a person may call the model, in lower case."""
    names = {name_of(entry), entry.path.name, str(entry.path)}
    if isinstance(entry, ModelFacts):
        names |= {entry.name, *(file.name for file in entry.files if entry.path.is_file())}
    return {name.lower() for name in names}


def companion(facts: ModelFacts) -> bool:
    """Whether the file only goes with a model: a projector, an adapter, an importance matrix."""
    return facts.architecture in COMPANION_ARCHITECTURES or facts.metadata.get("general.type") in COMPANION_TYPES


def candidates(directories: Sequence[Path]) -> Iterator[Path]:
    """Every path that should be a model, each once: files, the first part of each set, transformers directories."""
    visited: set[str] = set()
    seen: set[str] = set()
    for directory in directories:
        for path in _walk(directory, DEEPEST, visited):
            if str(path) not in seen:
                seen.add(str(path))
                yield path


def _walk(directory: Path, depth: int, visited: set[str]) -> Iterator[Path]:
    """Models in `directory` and below. Links are followed, each real folder once."""
    real = os.path.realpath(directory)
    if real in visited or len(visited) > MOST_FILES:
        return
    visited.add(real)
    try:
        children = sorted(directory.iterdir())
        whole = is_transformers_dir(directory)
    except OSError as error:
        if directory.exists():
            log.warning("%s cannot be listed: %s", directory, error)
        return
    if whole:
        yield directory
    folders = []
    for child in children:
        if child.name.startswith("."):
            continue
        if child.is_dir():
            folders.append(child)
        elif _is_model_file(child):
            yield _first_part(child)
    if depth > 1 and not whole:
        for folder in folders:
            yield from _walk(folder, depth - 1, visited)


def _is_model_file(path: Path) -> bool:
    """By its name; `.bin` is everybody's extension, so those must begin as old ggml files do."""
    suffix = path.suffix.lower()
    if suffix not in (".bin", ".ggml"):
        return suffix in (".gguf", ".llamafile") or path.name.lower().endswith(".llamafile.exe")
    try:
        with path.open("rb") as file:
            return file.read(4) in GGML_MAGICS
    except OSError:
        return False


def _first_part(path: Path) -> Path:
    """The set's first file, or the first that is there, so that a set with parts missing is listed once."""
    match = PART.match(path.name)
    if match is None:
        return path
    parts = (
        p
        for p in path.parent.iterdir()
        if (m := PART.match(p.name)) and m.group("stem", "count") == match.group("stem", "count")
    )
    return min(parts)


def _fingerprint(path: Path) -> Fingerprint:
    if path.is_dir():
        files = sorted(child for child in path.iterdir() if child.suffix.lower() in WEIGHT_DOCUMENTS)
    elif PART.match(path.name):
        stem = set_stem(path)
        files = sorted(child for child in path.parent.iterdir() if PART.match(child.name) and set_stem(child) == stem)
    else:
        files = [path]
    return [_stamp(file) for file in files]


def _stamp(file: Path) -> list[Any]:
    try:
        status = file.stat()
    except OSError:  # a dangling link; reading it will say so
        return [file.name, -1, -1]
    return [file.name, status.st_size, status.st_mtime_ns]


def _entry_to_dict(entry: Entry) -> dict[str, Any]:
    if isinstance(entry, ModelFacts):
        return {"facts": facts_to_dict(entry)}
    return {"error": entry.error.to_dict()}


def _load(cache_file: Path) -> dict[str, tuple[Fingerprint, Entry]]:
    """What an earlier run remembered; nothing where the file is missing, older or damaged."""
    try:
        content = json.loads(cache_file.read_bytes())
        if content["version"] != CACHE_VERSION:
            return {}
        return {path: (item["files"], _entry(Path(path), item)) for path, item in content["entries"].items()}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError, ValidationError) as error:
        log.info("the catalogue is read anew, since %s cannot be used: %s", cache_file.name, type(error).__name__)
        return {}


def _entry(path: Path, item: dict[str, Any]) -> Entry:
    if "facts" in item:
        return facts_from_dict(item["facts"])
    return BrokenModel(path, AppError.from_dict(item["error"]))
