"""The backup of a migration, and its journal: byte-identical copies, and a manifest that says how far it got.

    backups/migration-20261121-233000/
        manifest.json   state, every file with its sum, permissions and time of change
        plan.json       every line of the plan
        sources/        the older files as they were read
        before/         the files that are written, as they were
        new/            a home with the files as they will be

A migration is `preparing` until everything lies there; nothing else has been changed by then. While it is `applying` or
`undoing`, the manifest says all that is needed to go on. `done` and `undone` are its ends.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import stat
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from enum import StrEnum
from pathlib import Path
from typing import Any

from webui.errors import StorageFailed
from webui.files import PRIVATE_MODE, write_atomically
from webui.paths import Paths

PREFIX = "migration-"
MANIFEST, PLAN, NEW, BEFORE, SOURCES = "manifest.json", "plan.json", "new", "before", "sources"
VERSION = 1


class State(StrEnum):
    PREPARING = "preparing"
    APPLYING = "applying"
    DONE = "done"
    UNDOING = "undoing"
    UNDONE = "undone"


@dataclass(frozen=True, slots=True)
class Copy:
    """A file as it was or will be: its bytes lie at `name` within the backup. `link` is where it pointed, if it did."""

    name: str
    sha256: str
    mode: int
    changed_ns: int
    link: str = ""


@dataclass(frozen=True, slots=True)
class Written:
    """A file that is written. `before` is None where there was none."""

    path: str
    before: Copy | None
    after: Copy


@dataclass(frozen=True, slots=True)
class Conversations:
    """The conversations that are added, and their file as it was. `after` is its sum, "" while somebody has it open."""

    path: str
    before: Copy | None
    chats: tuple[dict[str, Any], ...] = ()
    after: str = ""


@dataclass(frozen=True, slots=True)
class Backup:
    """One migration's folder with its manifest."""

    folder: Path
    state: State
    started_at: float
    sources: tuple[tuple[str, Copy], ...] = ()
    written: tuple[Written, ...] = ()
    conversations: Conversations | None = None
    counts: Mapping[str, int] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return self.folder.name

    def before(self) -> Iterator[Copy]:
        """The copies of all files that are written, as they were."""
        yield from (one.before for one in self.written if one.before is not None)
        if self.conversations is not None and self.conversations.before is not None:
            yield self.conversations.before

    def at(self, state: State, **changes: Any) -> Backup:
        """The same in another state, on the disk first."""
        moved = replace(self, state=state, **changes)
        save(moved)
        return moved

    def content(self, copy: Copy) -> bytes:
        """The bytes of a copy; raises `StorageFailed` where they are not those that were copied."""
        try:
            content = (self.folder / copy.name).read_bytes()
        except OSError as error:
            raise StorageFailed(f"The backup {self.name} lacks {copy.name}.", cause=str(error)) from error
        if sum_of(content) != copy.sha256:
            raise StorageFailed(f"In the backup {self.name}, {copy.name} is not what was copied.")
        return content


def begin(paths: Paths, now: float) -> Backup:
    """A new backup with nothing in it."""
    stem = PREFIX + time.strftime("%Y%m%d-%H%M%S", time.localtime(now))
    names = (stem if number == 1 else f"{stem}-{number}" for number in range(1, 1000))
    folder = next(paths.backups / name for name in names if not (paths.backups / name).exists())
    folder.mkdir(mode=0o700, parents=True)
    backup = Backup(folder, State.PREPARING, now)
    save(backup)
    return backup


def copy_in(backup: Backup, name: str, path: Path, content: bytes | None = None) -> Copy:
    """Copy `path`, or `content` in place of what it holds, to `name` within the backup, with permissions and times."""
    found = path.stat()
    held = path.read_bytes() if content is None else content
    target = backup.folder / name
    target.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(target, held, private=True)
    target.chmod(stat.S_IMODE(found.st_mode) | stat.S_IRUSR | stat.S_IWUSR)
    os.utime(target, ns=(found.st_atime_ns, found.st_mtime_ns))
    link = str(path.readlink()) if path.is_symlink() else ""
    return Copy(name, sum_of(held), stat.S_IMODE(found.st_mode), found.st_mtime_ns, link)


def put(path: Path, content: bytes, copy: Copy, *, times: bool) -> None:
    """Write a file as `copy` says, in one step; `times` gives it its time of change as well."""
    if current_sum(path) != copy.sha256:
        write_atomically(path, content, private=copy.mode == PRIVATE_MODE)
    if os.name == "posix" and stat.S_IMODE(path.stat().st_mode) != copy.mode:
        path.chmod(copy.mode)
    if times and path.stat().st_mtime_ns != copy.changed_ns:
        os.utime(path, ns=(path.stat().st_atime_ns, copy.changed_ns))


def save(backup: Backup) -> None:
    """Write the manifest."""
    content = {
        "version": VERSION,
        "state": backup.state.value,
        "started_at": backup.started_at,
        "counts": dict(backup.counts),
        "sources": [{"path": path, **asdict(copy)} for path, copy in backup.sources],
        "written": [asdict(one) for one in backup.written],
        "conversations": asdict(backup.conversations) if backup.conversations else None,
    }
    text = json.dumps(content, indent=1, ensure_ascii=False)
    write_atomically(backup.folder / MANIFEST, text, private=True)


def load(folder: Path) -> Backup | None:
    """The backup in `folder`; None where its manifest was never written. Raises `StorageFailed` for a damaged one."""
    try:
        content = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        conversations = content["conversations"]
        return Backup(
            folder,
            State(content["state"]),
            float(content["started_at"]),
            tuple((one.pop("path"), Copy(**one)) for one in content["sources"]),
            tuple(_written(one) for one in content["written"]),
            None if conversations is None else _conversations(conversations),
            dict(content["counts"]),
        )
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise StorageFailed(
            f"The manifest of the backup {folder.name} cannot be read.",
            cause=str(error),
            hint=f"The copies in {folder} are whole files; put them back by hand, or remove the folder.",
        ) from error


def all_backups(paths: Paths) -> list[Backup]:
    """All that can be read, oldest first."""
    found = []
    for folder in folders(paths):
        with contextlib.suppress(StorageFailed):
            found.append(load(folder))
    return sorted((one for one in found if one is not None), key=lambda one: (one.started_at, one.name))


def latest_done(paths: Paths) -> Backup | None:
    """The latest migration that can be undone."""
    return next((one for one in reversed(all_backups(paths)) if one.state is State.DONE), None)


def folders(paths: Paths) -> Sequence[Path]:
    """The folders of all migrations."""
    if not paths.backups.is_dir():
        return ()
    return sorted(path for path in paths.backups.iterdir() if path.name.startswith(PREFIX) and path.is_dir())


def discard(backup: Backup) -> None:
    """Remove a backup that came to nothing."""
    shutil.rmtree(backup.folder, ignore_errors=True)


def sum_of(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def current_sum(path: Path) -> str:
    """The sum of a file's bytes, "" where there is no file."""
    try:
        return sum_of(path.read_bytes())
    except FileNotFoundError:
        return ""


def _copy(content: dict[str, Any] | None) -> Copy | None:
    return None if content is None else Copy(**content)


def _written(content: dict[str, Any]) -> Written:
    return Written(content["path"], _copy(content["before"]), Copy(**content["after"]))


def _conversations(content: dict[str, Any]) -> Conversations:
    return Conversations(content["path"], _copy(content["before"]), tuple(content["chats"]), content["after"])
