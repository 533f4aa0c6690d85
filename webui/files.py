"""Writing files so that a crash, a full disk or a second process never leaves half of one.

The new content goes to a temporary file beside the target, is flushed to the disk, and takes the target's name in one
step. Readers see the old file or the new one. What the content means is the caller's business.
"""

from __future__ import annotations

import os
import stat
import tempfile
import time
from pathlib import Path

PRIVATE_MODE = 0o600
DEFAULT_MODE = 0o644
WINDOWS_ATTEMPTS = 10
"""On Windows a virus scanner or a reader may hold the target for a moment; the rename is tried this often."""
WINDOWS_PAUSE_SECONDS = 0.05


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
