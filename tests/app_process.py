"""The whole app as its users run it: a process of its own, a home of its own, a free port."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psutil

ROOT = Path(__file__).parent.parent
START_SECONDS = 90.0


@dataclass
class AppProcess:
    """A running app. `home` is its `$GGUF_HOME`; `url` has no slash at the end."""

    process: subprocess.Popen[bytes]
    home: Path
    url: str
    log: Path

    def health(self) -> dict[str, Any]:
        answer: dict[str, Any] = httpx.get(f"{self.url}/health", timeout=5).json()
        return answer

    def wait_for(self, state: str, seconds: float = START_SECONDS) -> dict[str, Any]:
        """Return what `/health` says once its state is `state`; fail with the app's output otherwise."""
        deadline = time.monotonic() + seconds
        seen: Any = None
        while time.monotonic() < deadline and self.process.poll() is None:
            with contextlib.suppress(httpx.TransportError):
                seen = self.health()
                if seen["state"] == state:
                    return dict(seen)
            time.sleep(0.05)
        raise AssertionError(f"not {state}: {seen}; exit {self.process.poll()}; {self.log.read_text()[-3000:]}")

    def workers(self) -> list[psutil.Process]:
        """The app's child processes, and theirs."""
        return psutil.Process(self.process.pid).children(recursive=True)

    def stop(self) -> int:
        """Ask it to end, as Ctrl+C does, and return its exit status."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
        return self.process.wait(timeout=30)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def running_app(
    home: Path,
    models: Sequence[Path] = (),
    *,
    arguments: Sequence[str] = (),
    environment: dict[str, str] | None = None,
    port: int | None = None,
) -> Iterator[AppProcess]:
    """Start `app.py --no-setup` with `models` in its models folder, on any port; ends it, by force if need be."""
    folder = home / "models"
    folder.mkdir(parents=True, exist_ok=True)
    for model in models:
        target = folder / model.name
        if not target.exists():
            os.link(model, target) if model.stat().st_dev == folder.stat().st_dev else target.symlink_to(model)
    port = port or free_port()
    log = home / "output.txt"
    command = [sys.executable, str(ROOT / "app.py"), "--no-setup", "--port", str(port), *arguments]
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            # An empty models folder stays empty: tests fetch nothing from a package index.
            env={**os.environ, "GGUF_HOME": str(home), "GGUF_MODELS_STARTER": "false", **(environment or {})},
            cwd=home,
        )
        app = AppProcess(process, home, f"http://127.0.0.1:{port}", log)
        try:
            yield app
        finally:
            if process.poll() is None:
                left = app.workers()
                process.terminate()
                try:
                    process.wait(timeout=20)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()
                psutil.wait_procs(left, timeout=5)
