"""A migration's log for people, and the way back that its manifest describes, file by file."""

from __future__ import annotations

import logging
import time
from pathlib import Path

from webui.chat import carried
from webui.files import remove_leftovers, write_atomically
from webui.migration import backup as backups
from webui.migration.backup import Backup, State, Written
from webui.paths import Paths

log = logging.getLogger(__name__)

DISCARDED = "discarded"
"""Within a backup: files as they were when somebody insisted on undoing over them."""
NO_FILE = ""
"""In place of the sum of its bytes."""


def note(paths: Paths, line: str) -> None:
    """A line in logs/migration.log; a log that cannot be written costs the log alone."""
    try:
        paths.logs.mkdir(parents=True, exist_ok=True)
        with paths.migration_log.open("a", encoding="utf-8") as stream:
            stream.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {' '.join(line.split())}\n")
    except OSError as error:
        log.warning("%s cannot be written: %s", paths.migration_log, error)


def undo_written(backup: Backup) -> Backup:
    """Put every file back that is as the migration left it, is gone, or was set aside for it; others stay as they are.

    `backup` is `UNDOING`, on the disk as well; may be called again after a crash. Returns it `UNDONE`.
    """
    for one in backup.written:
        path = Path(one.path)
        if backups.current_sum(path) in (NO_FILE, one.after.sha256, _set_aside(backup, path)):
            _put_back(backup, one, path)
        elif one.before is not None and backups.current_sum(path) == one.before.sha256:
            backups.put(path, backup.content(one.before), one.before, times=True)
    _take_out(backup)
    return backup.at(State.UNDONE)


def set_aside(backup: Backup, path: Path) -> None:
    """Keep what `path` holds within the backup, so that it may be written over."""
    write_atomically(backup.folder / DISCARDED / path.name, path.read_bytes(), private=True)


def sweep(backup: Backup) -> None:
    """Remove what writing left beside its files when it was cut short. The caller holds the lock of the settings."""
    for one in backup.written:
        remove_leftovers(Path(one.path))


def _set_aside(backup: Backup, path: Path) -> str | None:
    return backups.current_sum(backup.folder / DISCARDED / path.name) or None


def _put_back(backup: Backup, one: Written, path: Path) -> None:
    if one.before is None:
        path.unlink(missing_ok=True)
    else:
        backups.put(path, backup.content(one.before), one.before, times=True)


def _take_out(backup: Backup) -> None:
    """Conversations: the file as it was, where nobody has it open and nothing else has come; else one by one."""
    held = backup.conversations
    if held is None:
        return
    path = Path(held.path)
    alone = not carried.is_open(path)
    now = backups.current_sum(path)
    if alone and held.after and now == held.after:
        if held.before is None:
            path.unlink(missing_ok=True)
        else:
            backups.put(path, backup.content(held.before), held.before, times=True)
    elif alone and held.before is not None and now == held.before.sha256:
        backups.put(path, backup.content(held.before), held.before, times=True)
    else:
        carried.remove(path, [str(chat["id"]) for chat in held.chats])
        if held.before is None and not carried.is_open(path) and not carried.known(path):
            path.unlink(missing_ok=True)
