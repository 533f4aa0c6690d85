"""The way back: undoing the latest migration, and bringing one to an end that a crash left half done."""

from __future__ import annotations

import logging
from pathlib import Path

from webui.chat import carried
from webui.errors import AppError, ConfigurationError, NotFound, StorageFailed
from webui.files import locked
from webui.migration import backup as backups
from webui.migration.backup import Backup, State
from webui.migration.carrying import apply, chat_of
from webui.migration.journal import note, set_aside, sweep, undo_written
from webui.paths import Paths

log = logging.getLogger(__name__)


class ChangedSince(ConfigurationError):
    """What a migration wrote was changed after it; undoing would lose that."""

    code = "changed_since_migration"
    default_hint = "Undo it all the same with migrate --rollback --force; what is there now is kept in the backup."


def undo(paths: Paths, *, force: bool = False) -> Backup:
    """Undo the latest migration: every file it wrote is as it was, to the byte, and those it made are gone.

    Raises `NotFound` where there is none, and `ChangedSince` where files were changed since; `force` goes over that.
    """
    try:
        with locked(paths.settings_lock):
            backup = backups.latest_done(paths)
            if backup is None:
                raise NotFound(
                    "There is no migration to undo.", hint=f"Migrations are kept in {paths.backups}, one folder each."
                )
            changed = changed_since(backup)
            if changed and not force:
                raise ChangedSince(f"Changed since the migration: {', '.join(changed)}.")
            for copy in backup.before():
                backup.content(copy)  # it is whole; seen before anything is changed
            for one in backup.written:
                path = Path(one.path)
                if path.name in changed and path.exists():
                    set_aside(backup, path)
            undone = undo_written(backup.at(State.UNDOING))
    except OSError as error:
        raise StorageFailed(
            "The migration could not be undone now; the next start goes on with it.",
            cause=str(error),
            hint="Make room on the disk, or see to its permissions.",
        ) from error
    note(paths, f"{undone.name}: undone; {len(undone.written)} files are as they were before")
    return undone


def changed_since(backup: Backup) -> list[str]:
    """What is no longer as the migration left it, by name."""
    files = [Path(one.path) for one in backup.written]
    found = []
    for one, path in zip(backup.written, files, strict=True):
        now = backups.current_sum(path)
        if now not in (one.after.sha256, one.before.sha256 if one.before else ""):
            found.append(path.name)
    held = backup.conversations
    if held is not None:
        chats = carried.changed(Path(held.path), [chat_of(content) for content in held.chats])
        found += [f"the conversation {chat.title}" for chat in chats]
    return found


def recover(paths: Paths) -> list[str]:
    """Bring migrations to an end that were cut short; returns a sentence for each. Never raises.

    One that was still being prepared is dropped, for it had changed nothing; others are completed or undone.
    """
    if not any(_unfinished(folder) for folder in backups.folders(paths)):
        return []
    said = []
    try:
        with locked(paths.settings_lock):
            for folder in backups.folders(paths):
                # Read again: whoever held the lock may have ended it meanwhile.
                if _unfinished(folder):
                    said.append(_finish(paths, folder))
    except (OSError, AppError) as error:
        log.error("A migration that was cut short cannot be brought to an end: %s", error)
        said.append(f"A migration that was cut short cannot be brought to an end: {error}")
    for sentence in said:
        log.warning("%s", sentence)
        note(paths, sentence)
    return said


def _unfinished(folder: Path) -> bool:
    try:
        backup = backups.load(folder)
    except StorageFailed as error:
        log.error("%s", error)
        return False
    return backup is None or backup.state in (State.PREPARING, State.APPLYING, State.UNDOING)


def _finish(paths: Paths, folder: Path) -> str:
    backup = backups.load(folder)
    if backup is None or backup.state is State.PREPARING:
        backups.discard(Backup(folder, State.PREPARING, 0.0))
        return f"{folder.name} was cut short before it had changed anything, and was dropped."
    sweep(backup)
    if backup.state is State.UNDOING:
        undo_written(backup)
        return f"{folder.name} was cut short while it was undone; it is undone now."
    apply(paths, backup)
    return f"{folder.name} was cut short; it is complete now."
