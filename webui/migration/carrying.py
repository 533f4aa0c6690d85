"""Doing what a plan says, whole or not at all.

Everything is prepared in a home within the backup, through `SettingsStore` as ever, and loaded there to see that it
holds. Then the files take their places one by one; the manifest knows them all, so that whoever comes after a crash
goes on where it ended (`undoing.recover`).
"""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from webui.chat import carried
from webui.chat.presets import PresetStore
from webui.errors import AppError, InvalidSetting, StorageFailed
from webui.files import locked, write_atomically
from webui.loaders.contract import LoaderSpec
from webui.loaders.sampling import SamplingParameters
from webui.migration import backup as backups
from webui.migration.backup import Backup, Conversations, State, Written
from webui.migration.forms import present_part
from webui.migration.journal import note, undo_written
from webui.migration.older_figures import read_speeds
from webui.migration.plan import Effects, Outcome, Plan
from webui.migration.reading import Document
from webui.paths import Paths
from webui.settings import Settings, SettingsStore

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Carried:
    """A migration that is done. `notes` are sentences on what does not hold at once, and why."""

    backup: Backup
    notes: tuple[str, ...] = ()


def carry(
    paths: Paths,
    plan: Plan,
    documents: Sequence[Document],
    loaders: Mapping[str, LoaderSpec],
    settings: Settings,
    now: float,
) -> Carried:
    """Carry out `plan`. Raises `AppError` with everything as it was before."""
    try:
        with locked(paths.settings_lock):
            backup = backups.begin(paths, now)
            try:
                prepared = _prepare(paths, backup, plan, documents, loaders)
            except BaseException:
                backups.discard(backup)
                raise
            done = apply(paths, prepared)
    except OSError as error:
        raise StorageFailed(
            "The older settings were not carried over, and nothing was changed.",
            cause=str(error),
            hint="Make room on the disk, or see to its permissions, and try again.",
        ) from error
    after = settings.with_loaders(loaders)
    _log_plan(paths, plan, done)
    return Carried(done, tuple(_in_force(after, plan.effects.settings)))


def _prepare(
    paths: Paths, backup: Backup, plan: Plan, documents: Sequence[Document], loaders: Mapping[str, LoaderSpec]
) -> Backup:
    """Copy what is there, make what will be there, and check that it loads."""
    sources = []
    for place, document in enumerate(documents):
        if document.raw:
            name = f"{backups.SOURCES}/{place:04d}-{document.file.name}"
            sources.append((str(document.file), backups.copy_in(backup, name, document.file, document.raw)))
    write_atomically(
        backup.folder / backups.PLAN,
        json.dumps([line.to_dict() for line in plan.lines], indent=1, ensure_ascii=False),
        private=True,
    )
    stage = Paths(backup.folder / backups.NEW, paths.project_root)
    before = _make(paths, stage, plan.effects, documents, loaders)
    _check(stage, loaders, before, plan.effects)
    written = []
    for path in _staged(stage):
        real = paths.home / path.relative_to(stage.home)
        after = backups.copy_in(backup, str(path.relative_to(backup.folder)), path)
        held = backups.copy_in(backup, f"{backups.BEFORE}/{path.name}", real) if real.exists() else None
        if held is None or held.sha256 != after.sha256:
            written.append(Written(str(real), held, after))
    counts = {outcome.name.lower(): plan.count(outcome) for outcome in Outcome}
    return backup.at(
        State.APPLYING,
        sources=tuple(sources),
        written=tuple(written),
        conversations=_conversations(paths, backup, plan.effects),
        counts=counts,
    )


def _make(
    paths: Paths, stage: Paths, effects: Effects, documents: Sequence[Document], loaders: Mapping[str, LoaderSpec]
) -> frozenset[str]:
    """The home as it will be, in `stage`; returns the problems that its settings had before anything was added."""
    stage.home.mkdir(mode=0o700)
    kept = [paths.settings_file, paths.older_speeds, *sorted(paths.presets.glob("*.yaml"))]
    older = next((document for document in documents if document.file == paths.backend_config), None)
    if not effects.new_form:
        kept.append(paths.backend_config)
    for file in kept:
        if file.is_file():
            target = stage.home / file.relative_to(paths.home)
            target.parent.mkdir(exist_ok=True)
            shutil.copy2(file, target)
    if effects.new_form and older is not None:
        write_atomically(stage.backend_config, json.dumps(present_part(older.content), indent=2) + "\n")
        stage.backend_config.chmod(older.file.stat().st_mode & 0o777)
    settings = Settings.load(stage, environment={}, loaders=loaders)
    presets = PresetStore(stage)
    if effects.sampling:
        base = presets.get(_preset_in_force(settings, presets)).model_dump()
        values = SamplingParameters.parse({**base, **effects.sampling}, where="the older settings")
        presets.save(effects.preset, values, description="Carried over from the older app.")
    if effects.settings:
        SettingsStore(stage, settings).save(effects.settings)
    if effects.speeds:
        known = read_speeds(stage.older_speeds)
        write_atomically(stage.older_speeds, json.dumps([*known, *effects.speeds], indent=1, ensure_ascii=False) + "\n")
    return frozenset(problem.message for problem in settings.problems)


def _preset_in_force(settings: Settings, presets: PresetStore) -> str:
    name = settings.chat.default_preset
    return name if name in presets.names() else "balanced"


def _staged(stage: Paths) -> list[Path]:
    files = (stage.settings_file, stage.backend_config, stage.older_speeds, *sorted(stage.presets.glob("*.yaml")))
    return [path for path in files if path.exists()]


def _check(stage: Paths, loaders: Mapping[str, LoaderSpec], before: frozenset[str], effects: Effects) -> None:
    """The settings as they will be load, say what was planned, and have no problem they did not have."""
    after = Settings.load(stage, environment={}, loaders=loaders)
    wrong = [problem.message for problem in after.problems if problem.message not in before]
    shown = after.shown()
    wrong += [key for key, value in effects.settings.items() if shown.get(key) != value]
    if wrong:
        raise InvalidSetting(
            "What was to be carried over does not make sound settings, and nothing was changed.",
            cause="; ".join(wrong)[:500],
            hint="Run migrate --dry-run to see the plan, and correct the older file.",
        )


def _conversations(paths: Paths, backup: Backup, effects: Effects) -> Conversations | None:
    if not effects.chats:
        return None
    path = paths.conversations
    content = carried.snapshot(path)
    before = None if content is None else backups.copy_in(backup, f"{backups.BEFORE}/{path.name}", path, content)
    return Conversations(str(path), before, tuple(asdict(chat) for chat in effects.chats))


def apply(paths: Paths, backup: Backup) -> Backup:
    """Put everything that was prepared in its place; may be called again after a crash.

    The caller holds the lock of the settings.
    Where a file cannot be written, or is not as it was when the migration was prepared, all is put back; raises then.
    """
    added = backup.conversations
    try:
        for one in backup.written:
            now = backups.current_sum(Path(one.path))
            if now not in (one.after.sha256, one.before.sha256 if one.before else ""):
                raise InvalidSetting(
                    f"{Path(one.path).name} was changed by somebody meanwhile; nothing was carried over.",
                    hint="Try again.",
                )
            backups.put(Path(one.path), backup.content(one.after), one.after, times=False)
        added = _add_conversations(backup)
        done = backup.at(State.DONE, conversations=added)
    except (OSError, AppError):
        undo_written(backup.at(State.UNDOING, conversations=added))
        raise
    note(paths, f"{backup.name}: done; the files before it are in {backup.folder}")
    return done


def _add_conversations(backup: Backup) -> Conversations | None:
    held = backup.conversations
    if held is None:
        return None
    path = Path(held.path)
    carried.add(path, [chat_of(content) for content in held.chats])
    after = "" if carried.is_open(path) else backups.current_sum(path)
    return Conversations(held.path, held.before, held.chats, after)


def chat_of(content: Mapping[str, Any]) -> carried.CarriedChat:
    """The conversation as the manifest keeps it."""
    turns = tuple((str(role), str(text), float(at)) for role, text, at in content["messages"])
    return carried.CarriedChat(**{**content, "messages": turns})


def _log_plan(paths: Paths, plan: Plan, backup: Backup) -> None:
    for line in plan.lines:
        to = ", ".join(target.logged() for target in line.targets)
        why = f" ({line.why()})" if line.why() else ""
        note(
            paths, f"{backup.name}: {line.file} {line.name or 'as a whole'} = {line.logged()}: {line.outcome} {to}{why}"
        )
    log.info("Older settings were carried over; %s says what became of each value.", paths.migration_log.name)


def _in_force(after: Settings, wanted: Mapping[str, Any]) -> list[str]:
    """What is saved and yet not in force, because this run was told otherwise."""
    shown = after.shown()
    return [
        f"{key} is saved, but {after.source(key)} goes before it."
        for key, value in wanted.items()
        if shown.get(key) != value
    ]
