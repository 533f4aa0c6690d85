"""Cells played ahead, several at once, by a few host processes, each with an app of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.faults.host import make_prototypes

ROOT = Path(__file__).parents[2]
Outcome = dict[str, Any]


class Board:
    """`result(id)` waits for a cell's outcome; cells are played in the order given."""

    def __init__(self, folder: Path, cells: Iterable[str], hosts: int) -> None:
        self._folder = folder
        self._futures: dict[str, Future[Outcome]] = {cell: Future() for cell in cells}
        self._waiting = deque(self._futures)
        self._processes: list[subprocess.Popen[str]] = []
        self._closing = False
        make_prototypes(folder)
        self._threads = [threading.Thread(target=self._play, args=(number,)) for number in range(hosts)]
        for thread in self._threads:
            thread.start()

    def result(self, cell: str) -> Outcome:
        return self._futures[cell].result()

    def outcomes(self) -> Iterator[Outcome]:
        for future in self._futures.values():
            yield future.result()

    def close(self) -> None:
        """End the hosts, and with them their workers."""
        self._closing = True
        self._waiting.clear()
        for process in list(self._processes):
            process.terminate()
        for thread in self._threads:
            thread.join()

    def _play(self, number: int) -> None:
        while self._waiting and not self._closing:
            with (self._folder / f"host-{number}.txt").open("a") as errors:
                self._host(errors)

    def _host(self, errors: Any) -> None:
        """One host process, for as long as it lives and there are cells."""
        command = [sys.executable, "-m", "tests.faults.host", str(self._folder)]
        with subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True, cwd=ROOT, env=os.environ
        ) as process:
            self._processes.append(process)
            assert process.stdin is not None and process.stdout is not None
            while process.poll() is None:
                try:
                    cell = self._waiting.popleft()
                except IndexError:
                    process.stdin.close()
                    break
                process.stdin.write(cell + "\n")
                process.stdin.flush()
                line = process.stdout.readline()
                lost = {"id": cell, "problems": [f"the app's process ended, with status {process.poll()}"]}
                outcome: Outcome = json.loads(line) if line else lost
                self._futures[cell].set_result(outcome)
                if not line or outcome.get("spoilt"):
                    break
            process.wait()
            self._processes.remove(process)


@contextmanager
def open_board(folder: Path, cells: Iterable[str], hosts: int) -> Iterator[Board]:
    board = Board(folder, cells, hosts)
    try:
        yield board
    finally:
        board.close()
