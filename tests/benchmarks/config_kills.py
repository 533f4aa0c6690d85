"""Kills a program while it writes backend_config.json, again and again, and looks at what it leaves.

    python -m tests.benchmarks.config_kills              500 kills at random moments
    python -m tests.benchmarks.config_kills --kills 30   fewer, as the suite does

After that: one kill before every line of the code that writes (`--lines` takes fewer), disks that take only so many
bytes, a full one and a read-only one. Each time the file must be the old or the new one, whole, with all that strangers
keep in it, and the next save must work. Needs fork, so it runs on Linux and macOS.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

from webui import files
from webui.errors import StorageFailed
from webui.loaders import LOADERS
from webui.paths import Paths
from webui.settings import Settings, SettingsStore, last_good, store

KEY = "loaders.xllamacpp.context_size"
FIRST = 1000
STRANGERS = {"version": "9", "theirs": {f"key {number}": "x" * 40 for number in range(200)}}
"""Makes the file some kilobytes long, so that half of it would be seen."""
LONGEST_LIFE_SECONDS = 0.25
WATCHED = {module.__file__ for module in (files, last_good, store)}
NOBODY = 65534


class Home:
    """A home with a file to write, and the check of what became of it."""

    def __init__(self, folder: Path) -> None:
        self.paths = Paths(folder).ensure()
        self.paths.backend_config.write_text(json.dumps(STRANGERS))
        self.store = SettingsStore(self.paths, Settings.load(self.paths, environment={}, loaders=LOADERS))
        self.write(FIRST)

    def write(self, value: int) -> None:
        self.store.save({KEY: value})

    def value(self) -> int:
        """What the file says. Fails where it is not whole, or where the app would not understand it."""
        data = json.loads(self.paths.backend_config.read_text())
        assert {key: data[key] for key in STRANGERS} == STRANGERS, "what others keep in the file is damaged"
        copy = json.loads((self.paths.home / "backend_config.json.last-good").read_text())
        assert copy["theirs"] == STRANGERS["theirs"], "the last good copy is damaged"
        settings = self.store.load()
        found = settings.value(KEY)
        assert settings.source(KEY) == "backend_config.json", "the file was not understood"
        assert found == data["backends"]["xllamacpp"]["context_size"]
        return int(found)

    def check(self, allowed: set[int]) -> None:
        """The file is one of `allowed`, the lock is free, and a save leaves nothing of the dead writer behind."""
        found = self.value()
        assert found in allowed, f"{found} is neither the old nor the new value: {sorted(allowed)}"
        self.write(FIRST)
        assert self.value() == FIRST
        left = [file.name for file in self.paths.home.iterdir() if file.name.endswith(".tmp")]
        assert not left, f"left behind: {left}"


def child(work: Callable[[], None]) -> int:
    """Do `work` in a fork; returns its process id. The fork ends without any of this process's own endings."""
    process = os.fork()
    if process == 0:
        status = 1
        try:
            work()
            status = 0
        finally:
            os._exit(status)
    return process


def killed_at_random(home: Home, chance: random.Random) -> str:
    """Kill a program that saves without a pause, at some moment; says in what state that was."""
    reading, writing = os.pipe()

    def save_on() -> None:
        for value in range(FIRST + 1, 16_000_000):
            os.write(writing, b"%d " % value)
            home.write(value)
            os.write(writing, b"! ")

    process = child(save_on)
    os.close(writing)
    told = os.read(reading, 64)  # it has begun
    time.sleep(chance.uniform(0, LONGEST_LIFE_SECONDS))
    os.kill(process, signal.SIGKILL)
    os.waitpid(process, 0)
    while piece := os.read(reading, 65536):
        told += piece
    os.close(reading)
    words = told.split()
    if words[-1] == b"!":
        home.check({int(words[-2])})
        return "between two saves"
    begun = int(words[-1])
    home.check({begun - 1, begun})
    return "during a save"


def lines_of_a_save(home: Home, stop_before: int | None) -> int:
    """Save once and count the lines of our code that run; with `stop_before`, die before that one."""
    count = 0

    def trace(frame: FrameType, event: str, argument: Any) -> Any:
        nonlocal count
        if frame.f_code.co_filename not in WATCHED:
            return None
        if event == "line":
            count += 1
            if count == stop_before:
                os.kill(os.getpid(), signal.SIGKILL)
        return trace

    sys.settrace(trace)
    try:
        home.write(FIRST + 1)
    finally:
        sys.settrace(None)
    return count


def killed_before_lines(home: Home, most: int | None, chance: random.Random) -> int:
    """One kill for each line; returns how many there were. The old value must give way to the new one only once."""
    lines = lines_of_a_save(home, None)
    home.write(FIRST)
    seen = []
    chosen = range(1, lines + 1) if most is None else sorted({1, lines, *chance.choices(range(2, lines), k=most)})
    for line in chosen:
        process = child(lambda line=line: lines_of_a_save(home, line) and None)  # type: ignore[misc]
        _, status = os.waitpid(process, 0)
        assert os.WIFSIGNALED(status), "the writer was not killed"
        seen.append(home.value())
        home.check({FIRST, FIRST + 1})
    assert seen == sorted(seen) and {*seen} == {FIRST, FIRST + 1}
    return len(chosen)


def refused(home: Home, prepare: Callable[[], None]) -> None:
    """A save that the disk does not take is told as such, and leaves the old value."""

    def save() -> None:
        prepare()
        try:
            home.write(FIRST + 1)
        except StorageFailed:
            os._exit(7)

    _, status = os.waitpid(child(save), 0)
    assert os.waitstatus_to_exitcode(status) == 7, "the disk's refusal was not told"
    assert home.value() == FIRST


def disk_that_takes_so_many_bytes(home: Home, steps: int) -> int:
    """The writer may write only so many bytes of a file, from none in steps to all but one."""
    size = home.paths.backend_config.stat().st_size
    limits = [*range(0, size, size // steps), size - 1]
    for limit in limits:
        refused(home, lambda limit=limit: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)))  # type: ignore[misc]
        home.check({FIRST})
    return len(limits)


def read_only_folder(home: Home) -> None:
    """A home that the writer may not write to."""
    everything = [home.paths.home, *home.paths.home.rglob("*")]
    modes = {path: path.stat().st_mode for path in everything}
    for path in everything:
        path.chmod(0o555 if path.is_dir() else 0o444)

    def become_nobody() -> None:
        if os.geteuid() == 0:
            os.seteuid(NOBODY)

    try:
        refused(home, become_nobody)
    finally:
        for path, mode in modes.items():
            path.chmod(mode)
    home.check({FIRST})


def full_disk(home: Home) -> None:
    """A file system without a free byte. Expects `home` to lie on a small one."""
    filler = home.paths.home / "filler"
    with filler.open("wb", buffering=0) as stream:
        try:
            while stream.write(b"x" * 4096):
                pass
        except OSError:  # as was wanted
            pass
    refused(home, lambda: None)
    filler.unlink()
    home.check({FIRST})


def on_a_small_disk() -> str:
    """Run `full_disk` on a file system of its own, which takes the rights of an administrator."""
    if os.geteuid() != 0 or not shutil.which("unshare"):
        return "not tried: needs root and unshare"
    with tempfile.TemporaryDirectory() as folder:
        script = f"mount -t tmpfs -o size=512k tmpfs {folder} && exec {sys.executable} -m {__spec__.name} --on {folder}"
        done = subprocess.run(["unshare", "-m", "sh", "-c", script], capture_output=True, text=True, check=False)
    if "mount:" in done.stderr or "unshare:" in done.stderr:
        return f"not tried: {done.stderr.strip()}"
    assert done.returncode == 0, done.stderr
    return "old value kept"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--kills", type=int, default=500)
    parser.add_argument("--lines", type=int, help="kill before so many lines only")
    parser.add_argument("--seed", type=int, default=5)
    parser.add_argument("--on", type=Path, help="only fill the disk of this folder")
    asked = parser.parse_args()
    if asked.on:
        full_disk(Home(asked.on))
        return
    chance = random.Random(asked.seed)
    with tempfile.TemporaryDirectory() as folder:
        home = Home(Path(folder) / "home")
        Path(folder).chmod(0o755)
        states = [killed_at_random(home, chance) for _ in range(asked.kills)]
        for state in sorted(set(states)):
            print(f"killed {state}: {states.count(state)}, the old or the new file each time")
        print(f"killed before a line of the code: {killed_before_lines(home, asked.lines, chance)}")
        steps = 40 if asked.lines is None else asked.lines
        print(f"disks that take so many bytes: {disk_that_takes_so_many_bytes(home, steps)}")
        read_only_folder(home)
        print("read-only folder: old value kept")
    print(f"full disk: {on_a_small_disk()}")


if __name__ == "__main__":
    main()
