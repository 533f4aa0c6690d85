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

from webui.errors import AppError, EngineCrashed, EngineRefused, PortTaken
from webui.loaders import server_guard
from webui.loaders.llama_log import explain_failure
from webui.loaders.llamafile_program import Program

KEPT_LINES = 2000
"""Enough for the whole account of a load, which names the devices."""

POLL_SECONDS = 0.05
STOP_SECONDS = server_guard.STOP_SECONDS + 1.5
DEATH_SECONDS = 1.0
"""How long a server whose connection broke may take until its end is seen."""

KEY_VARIABLE = "LLAMA_API_KEY"
"""Where llama.cpp's server looks for its key: unlike the command line, nobody else can read it there."""

_PORT_TAKEN = ("couldn't bind", "address already in use", "failed to bind", "eaddrinuse", "bind failed")


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
        self._lines: deque[str] = deque(maxlen=KEPT_LINES)
        self._reader = threading.Thread(target=self._drain, name="server-output", daemon=True)
        self._reader.start()

    def _drain(self) -> None:
        assert self._guard.stdout is not None
        for raw in self._guard.stdout:
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
        lines = self.lines()
        text = "\n".join(lines).lower()
        if any(words in text for words in _PORT_TAKEN):
            return PortTaken(f"{self._name} could not listen on its port.", evidence=lines)
        error = explain_failure(lines, "load the model")
        if isinstance(error, EngineRefused):
            return EngineRefused(
                f"{self._name} ended before it was ready ({self._ending()}).", cause=error.cause, evidence=lines
            )
        return error

    def death(self, seen: AppError) -> AppError:
        """The error for a server that ended, which showed as `seen`; `seen` itself if the server lives."""
        try:
            self._guard.wait(DEATH_SECONDS)
        except subprocess.TimeoutExpired:
            return seen
        self._reader.join(DEATH_SECONDS)
        return EngineCrashed(
            f"{self._name} ended while it was at work ({self._ending()}).",
            cause=seen.cause or seen.message,
            evidence=self.lines(),
            exit_status=self._guard.returncode,
        )

    def _ending(self) -> str:
        status = self._guard.returncode
        return f"signal {status - 128}" if status is not None and status > 128 else f"exit status {status}"

    def stop(self) -> None:
        """End the server and its guard; safe to call twice."""
        assert self._guard.stdin is not None and self._guard.stdout is not None
        self._guard.stdin.close()
        try:
            self._guard.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._guard.kill()
            self._guard.wait()
        self._reader.join(STOP_SECONDS)
        if not self._reader.is_alive():
            self._guard.stdout.close()
