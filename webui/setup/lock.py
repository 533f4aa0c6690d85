"""A lock between processes, so that two starts or two installations never change one environment at the same time.

The operating system lets go of it when its holder ends, however that happens. Standard library only.
"""

from __future__ import annotations

import hashlib
import os
import sys
import tempfile
from pathlib import Path
from types import TracebackType

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl


class FileLock:
    """Advisory lock on `path`. `acquire` does not wait and says whether it got the lock."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._descriptor: int | None = None

    @property
    def descriptor(self) -> int | None:
        """The open file while the lock is held; a child process that inherits it keeps the lock alive (POSIX)."""
        return self._descriptor

    def acquire(self) -> bool:
        if self._descriptor is not None:
            raise RuntimeError(f"{self.path} is already held by this object")
        flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0)
        descriptor = os.open(self.path, flags, 0o600)
        try:
            if sys.platform == "win32":
                msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
            else:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:  # held by another: both calls report it this way
            os.close(descriptor)
            return False
        self._descriptor = descriptor
        return True

    def release(self) -> None:
        """Let go; closing the file is what unlocks it. May be called when not held."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def __enter__(self) -> FileLock:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


def environment_lock(prefix: Path) -> FileLock:
    """The lock for the Python environment in the folder `prefix`, kept outside of it so that it can be rebuilt."""
    name = hashlib.sha256(str(prefix.resolve()).encode()).hexdigest()[:16]
    user = os.getuid() if hasattr(os, "getuid") else 0
    return FileLock(Path(tempfile.gettempdir()) / f"gguf-loader-webui-{user}-{name}.lock")
