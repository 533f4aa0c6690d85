"""The life of a server process: its start under a guard, its output, its readiness, its end.

The guard (`server_guard.py`) ends the server when the worker closes a pipe or dies. Output is drained at all times: it
goes on to the worker's standard error, where the parent collects it, and the last lines are kept here as evidence.
"""

from __future__ import annotations

import os
import secrets
import socket
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

from webui.errors import AppError, EngineRefused
from webui.loaders import server_guard
from webui.loaders.causes import UNKNOWN, explain_exit
from webui.loaders.llamafile_program import Program
from webui.loaders.memory_kills import MemoryKills

KEPT_LINES = 2000
"""Enough for the whole account of a load, which names the devices."""

LINE_BYTES = 65_536
LAST_LINES = 400
"""Those that can be about a server's end."""

POLL_SECONDS = 0.05
STOP_SECONDS = server_guard.STOP_SECONDS + 1.5
DEATH_SECONDS = 1.0
"""How long a server whose connection broke may take until its end is seen."""

KEY_VARIABLE = "LLAMA_API_KEY"
"""Where llama.cpp's server looks for its key: unlike the command line, nobody else can read it there."""


def free_port() -> int:
    """A loopback port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def new_key(program: Program) -> str:
    """A secret for programs that can be told one, so that no other user of this machine is served; else empty."""
    return secrets.token_urlsafe(24) if program.has("--api-key") else ""


class ServerProcess:
    """One server. `command` is its whole command line; `key` is handed over in the environment."""

    def __init__(self, command: list[str], key: str) -> None:
        environment = dict(os.environ)
        if key:
            environment[KEY_VARIABLE] = key
        guard = Path(server_guard.__file__)
        # A group of its own, so that a signal to the worker's group cannot end the guard before the server.
        options: dict[str, Any] = {"start_new_session": True}
        if sys.platform == "win32":
            options = {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP}
        self._guard = subprocess.Popen(
            [sys.executable, "-I", "-S", str(guard), *command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=environment,
            **options,
        )
        self._name = Path(command[0]).name if command[0] != "sh" else Path(command[1]).name
        self._stopping = False
        self._kills = MemoryKills(self._guard.pid)
        self._lines: deque[str] = deque(maxlen=KEPT_LINES)
        self._reader = threading.Thread(target=self._drain, name="server-output", daemon=True)
        self._reader.start()

    def _drain(self) -> None:
        assert self._guard.stdout is not None
        while raw := self._guard.stdout.readline(LINE_BYTES):
            line = raw.decode("utf-8", "replace").rstrip()
            self._lines.append(line)
            sys.stderr.write(line + "\n")

    def lines(self) -> list[str]:
        """The latest lines of output."""
        return list(self._lines)

    def wait_until(self, ready: Callable[[], bool]) -> None:
        """Return once `ready`; raise what the output proves if the server ends instead.

        How long this may take is the supervisor's limit.
        """
        while not ready():
            if self._guard.poll() is not None:
                self._reader.join(STOP_SECONDS)
                raise self._refusal()
            time.sleep(POLL_SECONDS)

    def _refusal(self) -> AppError:
        """Why the server ended before it was ready. One that says no and ends by itself has refused."""
        error = self._account()
        if self._status() < 0 or not error.facts.get("unknown"):
            return error
        return EngineRefused(
            f"{self._name} ended before it was ready (exit status {self._status()}), {UNKNOWN}"
            "; the engine's own lines are below.",
            cause=error.cause,
            evidence=error.evidence,
            unknown=True,
        )

    def _account(self) -> AppError:
        return explain_exit(
            self._name, self._status(), self.lines()[-LAST_LINES:], killed_for_memory=self._kills.rose()
        )

    def _status(self) -> int:
        """The server's exit status as the guard tells it: negative for a signal."""
        status = self._guard.returncode or 0
        return 128 - status if status > 128 else status

    def death(self, seen: AppError) -> AppError:
        """The error for a server that ended, which showed as `seen`; `seen` itself if the server lives."""
        try:
            self._guard.wait(DEATH_SECONDS)
        except subprocess.TimeoutExpired:
            return seen
        self._reader.join(DEATH_SECONDS)
        return self._account()

    def watch(self, died: Callable[[AppError], None]) -> None:
        """From now on the server is needed: if it ends by itself, `died` is told why."""

        def wait() -> None:
            self._guard.wait()
            self._reader.join(DEATH_SECONDS)
            if not self._stopping:
                died(self._account())

        threading.Thread(target=wait, name="server-watch", daemon=True).start()

    def stop(self) -> None:
        """End the server and its guard; safe to call twice."""
        assert self._guard.stdin is not None and self._guard.stdout is not None
        self._stopping = True
        self._guard.stdin.close()
        try:
            self._guard.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._guard.kill()
            self._guard.wait()
        self._reader.join(STOP_SECONDS)
        if not self._reader.is_alive():
            self._guard.stdout.close()
