"""Migrations killed at every point. Run with: python -m tests.benchmarks.killed_migrations [RANDOM]

First in a process that is killed before each of its touches of a file, then RANDOM times (50) the command as people
run it, killed at a moment by chance between its first backup and its end. Each time the next start has to be whole: all
as it was, or all carried over and undone to the byte. Exit status 1 if one is not.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from tests.migration.conftest import Laid_, picture
from tests.migration.killing import EVERYTHING, in_a_process, next_start, state
from webui.migration.undoing import undo

COMMAND = "import sys; from webui.cli import main; sys.exit(main(sys.argv[1:]))"
PROJECT = Path(__file__).parent.parent.parent


def main(times: int) -> int:
    with tempfile.TemporaryDirectory() as folder:
        wrong = every_point(Path(folder) / "points") + by_chance(Path(folder) / "chance", times)
    for line in wrong:
        print(f"NOT WHOLE: {line}")
    return 1 if wrong else 0


def every_point(folder: Path) -> list[str]:
    laid = Laid_(folder / "user", EVERYTHING)
    before = state(laid)
    _, touches = in_a_process(laid.root, laid.carry)
    after = state(laid)
    outcomes: Counter[str] = Counter()
    wrong = []
    for point in range(1, touches + 1):
        laid = again(laid, folder, point)
        looked = picture(laid.root)
        in_a_process(laid.root, laid.carry, touches=point, later=random.choice((0.0, 0.0, 0.001, 0.004)))
        outcome = judge(laid, before, after, looked)
        outcomes[outcome] += 1
        wrong += [f"killed at touch {point}"] if outcome == "neither" else []
    print(f"killed at each of {touches} touches: {dict(outcomes)}")
    return wrong


def by_chance(folder: Path, times: int) -> list[str]:
    laid = Laid_(folder / "user", EVERYTHING)
    before = state(laid)
    begun, ended = command(laid, None)
    after = state(laid)
    outcomes: Counter[str] = Counter()
    wrong = []
    for number in range(times):
        laid = again(laid, folder, number)
        looked = picture(laid.root)
        delay = random.uniform(0, ended - begun)
        command(laid, delay)
        manifests = list(laid.paths.backups.glob("*/manifest.json"))
        cut = not manifests or any('"state": "done"' not in path.read_text() for path in manifests)
        outcome = judge(laid, before, after, looked)
        outcomes[f"{outcome}, cut short" if cut else outcome] += 1
        wrong += [f"command killed after {delay * 1000:.1f} ms"] if outcome == "neither" else []
    print(f"command killed {times} times within {(ended - begun) * 1000:.0f} ms: {dict(outcomes)}")
    return wrong


def again(laid: Laid_, folder: Path, number: int) -> Laid_:
    laid.root.rename(folder / f"earlier-{number}")
    return Laid_(laid.root, EVERYTHING)


def command(laid: Laid_, delay: float | None) -> tuple[float, float]:
    """Run `migrate`; with `delay`, kill it that long after its backup has begun. Returns when that was, and its end."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GGUF_")}
    process = subprocess.Popen(
        [sys.executable, "-c", COMMAND, "migrate", "--yes"],
        env=environment | {"HOME": str(laid.root)},
        cwd=PROJECT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    while process.poll() is None and not laid.paths.backups.exists():
        time.sleep(0.0005)
    begun = time.monotonic()
    if delay is not None:
        time.sleep(delay)
        process.send_signal(signal.SIGKILL)
    process.wait()
    return begun, time.monotonic()


def judge(laid: Laid_, before: object, after: object, looked: object) -> str:
    """`as before`, `carried over` or `neither`, after the next start."""
    next_start(laid)
    found = state(laid)
    if found == after:
        undo(laid.paths)
    whole = picture(laid.root) == looked
    return (
        "neither" if not whole else "carried over" if found == after else "as before" if found == before else "neither"
    )


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]) if len(sys.argv) > 1 else 50))
