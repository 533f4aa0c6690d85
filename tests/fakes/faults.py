"""What an engine can do to its own process. Standard library only, so that it can happen before anything is imported.

`commit(name)` does it. Some faults end the process, some hang it, some raise, and some leave it able to go on: those
return.
"""

from __future__ import annotations

import ctypes
import gc
import importlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

MEBIBYTE = 1024 * 1024
FLOOD_BYTES = 32 * MEBIBYTE
ENDLESS_BYTES = 256 * MEBIBYTE
"""More than any bound that a reader of lines could have in good faith."""
MEMORY_LIMIT = 512 * MEBIBYTE
SLOW_SECONDS = 1.2
CHILD = (sys.executable, "-S", "-c", "import time; time.sleep(600)")


def commit(name: str) -> None:
    """Do what `name` says."""
    if name.startswith("SIG"):
        os.kill(os.getpid(), signal.Signals[name]) if name == "SIGKILL" else signal.raise_signal(signal.Signals[name])
        time.sleep(60)  # the signal may be delivered to another thread
    FAULTS[name]()


def _hang() -> None:
    while True:
        time.sleep(60)


def _freeze() -> None:
    """Hang in native code that holds the interpreter's lock: no other thread runs, not even the one that listens."""
    while True:
        ctypes.PyDLL(None).sleep(60)


def _raise() -> None:
    raise ValueError("an engine's own error")


def _limit_memory() -> None:
    import resource

    resource.setrlimit(resource.RLIMIT_DATA, (MEMORY_LIMIT, resource.getrlimit(resource.RLIMIT_DATA)[1]))


def _eat() -> None:
    """Take memory as fast as it comes, until the limit."""
    _limit_memory()
    hoard = []
    while True:
        hoard.append(bytearray(32 * MEBIBYTE))


def _leak() -> None:
    """Take memory little by little, until the limit."""
    _limit_memory()
    hoard = []
    while True:
        hoard.append(bytearray(8 * MEBIBYTE))
        time.sleep(0.005)


def _bad_alloc() -> None:
    """As a C++ engine ends that nobody catches `std::bad_alloc` for."""
    sys.stderr.write("terminate called after throwing an instance of 'std::bad_alloc'\n  what():  std::bad_alloc\n")
    sys.stderr.flush()
    commit("SIGABRT")


def _assertion() -> None:
    """As a ggml engine ends on an assertion of its own."""
    sys.stderr.write("/src/ggml/src/ggml.c:1234: GGML_ASSERT(tensor->ne[0] == rows) failed\n")
    sys.stderr.flush()
    commit("SIGABRT")


def _flood(descriptor: int) -> None:
    line = b"llama_decode: a line that says nothing, and says it very often indeed\n"
    block = line * (65536 // len(line))
    for _ in range(FLOOD_BYTES // len(block)):
        _write_all(descriptor, block)


def _write_all(descriptor: int, data: bytes) -> None:
    while data:
        data = data[os.write(descriptor, data) :]


def _channel() -> int:
    """The descriptor of the worker's private channel to its parent, which an engine has no business with.

    Before the worker has begun, standard output still is that channel.
    """
    kind = getattr(sys.modules["__main__"], "Worker", None)
    if kind is None:
        return 1
    found: Any = next(one for one in gc.get_objects() if isinstance(one, kind))
    return int(found._answers.fileno())


def _garble() -> None:
    _write_all(_channel(), b"\xff\xfe this was never meant for you \x00\n" * 3)
    _hang()


def _wrong_shape() -> None:
    """Proper JSON, and still nothing that the protocol knows."""
    _write_all(_channel(), b'[1, 2, 3]\n"text"\n{"kind": 7}\n{"id": "x", "kind": "chunk"}\n')
    _hang()


def _endless_line() -> None:
    block = b"x" * MEBIBYTE
    for _ in range(ENDLESS_BYTES // len(block)):
        _write_all(_channel(), block)
    _hang()


def _close_channel() -> None:
    os.close(_channel())
    _hang()


def _orphan(*, detached: bool) -> None:
    """Start a child that would live for ten minutes, and die."""
    subprocess.Popen(CHILD, start_new_session=detached, stdin=subprocess.DEVNULL)
    commit("SIGKILL")


def _end_thread() -> None:
    """Let the thread that works die without a word, as a native library can."""
    raise SystemExit


def _recurse() -> None:
    _recurse()


def _fail_to_open() -> None:
    raise OSError(28, "No space left on device", "/var/cache/engine/kernel.bin")


def _import_missing() -> None:
    importlib.import_module("a_library_that_nobody_has")


def _import_broken() -> None:
    raise ImportError("libengine.so.1: undefined symbol: engine_begin", name="engine")


FAULTS: dict[str, Callable[[], None]] = {
    "exit-0": lambda: os._exit(0),
    "exit-3": lambda: os._exit(3),
    "raise": _raise,
    "recursion": _recurse,
    "disk-full": _fail_to_open,
    "missing-library": _import_missing,
    "broken-library": _import_broken,
    "thread-ends": _end_thread,
    "hang": _hang,
    "freeze": _freeze,
    "eat-memory": _eat,
    "leak-memory": _leak,
    "bad-alloc": _bad_alloc,
    "assertion": _assertion,
    "flood-stderr": lambda: _flood(2),
    "flood-stdout": lambda: _flood(1),
    "garbage": _garble,
    "wrong-shape": _wrong_shape,
    "endless-line": _endless_line,
    "close-channel": _close_channel,
    "child-and-die": lambda: _orphan(detached=False),
    "detached-child-and-die": lambda: _orphan(detached=True),
    "slow": lambda: time.sleep(SLOW_SECONDS),
}


def commit_when(signpost: Path, name: str) -> None:
    """Commit `name` in a thread of its own once the file `signpost` appears; it is removed just before."""

    def wait() -> None:
        while not signpost.exists():
            time.sleep(0.01)
        signpost.unlink()
        commit(name)

    threading.Thread(target=wait, daemon=True).start()
