"""Where older files lie, and in which order they count: what stands in an earlier one goes before a later one.

First the files that were named, then the app's home, then `~/.config/gguf-loader`; in each folder the set of backends,
which says most about them, then the app's settings, then the rest by name. A home that `$GGUF_HOME` names is a world of
its own: only it is searched, and other folders are migrated from by naming them.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from webui.paths import HOME_FOLDER, Paths

NAMES = ("backend_config.json", "config.json", "app_config.json", "settings.json", "preferences.json")
PATTERN = ".config.json"
CONFIG_FOLDER = "gguf-loader"
DATA_FOLDERS = ("chats", "chat_history", "conversations", "sessions", "history", "performance", "metrics")
DATA_ENDINGS = (".json", ".jsonl")
MOST_FILES = 5000
"""In one folder of chats; a person who has more names them."""


@dataclass(frozen=True, slots=True)
class Found:
    """A file to read. `data` marks one that by its name and place may hold chats, models or measurements.

    `named` was asked for by somebody: it is mentioned whatever it holds.
    """

    file: Path
    data: bool = False
    named: bool = False


def older_folders(
    paths: Paths, user_home: Path | None = None, environment: Mapping[str, str] | None = None
) -> list[Path]:
    """The folders that are searched without being named."""
    found = os.environ if environment is None else environment
    user = user_home or Path(os.path.expanduser("~"))  # noqa: PTH111 (Path.home raises where nobody has a home)
    if paths.home != user / HOME_FOLDER:
        return [paths.home]
    settings = Path(found["XDG_CONFIG_HOME"]) if found.get("XDG_CONFIG_HOME", "").startswith("/") else user / ".config"
    return [paths.home, settings / CONFIG_FOLDER]


def find(paths: Paths, folders: Sequence[Path], named: Sequence[Path] = ()) -> list[Found]:
    """Everything that may be an older file, each once, in the order in which it counts."""
    own = _own_files(paths)
    found: list[Found] = []
    for path in named:
        found += _in_folder(path, own, named=True) if path.is_dir() else [Found(path, data=True, named=True)]
    for folder in folders:
        found += _in_folder(folder, own)
    once: dict[str, Found] = {}
    for one in found:
        once.setdefault(os.path.realpath(one.file), one)
    return list(once.values())


def _in_folder(folder: Path, own: frozenset[Path], *, named: bool = False) -> list[Found]:
    try:
        children = sorted(folder.iterdir())
    except OSError:  # not there, or not ours to look into
        return []
    by_name = {child.name.lower(): child for child in children}
    found = [Found(by_name[name], named=named) for name in NAMES if name in by_name]
    found += [
        Found(child, named=named)
        for child in children
        if child.name.lower().endswith(PATTERN) and child.name.lower() not in NAMES
    ]
    taken = {one.file for one in found}
    for child in children:
        if child.name.lower() in DATA_FOLDERS and child.is_dir():
            inner = sorted(path for path in child.rglob("*") if path.suffix.lower() in DATA_ENDINGS)[:MOST_FILES]
            found += [Found(path, data=True, named=named) for path in inner if path not in own and path.is_file()]
        elif child.suffix.lower() in DATA_ENDINGS and child not in taken and child not in own:
            found.append(Found(child, data=True, named=named))
    return found


def _own_files(paths: Paths) -> frozenset[Path]:
    """What this app itself keeps in its home, but for `backend_config.json`, which may have an older form."""
    values = (getattr(paths, name) for name in dir(type(paths)) if isinstance(getattr(type(paths), name), property))
    return frozenset(value for value in values if isinstance(value, Path) and value != paths.backend_config)
