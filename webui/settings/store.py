"""Saving: the user's settings, and what is remembered for each model file.

Backend keys go to `backend_config.json`, everything else to `settings.yaml` in the user's home; comments and unknown
keys there survive. The checkout's own `settings.yaml` is never written.
"""

from __future__ import annotations

import io
import json
import logging
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from webui.errors import AppError, InvalidRequest, InvalidSetting
from webui.files import locked, remove_leftovers, storage_errors, write_atomically
from webui.settings import backend_config, last_good
from webui.settings.declared import plain, unknown
from webui.settings.model import Settings
from webui.settings.reading import parse_yaml, read_text
from webui.settings.taking_out import json_without, yaml_without

if TYPE_CHECKING:
    from webui.paths import Paths

log = logging.getLogger(__name__)

FIRST_LINES = "# Your settings, over those of the checkout. All keys are listed there in settings.yaml.\n"


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What the user's settings files held at one moment; None for a file that was not there."""

    settings: bytes | None
    backends: bytes | None


class SettingsStore:
    """Writes the user's layer. `settings` are those of this run, whose environment and command line stay in force.

    Whoever writes holds one lock of the home, reads the files anew, changes what is to be changed and replaces each
    file in one step; so two programs that change different keys lose nothing of each other's. A file that cannot be
    understood is kept aside before it is replaced (`webui.settings.last_good`); a broken settings.yaml is never
    replaced, since it may hold what keeps strangers out. Every write raises `StorageFailed` where the disk does not
    take it, and `Busy` where somebody else holds the lock for long; the files are then as they were.
    """

    def __init__(self, paths: Paths, settings: Settings | None = None) -> None:
        self._paths = paths
        self._settings = settings or Settings.load(paths)

    def load(self) -> Settings:
        """The settings as the files stand now."""
        return self._settings.reload()

    def save(self, changes: Mapping[str, Any]) -> Settings:
        """Write dotted keys and values; return the settings as they then are.

        Raises `InvalidSetting`, with nothing written, where a key or value is wrong or a file cannot be understood. A
        value that the environment or the command line also gives is saved and takes effect when those are gone.
        """
        return self.change(changes, ())

    def reset(self, keys: Iterable[str]) -> Settings:
        """Take dotted keys out of the user's files, so that the layers below show through."""
        return self.change({}, keys)

    def take_out(self, key: str, source: str) -> Settings:
        """Take out of the file called `source` what a problem of the settings names `key`, declared or not.

        Raises `InvalidRequest` where `source` is none of the user's files.
        """
        file = self._paths.settings_file
        with writing(self._paths):
            if source == str(file):
                text = read_text(file, source)
                parse_yaml(text, source)
                self._replace(yaml_without(text, key), None)
            elif source == self._paths.backend_config.name:
                self._replace(None, backend_config.text_of(json_without(self._backend_data(), key)))
            else:
                raise InvalidRequest(f"{key} comes from {source}, which is not for the app to change.")
            return self.load()

    def change(self, changes: Mapping[str, Any], removed: Iterable[str]) -> Settings:
        """`save` and `reset` in one step."""
        with writing(self._paths):
            settings = self.load()
            known = settings.keys()
            checked = {}
            for key, value in changes.items():
                if key not in known:
                    raise unknown(key, "what was to be saved", known)
                checked[key] = plain(settings.declaration(key).check(value, "what was to be saved"))
            gone = [key for key in removed if key not in checked]
            yours, backends = _parted(checked)
            yours_gone, backends_gone = _parted(dict.fromkeys(gone))
            # Both texts are made before either file is touched.
            paths, names = self._paths, settings.backends.order
            first = yours or (yours_gone and paths.settings_file.exists())
            second = backends or (backends_gone and paths.backend_config.exists())
            self._replace(
                self._yaml_with(yours, yours_gone) if first else None,
                self._backends_with(backends, backends_gone, names) if second else None,
            )
            return self.load()

    def snapshot(self) -> Snapshot:
        """The files as they are, to go back to."""
        return Snapshot(_bytes(self._paths.settings_file), _bytes(self._paths.backend_config))

    def go_back(self, snapshot: Snapshot, expected: Snapshot) -> Settings:
        """Make the files what they were at `snapshot`, byte for byte.

        Raises `InvalidRequest` where they are not as `expected` any more: what was saved since would be lost.
        """
        with writing(self._paths):
            if self.snapshot() != expected:
                raise InvalidRequest(
                    "The settings were changed since, so there is no way back to those from before.",
                    hint="What there was before lies in backups/ of the app's home: python3 app.py config import FILE.",
                )
            for file, content in (
                (self._paths.settings_file, snapshot.settings),
                (self._paths.backend_config, snapshot.backends),
            ):
                if content is None:
                    file.unlink(missing_ok=True)
                else:
                    write_atomically(file, content, private=file == self._paths.settings_file)
            return self.load()

    def add_unknown(self, entries: Mapping[str, Any], backends: Mapping[str, Mapping[str, Any]]) -> None:
        """Keep in backend_config.json what nobody declares: top keys, and keys of backends. What is there stays."""
        with writing(self._paths):
            data = self._backend_data()
            data = {**entries, **data}
            there = data.get("backends", {})
            if backends and isinstance(there, dict):
                data["backends"] = {**there}
                for name, content in backends.items():
                    own = there.get(name, {})
                    data["backends"][name] = {**content, **own} if isinstance(own, dict) else own
            self._replace(None, backend_config.text_of(data))

    def remember_good(self) -> None:
        """Bring the last good copies up to date with files that somebody edited. Does nothing where it cannot write."""
        if not (self._paths.settings_file.exists() or self._paths.backend_config.exists()):
            return
        try:
            with writing(self._paths):
                last_good.remember_good(self._paths.settings_file, parse_yaml)
                last_good.remember_good(self._paths.backend_config, backend_config.parse)
        except AppError as error:
            log.warning("The last good settings were not kept: %s", error.message)

    def _replace(self, settings: str | None, backends: str | None) -> None:
        """Write the new text of each file; None leaves it as it is."""
        if settings is not None:
            # Private because it may hold the API key and the login.
            last_good.write_kept(self._paths.settings_file, settings, private=True)
        if backends is not None:
            file = self._paths.backend_config
            if backend_config.find(file).broken:
                copy = last_good.set_aside(file)
                log.warning("%s could not be understood; it is kept as %s.", file, copy.name)
            last_good.write_kept(file, backends, private=False)

    def _yaml_with(self, changes: Mapping[str, Any], removed: Iterable[str]) -> str:
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
            target = document if not section else document.get(section)
            if isinstance(target, dict):
                target.pop(name, None)
        stream = io.StringIO()
        if not text:
            stream.write(FIRST_LINES)
        yaml.dump(document, stream)
        return stream.getvalue()

    def _backend_data(self) -> dict[str, Any]:
        """What the next backend_config.json is made from; raises where it is broken without a good copy."""
        file = self._paths.backend_config
        found = backend_config.find(file)
        if found.broken and found.source == file.name:
            raise found.problems[0]
        return found.data

    def _backends_with(self, changes: Mapping[str, Any], removed: Iterable[str], names: Iterable[str]) -> str:
        data = backend_config.remove(self._backend_data(), removed)
        return backend_config.text_of(backend_config.apply(data, changes, names))


@contextmanager
def writing(paths: Paths) -> Iterator[None]:
    """Hold the lock of the settings of this home, and tell the disk's complaints as `StorageFailed`."""
    with storage_errors(f"The settings in {paths.home} were not saved"), locked(paths.settings_lock):
        yield


def restore_last_good(paths: Paths) -> dict[Path, Path]:
    """Put the last good copy in the place of each settings file that cannot be understood; returns where those went."""
    restored = {}
    with writing(paths):
        for file, parse, private in (
            (paths.settings_file, parse_yaml, True),
            (paths.backend_config, backend_config.parse, False),
        ):
            if file.exists() and (copy := last_good.restore(file, parse, private=private)) is not None:
                restored[file] = copy
    return restored


class ModelSettings:
    """Loader and parameters that a person saved for one model, by the model's path."""

    def __init__(self, paths: Paths) -> None:
        self._paths = paths
        self._file = paths.model_settings

    def get(self, model_path: Path) -> dict[str, Any]:
        """`{"loader": name, "parameters": {…}}` as saved, or an empty dictionary."""
        entry = self._read().get(_path_key(model_path), {})
        return dict(entry) if isinstance(entry, dict) else {}

    def save(self, model_path: Path, loader: str, parameters: Mapping[str, Any]) -> None:
        """Remember `loader` (a name or "auto") and JSON `parameters` for this model."""
        with writing(self._paths):
            data = self._read()
            data[_path_key(model_path)] = {"loader": loader, "parameters": dict(parameters)}
            self._write(data)

    def save_all(self, entries: Mapping[str, Mapping[str, Any]]) -> None:
        """Remember many at once, by the models' paths, each as `get` gives it."""
        with writing(self._paths):
            self._write({**self._read(), **{path: dict(entry) for path, entry in entries.items()}})

    def forget(self, model_path: Path) -> None:
        with writing(self._paths):
            data = self._read()
            if data.pop(_path_key(model_path), None) is not None:
                self._write(data)

    def all(self) -> dict[str, dict[str, Any]]:
        """What is saved, by the models' paths."""
        return {path: dict(entry) for path, entry in self._read().items() if isinstance(entry, dict)}

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
        remove_leftovers(self._file)
        write_atomically(self._file, json.dumps(data, indent=2, ensure_ascii=False, sort_keys=True) + "\n")


def _parted(values: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Those that belong into settings.yaml, and those that belong into backend_config.json."""
    backends = {key: value for key, value in values.items() if key.startswith(("backends.", "loaders."))}
    return {key: value for key, value in values.items() if key not in backends}, backends


def _bytes(file: Path) -> bytes | None:
    return file.read_bytes() if file.exists() else None


def _section(document: Any, name: str) -> Any:
    """The mapping of a section, made where it is missing or empty."""
    if not isinstance(document.get(name), dict):
        document[name] = {}
    return document[name]


def _path_key(path: Path) -> str:
    return os.path.normcase(os.path.abspath(path))  # noqa: PTH100 (a link to a model is a model of its own)
