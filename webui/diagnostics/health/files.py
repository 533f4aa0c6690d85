"""What the app keeps on the disk: whether it may read and write it, whether it is whole, and what was left over."""

from __future__ import annotations

import os
import shlex
import sqlite3
import stat
import tempfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from webui.diagnostics.health.check import Check, HealthFacts, fine, is_there, names, problem, warning
from webui.settings import Settings
from webui.settings.declared import Declared

OLD_SECONDS = 3600.0
"""What was not touched for so long is not being written any more."""
OLD_LOG_SECONDS = 7 * 86_400.0
"""An engine may have nothing to say for days."""
MOST_LOGS = 200 << 20
QUICK_BYTES = 256 << 20
"""Larger databases are not read through in a quick check."""
BESIDE = ("-wal", "-shm")
APP_LOG = "app.log"
MIB = 1 << 20


def permissions(facts: HealthFacts) -> Iterator[Check]:
    """The app's folders and files must be readable and writable for it, and those with secrets for nobody else."""
    home = facts.paths.home
    place = next((folder for folder in (home, *home.parents) if folder.exists()), home)
    if not place.is_dir() or (place != home and not os.access(place, os.W_OK | os.X_OK)):
        yield problem("Permissions", f"{home} cannot be made: {place} is no folder you may write to.", _other_home())
        return
    if read_only(place):
        yield problem("Permissions", f"{place} lies on a disk that is mounted read-only.", _other_home())
        return
    closed = closed_paths(facts)
    if own := [path for path in closed if is_ours(path)]:
        yield problem(
            "Permissions",
            f"{names(own)} cannot be read and written.",
            "Open it again",
            "restore-access",
        )
    elif closed:
        yield problem(
            "Permissions",
            f"{names(closed)} belongs to somebody else and cannot be used.",
            f"Take it over: sudo chown -R $USER {shlex.quote(str(home))}",
        )
    elif shown := shown_secrets(facts):
        yield warning(
            "Permissions",
            f"Other users of this machine can read the keys in {names(shown)}.",
            "Keep it to yourself",
            "hide-secrets",
        )
    else:
        yield fine("Permissions", f"{home} can be written.")


def closed_paths(facts: HealthFacts) -> list[Path]:
    """The app's own folders and files that it may not both read and write."""
    paths = facts.paths
    folders = [path for path in _folders(facts) if is_there(path)]
    files = [file for folder in (paths.home, paths.chats) if folder in folders for file in _files(folder)]
    return [path for path in (*folders, *files) if not _open(path)]


def read_only(place: Path) -> bool:
    """Whether the file system of `place` takes no changes."""
    return hasattr(os, "statvfs") and bool(os.statvfs(place).f_flag & os.ST_RDONLY)


def shown_secrets(facts: HealthFacts) -> list[Path]:
    """Files that hold a key or a password and that others may read."""
    file, found = facts.paths.settings_file, facts.settings
    if os.name != "posix" or not isinstance(found, Settings) or not file.is_file():
        return []
    secrets: list[Declared] = [declared for declared in map(found.declaration, found.keys()) if declared.secret]
    held = any(found.value(one.key) and found.source(one.key) == str(file) for one in secrets)
    return [file] if held and file.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO) else []


def databases(facts: HealthFacts) -> Iterator[Check]:
    """The conversations, the history and whatever else is kept in SQLite."""
    files = database_files(facts)
    wrong = [(file, reason) for file in files if (reason := unsound(file))]
    for file, reason in wrong:
        relative = file.relative_to(facts.paths.home).as_posix()
        yield problem(
            "Databases",
            f"{relative} is damaged: {reason}.",
            "End the app, then save what can be read of it",
            f"recover {relative}",
        )
    if not wrong:
        kept = names([file.name for file in files], 5)
        yield fine("Databases", f"{kept}: in order." if files else "There are none yet.")


def database_files(facts: HealthFacts) -> list[Path]:
    return sorted(file for folder in (facts.paths.home, facts.paths.chats) for file in folder.glob("*.sqlite3"))


def unsound(file: Path, *, whole: bool = False) -> str:
    """What is wrong with a database, in SQLite's words; empty where nothing is. Large ones are opened only."""
    large = file.stat().st_size > QUICK_BYTES and not whole
    query = "SELECT count(*) FROM sqlite_master" if large else f"PRAGMA {'integrity' if whole else 'quick'}_check(1)"
    try:
        with closing(sqlite3.connect(f"{file.absolute().as_uri()}?mode=ro", uri=True, timeout=2)) as database:
            (answer,) = database.execute(query).fetchone()
    except sqlite3.OperationalError as error:
        return "" if "locked" in str(error) else str(error)
    except sqlite3.DatabaseError as error:
        return str(error)
    return "" if large or answer == "ok" else str(answer).splitlines()[-1]


def leftovers(facts: HealthFacts) -> Iterator[Check]:
    """Files of work that was cut off: half-written copies, downloads that nobody goes on with, scratch folders."""
    found = leftover_files(facts)
    if not found:
        yield fine("Leftovers", "Nothing was left over by work that was cut off.")
        return
    taken = sum(_size(path) for path in found)
    yield warning(
        "Leftovers",
        f"{len(found)} files or folders were left over by work that was cut off ({names([p.name for p in found])}), "
        f"{taken / MIB:.1f} MiB.",
        "Remove them",
        "free",
    )


def leftover_files(facts: HealthFacts) -> list[Path]:
    """What may go: by its name the app's own, in the app's own folders, and not touched for an hour."""
    models, oldest = facts.models, facts.now - OLD_SECONDS
    found = [path for folder in (*_folders(facts), models) for path in folder.glob(".*.tmp")]
    found += [*models.glob("*.part"), *models.glob(".starter")]
    logs_left = Path(tempfile.gettempdir()).glob("engine-*.log")
    found += [path for path in logs_left if _touched(path) < facts.now - OLD_LOG_SECONDS]
    return sorted({path for path in found if is_ours(path) and _touched(path) < oldest})


def logs(facts: HealthFacts) -> Iterator[Check]:
    folder = facts.paths.logs
    files = _all_files(folder)
    taken = sum(_size(file) for file in files)
    if taken > MOST_LOGS:
        yield warning(
            "Logs",
            f"They take {taken / MIB:.0f} MiB in {folder}.",
            "Remove the old ones",
            "clear-logs",
        )
    else:
        yield fine("Logs", f"They take {taken / MIB:.1f} MiB.")


def old_logs(facts: HealthFacts) -> list[Path]:
    """All logs but the one that is written now."""
    folder = facts.paths.logs
    return [file for file in _all_files(folder) if file != folder / APP_LOG]


def _folders(facts: HealthFacts) -> list[Path]:
    paths = facts.paths
    return [paths.home, paths.models, paths.chats, paths.logs, paths.cache, paths.presets, paths.runtime]


def _files(folder: Path) -> list[Path]:
    try:
        return sorted(path for path in folder.iterdir() if path.is_file() and not path.is_symlink())
    except OSError:  # closed to us, which is told of the folder itself
        return []


def _all_files(folder: Path) -> list[Path]:
    """All files in the folder and below; none where it is closed to us."""
    return [Path(place) / name for place, _, names_there in os.walk(folder) for name in names_there]


def _open(path: Path) -> bool:
    """Judged by the owner's own bits where we are the owner: the administrator may do anything whatever they say."""
    needed = stat.S_IRUSR | stat.S_IWUSR | (stat.S_IXUSR if path.is_dir() else 0)
    if os.name == "posix" and is_ours(path):
        return path.stat().st_mode & needed == needed
    return os.access(path, os.R_OK | os.W_OK | (os.X_OK if path.is_dir() else 0))


def is_ours(path: Path) -> bool:
    """Whether it belongs to whoever runs this."""
    try:
        return not hasattr(os, "getuid") or path.lstat().st_uid == os.getuid()
    except OSError:  # it went while we looked, as files that are just being written do
        return True


def _touched(path: Path) -> float:
    """When it, or anything in it, was last written."""
    inside = [path, *_all_files(path)] if path.is_dir() else [path]
    return max(_status(entry)[1] for entry in inside)


def _size(path: Path) -> int:
    return sum(_status(entry)[0] for entry in (_all_files(path) if path.is_dir() else [path]))


def _status(path: Path) -> tuple[int, float]:
    """Size and time of change."""
    try:
        found = path.lstat()
    except OSError:  # as above
        return 0, float("inf")
    return found.st_size, found.st_mtime


def _other_home() -> str:
    return "Change the rights of the folder, or choose another home before the start: export GGUF_HOME=FOLDER"
