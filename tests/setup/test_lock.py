"""The lock between processes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from webui.setup.lock import FileLock, environment_lock

HOLDER = """
import sys
from pathlib import Path
from webui.setup.lock import FileLock
lock = FileLock(Path(sys.argv[1]))
assert lock.acquire()
print("held", flush=True)
sys.stdin.read()
"""


def test_a_second_process_is_refused_until_the_first_ends(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    lock = FileLock(path)
    assert not lock.acquire()
    holder.kill()
    holder.communicate()
    with lock:
        assert lock.acquire()
        assert not FileLock(path).acquire()
    assert lock.acquire()
    lock.release()


def test_taking_a_held_lock_again_is_a_mistake(tmp_path: Path) -> None:
    with FileLock(tmp_path / "lock") as lock:
        lock.acquire()
        with pytest.raises(RuntimeError):
            lock.acquire()


def test_each_environment_has_a_lock_of_its_own(tmp_path: Path) -> None:
    assert environment_lock(tmp_path / "a").path != environment_lock(tmp_path / "b").path
    assert environment_lock(tmp_path / "a").path == environment_lock(tmp_path / "x" / ".." / "a").path
