"""The suite in several processes at once (pytest-xdist), without tests getting into each other's way.

- The tests of one file stay together, in their order, so that what they share is made once. Files that take long come
  first, so that the processes end together.
- A test marked `alone` waits until no other runs, and none begins beside it: for what measures how long things take.
- Each process has a folder of its own for temporary files.

In one process, as pytest runs by itself, none of this does anything.
"""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

LONGEST = (
    "tests/faults/test_matrix.py",
    "tests/loaders/test_contract.py",
    "tests/browser/",
    "tests/faults/",
    "tests/loaders/",
    "tests/diagnostics/",
    "tests/docs/",
    "tests/test_door.py",
    "tests/pool/",
    "tests/chat/",
    "tests/cli/",
)
"""Files and folders by the time they take. It decides the order only."""
_left_behind: list[str] = []


def in_parallel(config: pytest.Config) -> bool:
    """Whether this process is one of several."""
    return hasattr(config, "workerinput")


def pytest_configure(config: pytest.Config) -> None:
    """What a test leaves in the common folder would be held against a test beside it."""
    if in_parallel(config):
        folder = tempfile.TemporaryDirectory(prefix="gguf-tmp-", ignore_cleanup_errors=True)
        config.add_cleanup(folder.cleanup)
        tempfile.tempdir = os.environ["TMPDIR"] = folder.name


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    def place(item: pytest.Item) -> int:
        file = _file(item)
        return next((number for number, start in enumerate(LONGEST) if file.startswith(start)), len(LONGEST))

    if in_parallel(config):
        items.sort(key=place)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    with _turn(item.config, alone=item.get_closest_marker("alone") is not None):
        return (yield)


def tell_what_was_left_behind(config: pytest.Config, command: str) -> None:
    """To the process that all others report to, which fails the run."""
    if in_parallel(config):
        config.workeroutput.setdefault("left_behind", []).append(command)  # type: ignore[attr-defined]


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any, error: object) -> None:
    _left_behind.extend(getattr(node, "workeroutput", {}).get("left_behind", ()))


def pytest_sessionfinish(session: pytest.Session) -> None:
    for command in _left_behind:
        sys.stderr.write(f"\nleft behind by the tests: {command}\n")
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


@contextlib.contextmanager
def _turn(config: pytest.Config, *, alone: bool) -> Iterator[None]:
    """Who may run: every process holds a lock of its own during a test, and a test that is alone holds all of them.

    Whoever takes locks passes a turnstile first, so that one that wants all of them is not overtaken for ever.
    """
    if not in_parallel(config):
        yield
        return
    given: dict[str, Any] = config.workerinput  # type: ignore[attr-defined]
    folder = Path(config.option.basetemp).parent  # common to all processes of this run
    names = [f"gw{number}" for number in range(given["workercount"])] if alone else [given["workerid"]]
    with contextlib.ExitStack() as held:
        with FileLock(folder / "turnstile.lock"):
            for name in names:
                held.enter_context(FileLock(folder / f"{name}.lock"))
        yield


def _file(item: pytest.Item) -> str:
    return item.nodeid.partition("::")[0]
