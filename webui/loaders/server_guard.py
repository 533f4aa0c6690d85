"""Runs a server executable and ends it with whoever asked for it. A script for `python -I`, standard library only.

    python -I server_guard.py EXECUTABLE [ARGUMENT …]

Its standard input is a pipe that the worker holds and never writes to. The pipe ends when the worker closes it or dies,
in whatever way and on whatever system; then the server is asked to stop (SIGTERM) and, after a moment, made to
(SIGKILL), with everything it started. The guard's own exit status is the server's; 128 + N if signal N ended it.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable

STOP_SECONDS = 1.0
"""How long the server may take to stop by itself."""

NOT_STARTED = 126
"""Exit status when the executable cannot be run; the reason is on standard error."""


def main(command: list[str]) -> int:
    """Run `command` until it ends or standard input does."""
    try:
        server = _start(command)
    except OSError as error:
        sys.stderr.write(f"cannot run {command[0]}: {error.strerror or error} (errno {error.errno})\n")
        return NOT_STARTED
    threading.Thread(target=_stop_at_end_of_input, args=(server,), daemon=True).start()
    status = server.wait()
    _signal(server, hard=True)  # what the server started may still be there
    return 128 - status if status < 0 else status


def _start(command: list[str]) -> subprocess.Popen[bytes]:
    if sys.platform == "win32":
        return subprocess.Popen(command, stdin=subprocess.DEVNULL, creationflags=subprocess.CREATE_NEW_PROCESS_GROUP)
    # preexec_fn is safe here: this process has one thread so far.
    return subprocess.Popen(command, stdin=subprocess.DEVNULL, start_new_session=True, preexec_fn=_end_with_guard())


def _end_with_guard() -> Callable[[], object] | None:
    """Makes the server end even if the guard itself is killed, where the kernel offers it (Linux)."""
    if sys.platform != "linux":
        return None
    prctl = ctypes.CDLL(None).prctl
    set_parent_death_signal = 1
    return lambda: prctl(set_parent_death_signal, signal.SIGKILL)


def _stop_at_end_of_input(server: subprocess.Popen[bytes]) -> None:
    # Not sys.stdin: its lock would still be held here when the interpreter shuts down.
    with contextlib.suppress(OSError):
        while os.read(0, 4096):
            pass
    _signal(server, hard=False)
    time.sleep(STOP_SECONDS)
    _signal(server, hard=True)


def _signal(server: subprocess.Popen[bytes], *, hard: bool) -> None:
    """Ask the server and all it started to stop, or make them. The group may outlive the server."""
    if sys.platform != "win32":
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(server.pid, signal.SIGKILL if hard else signal.SIGTERM)
    elif hard:
        subprocess.run(["taskkill", "/T", "/F", "/PID", str(server.pid)], capture_output=True, check=False)
    else:
        with contextlib.suppress(OSError):
            server.send_signal(signal.CTRL_BREAK_EVENT)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
