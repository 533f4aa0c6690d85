"""A migration in a process of its own that is killed in the middle: before its n-th touch of a file, by SIGKILL."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.migration.conftest import Laid_
from tests.migration.corpus.app_settings import WHOLE
from tests.migration.corpus.backend_sets import SET_110
from tests.migration.corpus.beside import TURNS
from tests.migration.corpus.layout import Case
from webui.chat.carried import known
from webui.chat.presets import PresetStore
from webui.migration.undoing import recover

EVERYTHING: Case = {
    "home/settings.yaml": "# mine\ndebug: true\n",
    "home/backend_config.json": SET_110,
    "home/config.json": WHOLE,
    "config/preferences.json": {"top_k": 7, "n_batch": 128},
    "home/chats/one.json": {"title": "Tensors", "messages": TURNS},
    "home/chats/two.json": TURNS,
    "home/performance_history.json": [{"model": "phi.gguf", "backend": "llamafile", "tokens_per_second": 12.5}],
}
"""Touches every kind of file that a migration writes."""

NEVER = 1 << 60


def in_a_process(root: Path, work: Callable[[], Any], *, touches: int = NEVER, later: float = 0.0) -> tuple[bool, int]:
    """Do `work` in a child process, which is killed `later` seconds after its touch number `touches` of a file below
    `root`. Returns whether it was killed, and how many touches it made.
    """
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            counted = _count(root, touches, later)
            work()
            os.write(writer, json.dumps(counted()).encode())
            status = 0
        finally:
            os._exit(status)
    os.close(writer)
    _, ended = os.waitpid(child, 0)
    told = os.read(reader, 100)
    os.close(reader)
    if os.WIFSIGNALED(ended):
        assert os.WTERMSIG(ended) == signal.SIGKILL
        return True, touches
    assert os.WEXITSTATUS(ended) == 0
    return False, int(json.loads(told))


def _count(root: Path, touches: int, later: float) -> Callable[[], int]:
    count = 0
    beneath = str(root)

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal count
        if not event.startswith(("open", "os.", "shutil.", "sqlite3.")) or not arguments:
            return
        if not str(arguments[0]).startswith(beneath):
            return
        count += 1
        if count == touches:
            if later:
                threading.Thread(target=_die_later, args=(later,), daemon=True).start()
            else:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)
    return lambda: count


def _die_later(seconds: float) -> None:
    time.sleep(seconds)
    os.kill(os.getpid(), signal.SIGKILL)


def state(laid: Laid_) -> dict[str, Any]:
    """Everything that a migration changes, as the app sees it."""
    presets = PresetStore(laid.paths)
    return {
        "settings": laid.settings().shown(),
        "preset": presets.get("older app").model_dump() if presets.own("older app") else None,
        "chats": sorted(known(laid.paths.conversations)),
        "speeds": laid.paths.older_speeds.exists(),
        "files": [
            path.read_bytes() if path.exists() else None
            for path in (laid.paths.settings_file, laid.paths.backend_config)
        ],
    }


def next_start(laid: Laid_) -> list[str]:
    """What the next start does before it reads anything."""
    return recover(laid.paths)
