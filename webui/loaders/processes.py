"""The worker's family as the operating system sees it: who belongs to it, what it holds, and how it is ended."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import psutil

MARK = "GGUF_WORKER"
"""Environment variable that each worker and all it starts carry: whoever left the family is still known by it."""

# A group of its own: Ctrl-C in the terminal is for the app, and the group can be ended as one.
OWN_GROUP: dict[str, Any] = {"start_new_session": True}
if sys.platform == "win32":
    OWN_GROUP = {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP}


def environment(mark: str, variables: Mapping[str, str]) -> dict[str, str]:
    """The environment of a worker: this process's, `variables`, and what makes its output readable at once."""
    return {
        **os.environ,
        **variables,
        "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
        "PYTHONUNBUFFERED": "1",
        "PYTHONIOENCODING": "utf-8",
        "GGML_NO_BACKTRACE": "1",  # or an engine that aborts starts a debugger, which takes long and may hang
        MARK: mark,
    }


def family(pid: int | None) -> list[psutil.Process]:
    """The process and all that descend from it, itself first; empty when it has ended."""
    if pid is None:
        return []
    try:
        own = psutil.Process(pid)
        return [own, *own.children(recursive=True)]
    except psutil.Error:
        return []


def sum_memory(processes: Iterable[psutil.Process], measure: Callable[[psutil.Process], int]) -> int | None:
    """The sum of what `measure` says of each process that still lives; `None` if none does."""
    total = 0
    for process in processes:
        with contextlib.suppress(psutil.Error, OSError):
            total += measure(process)
    return total or None


def resident(process: psutil.Process) -> int:
    return int(process.memory_info().rss)


def peak_resident(process: psutil.Process) -> int:
    """Peak resident bytes of a process: VmHWM on Linux, the peak working set on Windows, else what it holds now."""
    if sys.platform == "linux":
        with open(f"/proc/{process.pid}/status", encoding="ascii", errors="replace") as status:  # noqa: PTH123
            for line in status:
                if line.startswith("VmHWM:"):
                    return int(line.split()[1]) * 1024
    info = process.memory_info()
    return int(getattr(info, "peak_wset", info.rss))


def kill_group(pid: int) -> None:
    """End the group that the process leads, and the process."""
    if sys.platform != "win32":
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(pid, signal.SIGKILL)
    else:
        kill_all(family(pid)[:1])


def kill_all(processes: Iterable[psutil.Process]) -> None:
    for process in processes:
        with contextlib.suppress(psutil.Error):
            process.kill()


def kill_marked(mark: str) -> None:
    """End every process that carries `mark` in its environment (Linux). Reads the whole process table."""
    if sys.platform != "linux":
        return
    wanted = f"{MARK}={mark}".encode()
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        with contextlib.suppress(OSError):
            if wanted in (entry / "environ").read_bytes().split(b"\0"):
                os.kill(int(entry.name), signal.SIGKILL)


def sizes(files: Iterable[Path]) -> dict[Path, int]:
    """The sizes of those files that are there."""
    found = {}
    for file in files:
        with contextlib.suppress(OSError):
            found[file] = file.stat().st_size
    return found


def damage(before: dict[Path, int]) -> str:
    """What happened to files since their sizes were taken, in one sentence's end; empty if none became shorter."""
    now = sizes(before)
    for file, size in before.items():
        if file not in now:
            return f"{file.name} is not there any more"
        if now[file] < size:
            return f"{file.name} had {size:,} bytes when it was loaded, and has {now[file]:,} now"
    return ""
