"""Looking at the disk for a plan: the older files, the settings as they are, and what was carried over before."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from webui.chat import carried
from webui.chat.presets import PresetStore
from webui.errors import AppError
from webui.files import write_atomically
from webui.loaders.contract import LoaderSpec
from webui.migration import backup as backups
from webui.migration.forms import is_older, present_part
from webui.migration.meanings import World
from webui.migration.older_figures import read_speeds
from webui.migration.places import Found, find, older_folders
from webui.migration.plan import Effects, Plan
from webui.migration.planner import PRESET, Present, make_plan
from webui.migration.reading import Document, read
from webui.paths import Paths
from webui.settings import Settings
from webui.settings.declared import declare

MOST_FURTHER = 20
"""Files that older files name, one another in turn."""


@dataclass(frozen=True, slots=True)
class Survey:
    """The plan, and the files that it was made from."""

    plan: Plan
    documents: tuple[Document, ...]


def survey(
    paths: Paths, loaders: Mapping[str, LoaderSpec], named: Sequence[Path] = (), user_home: Path | None = None
) -> Survey:
    """Look, and plan. Changes nothing. Raises `InvalidSetting` where today's settings cannot be read."""
    folders = older_folders(paths, user_home)
    read_files = _read_all(find(paths, folders, named))
    mentioned = [(found, document) for found, document in read_files if not _own_form(paths, document)]
    if not mentioned:
        return Survey(Plan((), (), Effects()), ())
    older = next((document for found, document in mentioned if document.file == paths.backend_config), None)
    older = older if older is not None and not older.problem else None
    present = _present(paths, loaders, older)
    world = _world(paths, loaders, folders)
    plan = make_plan(mentioned, world, present, time.time())
    if older is not None:
        plan = replace(plan, effects=replace(plan.effects, new_form=True))
    return Survey(plan, tuple(document for _, document in mentioned))


def _read_all(files: Sequence[Found]) -> list[tuple[Found, Document]]:
    """Each file, and behind it those that it names as its own."""
    result: list[tuple[Found, Document]] = []
    seen: set[str] = set()
    waiting = list(files)
    further = 0
    while waiting:
        found = waiting.pop(0)
        real = os.path.realpath(found.file)
        if real in seen:
            continue
        seen.add(real)
        document = read(found.file)
        result.append((found, document))
        other = document.content.get("backend_config_path") if isinstance(document.content, dict) else None
        if isinstance(other, str) and other.strip() and "\0" not in other and further < MOST_FURTHER:
            path = found.file.parent / Path(os.path.expanduser(other.strip()))  # noqa: PTH111 (raises for no such user)
            if os.path.isfile(path):  # noqa: PTH113 (Path.is_file raises for some names)
                further += 1
                waiting.append(Found(path))
    return result


def _own_form(paths: Paths, document: Document) -> bool:
    """Whether it is the app's own `backend_config.json`; a broken one is the app's own as well, which reports it."""
    if document.file != paths.backend_config:
        return False
    return bool(document.problem) or not is_older(document.content)


def _world(paths: Paths, loaders: Mapping[str, LoaderSpec], folders: Sequence[Path]) -> World:
    return World(
        declare(loaders),
        loaders,
        lambda path: os.path.isfile(path),  # noqa: PTH113 (Path.is_file raises for some names)
        lambda path: os.path.isdir(path),  # noqa: PTH112 (as above)
        tuple(dict.fromkeys([paths.models, *(folder / "models" for folder in folders)])),
        paths.models,
    )


def _present(paths: Paths, loaders: Mapping[str, LoaderSpec], older: Document | None) -> Present:
    """What is set here, apart from what an older `backend_config.json` says where the app's own belongs."""
    with tempfile.TemporaryDirectory(prefix="gguf-migration-", ignore_cleanup_errors=True) as folder:
        bare = Settings.load(Paths(Path(folder) / "bare", paths.project_root), environment={}, loaders=loaders)
        stage = Paths(Path(folder) / "stage", paths.project_root)
        stage.home.mkdir()
        if paths.settings_file.exists():
            shutil.copyfile(paths.settings_file, stage.settings_file)
        if older is not None:
            write_atomically(stage.backend_config, json.dumps(present_part(older.content)))
        elif paths.backend_config.exists():
            shutil.copyfile(paths.backend_config, stage.backend_config)
        settings = Settings.load(stage, environment={}, loaders=loaders)
    values = {key: settings.value(key) for key in settings.keys()}  # noqa: SIM118 (no mapping)
    chosen = frozenset(key for key in values if settings.source(key) != bare.source(key))
    presets = PresetStore(paths)
    return Present(
        values,
        chosen,
        settings.backends.order,
        _values_of(presets, settings.chat.default_preset) or _values_of(presets, "balanced") or {},
        _values_of(presets, PRESET) if presets.own(PRESET) else None,
        carried.known(paths.conversations) | _carried_before(paths),
        frozenset("|".join(map(str, speed.values())) for speed in read_speeds(paths.older_speeds)),
        settings.models.directory or paths.models,
    )


def _values_of(presets: PresetStore, name: str) -> dict[str, Any] | None:
    try:
        return presets.get(name).model_dump(mode="json")
    except AppError:  # the chat says what is wrong with it
        return None


def _carried_before(paths: Paths) -> frozenset[str]:
    """Conversations that came over once and are perhaps deleted since."""
    held = [one.conversations for one in backups.all_backups(paths) if one.state is backups.State.DONE]
    return frozenset(str(chat["id"]) for one in held if one is not None for chat in one.chats)
