"""Writing files so that a crash, a full disk or a second process never leaves half of one.

The new content goes to a temporary file beside the target, is flushed to the disk, and takes the target's name in one
step. Readers see the old file or the new one. What the content means is the caller's business.
"""

from __future__ import annotations

import contextlib
import os
import stat
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from webui.errors import Busy, StorageFailed

PRIVATE_MODE = 0o600
DEFAULT_MODE = 0o644
WINDOWS_ATTEMPTS = 10
"""On Windows a virus scanner or a reader may hold the target for a moment; the rename is tried this often."""
WINDOWS_PAUSE_SECONDS = 0.05
LOCK_SECONDS = 10.0
"""How long somebody else may hold a lock; whoever writes a configuration takes some milliseconds."""


def write_atomically(path: Path, data: str | bytes, *, private: bool = False) -> None:
    """Replace the content of `path`, or leave it exactly as it was and raise `OSError`.

    Text is written as UTF-8 with the line ends it has. A symbolic link is followed, so that the link stays one. An
    existing file keeps its permissions; `private` gives the file to its owner alone (for passwords and keys).
    The parent folder is made where it is missing.
    """
    content = data.encode("utf-8") if isinstance(data, str) else data
    target = Path(os.path.realpath(path))
    target.parent.mkdir(parents=True, exist_ok=True)
    # mkstemp creates the file for its owner alone, so a secret is at no moment readable by others.
    handle, name = tempfile.mkstemp(prefix=f".{target.name}.", suffix=".tmp", dir=target.parent)
    temporary = Path(name)
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        if os.name == "posix":
            temporary.chmod(_mode(target, private))
        _replace(temporary, target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    _sync_folder(target.parent)


@contextlib.contextmanager
def locked(path: Path, seconds: float = LOCK_SECONDS) -> Iterator[None]:
    """Hold `path`, a file made for this alone, against every other thread and process; ends with whoever holds it.

    Raises `Busy` where somebody else holds it for longer than `seconds`, `OSError` where it cannot be made.
    """
    from filelock import FileLock, Timeout

    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    lock = FileLock(path, timeout=seconds, mode=PRIVATE_MODE, thread_local=False)
    try:
        lock.acquire()
    except Timeout as error:
        raise Busy(
            f"Another program has been writing to {path.parent} for {seconds:.0f} s.",
            hint="Nothing was changed. End the other one, or try again in a moment.",
        ) from error
    try:
        yield
    finally:
        lock.release()


@contextlib.contextmanager
def storage_errors(what: str) -> Iterator[None]:
    """Raise an `OSError` of the block as `StorageFailed`, which says that `what` was not done and why."""
    try:
        yield
    except OSError as error:
        raise StorageFailed(f"{what}.", cause=error.strerror or str(error)) from error


def remove_leftovers(path: Path) -> None:
    """Remove what writers that were killed have left beside `path`. Call it while nobody else can be writing."""
    target = Path(os.path.realpath(path))
    for leftover in target.parent.glob(f".{target.name}.*.tmp"):
        leftover.unlink(missing_ok=True)


def _mode(target: Path, private: bool) -> int:
    if private:
        return PRIVATE_MODE
    try:
        return stat.S_IMODE(target.stat().st_mode)
    except FileNotFoundError:
        return DEFAULT_MODE


def _replace(source: Path, target: Path) -> None:
    """`os.replace`, patient with Windows, where an open target cannot be replaced."""
    for attempt in range(1, WINDOWS_ATTEMPTS + 1):
        try:
            source.replace(target)
            return
        except PermissionError:
            if os.name != "nt" or attempt == WINDOWS_ATTEMPTS:
                raise
            time.sleep(WINDOWS_PAUSE_SECONDS)


def _sync_folder(folder: Path) -> None:
    """Make the rename itself durable. Windows has no such call and needs none."""
    if os.name != "posix":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
