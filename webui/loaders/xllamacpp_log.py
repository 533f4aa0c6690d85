"""The log of the engine inside xllamacpp, kept while a model is loaded.

The engine tells its reasons and its devices only in its log, which it writes to standard error, out of this process's
sight; the Python package has no function for it. The library it ships does (llama.cpp's `common_log_set_file`), though
under a C++ name that not every platform's build exports. Where it is missing, loading works the same and only these
details are lost: the same lines still reach the parent through standard error.

The function takes a path. On Linux it names a file in memory; elsewhere a temporary one, which has lost its name before
the engine does anything that could end the process, where the system allows that.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import sys
import tempfile
from pathlib import Path
from types import TracebackType
from typing import IO, Any

_MAIN = "_Z15common_log_mainv"
_SET_FILE = "_Z19common_log_set_fileP10common_logPKc"
_SET_VERBOSITY = "_Z30common_log_set_verbosity_tholdi"


class LogFile:
    """Collects the engine's lines between enter and exit; afterwards its log is as quiet as `verbosity` says."""

    def __init__(self, engine: Any, verbosity: int) -> None:
        self._verbosity = verbosity
        self._library = _library(engine)
        self._file: IO[bytes] | None = None
        self._name: Path | None = None

    def __enter__(self) -> LogFile:
        if self._library is None:
            return self
        if sys.platform == "linux":
            self._file = os.fdopen(os.memfd_create("engine-log"), "rb")
            self._write_to(Path(f"/proc/self/fd/{self._file.fileno()}"))
            return self
        with contextlib.suppress(OSError):  # a disk without room costs the details, not the model
            self._file = tempfile.NamedTemporaryFile(prefix="engine-", suffix=".log", delete=False)
            self._name = Path(self._file.name)
            self._write_to(self._name)
            self._remove_name()
        return self

    def lines(self) -> list[str]:
        """Everything logged so far; empty where the library does not let us listen."""
        if self._file is None:
            return []
        self._write_to(None)  # the engine logs from a thread of its own; changing the file waits for what is queued
        self._file.seek(0)
        kept = self._file.read().decode("utf-8", "replace").splitlines()
        return [line for line in kept if line.strip()]

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._library is None:
            return
        self._write_to(None)
        if self._file is not None:
            self._file.close()
            self._remove_name()
        getattr(self._library, _SET_VERBOSITY)(self._verbosity)

    def _remove_name(self) -> None:
        if self._name is not None:
            with contextlib.suppress(PermissionError):  # Windows keeps the name of an open file; it goes at the end
                self._name.unlink(missing_ok=True)

    def _write_to(self, path: Path | None) -> None:
        log = getattr(self._library, _MAIN)()
        getattr(self._library, _SET_FILE)(log, None if path is None else str(path).encode())


def _library(engine: Any) -> ctypes.CDLL | None:
    """The engine's shared library, with the three functions declared; None if it does not export them."""
    try:
        library = ctypes.CDLL(engine.xllamacpp.__file__)
        main, set_file, set_verbosity = (getattr(library, name) for name in (_MAIN, _SET_FILE, _SET_VERBOSITY))
    except (OSError, AttributeError):
        return None
    main.argtypes, main.restype = [], ctypes.c_void_p
    set_file.argtypes, set_file.restype = [ctypes.c_void_p, ctypes.c_char_p], None
    set_verbosity.argtypes, set_verbosity.restype = [ctypes.c_int], None
    return library
