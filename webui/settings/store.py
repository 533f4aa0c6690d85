"""Saving: the user's settings, and what is remembered for each model file.

Backend keys go to `backend_config.json`, everything else to `settings.yaml` in the user's home; comments and unknown
keys there survive. The checkout's own `settings.yaml` is never written.
"""

from __future__ import annotations

import io
import json
import os
import threading
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from webui.errors import InvalidSetting
from webui.files import write_atomically
from webui.settings import backend_config
from webui.settings.declared import plain, unknown
from webui.settings.layers import parse_yaml, read_text
from webui.settings.model import Settings

if TYPE_CHECKING:
    from webui.paths import Paths

FIRST_LINES = "# Your settings, over those of the checkout. All keys are listed there in settings.yaml.\n"


class SettingsStore:
    """Writes the user's layer. `settings` are those of this run, whose environment and command line stay in force."""

    def __init__(self, paths: Paths, settings: Settings | None = None) -> None:
        self._paths = paths
        self._settings = settings or Settings.load(paths)
        self._lock = threading.Lock()

    def load(self) -> Settings:
        """The settings as the files stand now."""
        return self._settings.reload()

    def save(self, changes: Mapping[str, Any]) -> Settings:
        """Write dotted keys and values; return the settings as they then are.

        Raises `InvalidSetting`, with nothing written, where a key or value is wrong or a file cannot be understood. A
        value that the environment or the command line also gives is saved and takes effect when those are gone.
        """
        with self._lock:
            settings = self.load()
            checked = {}
            known = settings.keys()
            for key, value in changes.items():
                if key not in known:
                    raise unknown(key, "what was to be saved", known)
                checked[key] = plain(settings.declaration(key).check(value, "what was to be saved"))
            yours = {key: value for key, value in checked.items() if not _is_backend(key)}
            backends = {key: value for key, value in checked.items() if _is_backend(key)}
            if yours:
                self._write_yaml(yours, ())
            if backends:
                data = backend_config.apply(self._read_backends(), backends, settings.backends.order)
                self._write_backends(data)
            return self.load()

    def reset(self, keys: Iterable[str]) -> Settings:
        """Take dotted keys out of the user's files, so that the layers below show through."""
        with self._lock:
            wanted = list(keys)
            yours = [key for key in wanted if not _is_backend(key)]
            backends = [key for key in wanted if _is_backend(key)]
            if yours and self._paths.settings_file.exists():
                self._write_yaml({}, yours)
            if backends and self._paths.backend_config.exists():
                self._write_backends(backend_config.remove(self._read_backends(), backends))
            return self.load()

    def _write_yaml(self, changes: Mapping[str, Any], removed: Iterable[str]) -> None:
        from ruamel.yaml import YAML

        file = self._paths.settings_file
        text = read_text(file, str(file))
        parse_yaml(text, str(file))
        yaml = YAML()
        yaml.preserve_quotes = True
        document = yaml.load(text or FIRST_LINES)
        document = yaml.map() if document is None else document
        for key, value in changes.items():
            section, _, name = key.rpartition(".")
            target = document if not section else _section(document, section)
            target[name] = value
        for key in removed:
            section, _, name = key.rpartition(".")
            target = document if not section else document.get(section) or {}
            target.pop(name, None)
        stream = io.StringIO()
        if not text:
            stream.write(FIRST_LINES)
        yaml.dump(document, stream)
        # Private because it may hold the API key and the login.
        write_atomically(file, stream.getvalue(), private=True)

    def _read_backends(self) -> dict[str, Any]:
        file = self._paths.backend_config
        return backend_config.parse(read_text(file, file.name), file.name)

    def _write_backends(self, data: Mapping[str, Any]) -> None:
        write_atomically(self._paths.backend_config, json.dumps(data, indent=2, ensure_ascii=False) + "\n")


class ModelSettings:
    """Loader and parameters that a person saved for one model, by the model's path."""

    def __init__(self, paths: Paths) -> None:
        self._file = paths.model_settings
        self._lock = threading.Lock()

    def get(self, model_path: Path) -> dict[str, Any]:
        """`{"loader": name, "parameters": {…}}` as saved, or an empty dictionary."""
        entry = self._read().get(_path_key(model_path), {})
        return dict(entry) if isinstance(entry, dict) else {}

    def save(self, model_path: Path, loader: str, parameters: Mapping[str, Any]) -> None:
        """Remember `loader` (a name or "auto") and JSON `parameters` for this model."""
        with self._lock:
            data = self._read()
            data[_path_key(model_path)] = {"loader": loader, "parameters": dict(parameters)}
            self._write(data)

    def forget(self, model_path: Path) -> None:
        with self._lock:
            data = self._read()
            if data.pop(_path_key(model_path), None) is not None:
                self._write(data)

    def _read(self) -> dict[str, Any]:
        source = self._file.name
        text = read_text(self._file, source)
        try:
            data = json.loads(text) if text.strip() else {}
        except json.JSONDecodeError as error:
            raise InvalidSetting(
                f"{source} is not valid JSON: {error.msg} in line {error.lineno}",
                hint=f"Correct or remove {self._file}.",
                source=source,
            ) from error
        if not isinstance(data, dict):
            raise InvalidSetting(f"{source} must hold one JSON object", hint=f"Correct or remove {self._file}.")
        return data

    def _write(self, data: Mapping[str, Any]) -> None:
        write_atomically(self._file, json.dumps(data, indent=2, ensure_ascii=False, sort_keys=True) + "\n")


def _is_backend(key: str) -> bool:
    return key.startswith(("backends.", "loaders."))


def _section(document: Any, name: str) -> Any:
    """The mapping of a section, made where it is missing or empty."""
    if not isinstance(document.get(name), dict):
        document[name] = {}
    return document[name]


def _path_key(path: Path) -> str:
    return os.path.normcase(os.path.abspath(path))  # noqa: PTH100 (a link to a model is a model of its own)
