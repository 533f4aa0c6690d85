"""Somebody else who uses the app while a cell is played, and has to be answered within a second all the while."""

from __future__ import annotations

import contextlib
import http.client
import json
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

RESPONSIVE_SECONDS = 1.0
GIVE_UP_SECONDS = 15.0
PAUSE_SECONDS = 0.05
SAMPLE_SECONDS = 0.05


class Prober(threading.Thread):
    """Asks `/health` over a real connection, again and again, and notes how long the app took to answer.

    Time in which the machine gave no processor to those concerned, though they stood ready to run, is not the app's and
    does not count: else a busy machine would fail what an idle one does not. `answering` says which worker it is that
    answers.
    """

    def __init__(self, url: str, answering: Callable[[], int | None]) -> None:
        super().__init__(daemon=True)
        self.worst = 0.0
        self.count = 0
        self.problems: list[str] = []
        self.asking = threading.Event()
        """While set, the model that is there is asked for a word as well."""
        self._address = urlsplit(url).netloc
        self._waits = Waits(answering, self.asking)
        self._ended = threading.Event()
        self._message = json.dumps(message("hi"))

    def run(self) -> None:
        self._waits.start()
        while not self._ended.is_set():
            with contextlib.closing(http.client.HTTPConnection(self._address, timeout=GIVE_UP_SECONDS)) as connection:
                while not self._ended.is_set():
                    if not self._measure(connection, "GET", "/health"):
                        break
                    if self.asking.is_set() and not self._measure(connection, "POST", "/v1/chat/completions"):
                        break
                    self._ended.wait(PAUSE_SECONDS)

    def finish(self) -> None:
        self._ended.set()
        self.join()
        self._waits.finish()

    def _measure(self, connection: http.client.HTTPConnection, method: str, path: str) -> bool:
        """One request; whether the connection may be used again."""
        wanted = self.asking.is_set()
        asked = method == "POST"
        waits = self._waits.seconds(worker=asked)
        began = time.monotonic()
        try:
            body = self._message if asked else None
            connection.request(method, path, body, {"Content-Type": "application/json"})
            response = connection.getresponse()
            response.read()
        except (OSError, http.client.HTTPException) as error:
            self.problems.append(f"{path}: {type(error).__name__} after {time.monotonic() - began:.2f} s")
            return False
        taken = time.monotonic() - began
        seconds = taken - (self._waits.seconds(worker=asked) - waits)
        self.count += 1
        self.worst = max(self.worst, seconds)
        if seconds > RESPONSIVE_SECONDS:
            self.problems.append(f"{path}: answered after {taken:.2f} s, {seconds:.2f} s of them not for want of a CPU")
        if response.status != 200 and wanted == self.asking.is_set():
            self.problems.append(f"{path}: answered {response.status}")
        return True


class Waits(threading.Thread):
    """How long those whom an answer needs have waited for a processor: the event loop's thread, the prober's, and where
    a model is asked, all threads of its worker.

    The latter are read off again and again: they come and go with the replies, and their accounts with them.
    """

    def __init__(self, answering: Callable[[], int | None], wanted: threading.Event) -> None:
        super().__init__(daemon=True)
        self._answering = answering
        self._wanted = wanted
        self._waited: dict[Path, int] = {}
        self._ended = threading.Event()

    def run(self) -> None:
        while not self._ended.wait(SAMPLE_SECONDS):
            if self._wanted.is_set():
                self._look_at_worker()

    def finish(self) -> None:
        self._ended.set()
        self.join()

    def seconds(self, *, worker: bool) -> float:
        """What those concerned have waited so far; to be called by the prober's thread."""
        threads = (threading.main_thread().native_id, threading.get_native_id())
        total = sum(waited(Path(f"/proc/self/task/{thread}")) for thread in threads)
        if worker:
            self._look_at_worker()
            total += sum(list(self._waited.values()))
        return total / 1e9

    def _look_at_worker(self) -> None:
        pid = self._answering()
        with contextlib.suppress(OSError):
            for thread in Path(f"/proc/{pid}/task").iterdir() if pid is not None else ():
                self._waited[thread] = max(waited(thread), self._waited.get(thread, 0))


def waited(thread: Path) -> int:
    """Nanoseconds that a thread stood ready to run and got no processor (Linux); 0 for one that has ended."""
    try:
        return int((thread / "schedstat").read_bytes().split()[1])
    except OSError:
        return 0


def message(text: str, **fields: Any) -> dict[str, Any]:
    """The body of a chat request."""
    return {"messages": [{"role": "user", "content": text}], "max_tokens": 4, "temperature": 0, **fields}
