"""Runs pip in a child process that can be watched and cancelled, with its children.

Used by the first start, the starter model and the backends alike; standard library only. It decides nothing about
what is installed. pip's own configuration (indexes, proxies, certificates, caches) is the user's and stays in force.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from webui.errors import EVIDENCE_LINES, Cancelled, SetupFailed
from webui.setup.pip_failures import explain
from webui.setup.pip_progress import READY_WHEELS, Meter, Phases, ReportStep

ReportLine = Callable[[str], None]

GRACE_SECONDS = 5.0
SCRATCH = "setup-"
"""How the names of the folders begin in which pip unpacks and compiles."""


class PipRun:
    """One run of `python -m pip ARGUMENTS`. `run` blocks; `cancel` may be called from another thread.

    `expected` is the number of packages it is about, for the share; `scratch` is where downloads are unpacked, on the
    disk of the environment by default; `library` is the site-packages folder that fills;
    `hold` is a file descriptor that pip keeps open too (a lock); `variables` hold where the user has not set them.
    """

    def __init__(
        self,
        python: Path | str,
        arguments: Sequence[str],
        *,
        expected: int = 1,
        scratch: Path | None = None,
        library: Path | None = None,
        phases: Phases = READY_WHEELS,
        hold: int | None = None,
        log: Path | None = None,
        variables: Mapping[str, str] | None = None,
    ) -> None:
        self.command = [str(python), "-m", "pip", *arguments]
        self.lines: deque[str] = deque(maxlen=EVIDENCE_LINES * 5)
        self._expected = max(expected, 1)
        self._scratch = scratch
        self._library = library
        self._phases = phases
        self._hold = hold
        self._log = log
        self._variables = variables or {}
        self._process: subprocess.Popen[str] | None = None
        self._cancelled = threading.Event()

    def run(self, report: ReportStep, on_line: ReportLine | None = None) -> None:
        """Run to the end. Raises `SetupFailed` with pip's last lines, or `Cancelled`."""
        with tempfile.TemporaryDirectory(prefix=SCRATCH, dir=self._scratch, ignore_cleanup_errors=True) as scratch:
            self._start(Path(scratch))
            meter = Meter(report, self._expected, Path(scratch), self._library, self._phases)
            meter.start()
            try:
                status = self._drain(meter, on_line)
            finally:
                meter.stop()
                self._end()
        if self._cancelled.is_set():
            raise Cancelled("The installation was cancelled.", hint="Start it again to continue.")
        if status != 0:
            raise explain(self.lines, status)

    def cancel(self) -> None:
        """Stop pip and everything it started."""
        self._cancelled.set()
        self._end()

    def _start(self, scratch: Path) -> None:
        own_group: dict[str, object] = (
            {"creationflags": getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0)}
            if sys.platform == "win32"
            else {"start_new_session": True, "pass_fds": () if self._hold is None else (self._hold,)}
        )
        try:
            self._process = subprocess.Popen(
                self.command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                encoding="utf-8",
                errors="replace",
                env={**self._variables, **_environment(scratch, Path(self.command[0]))},
                **own_group,  # type: ignore[call-overload]
            )
        except OSError as error:
            raise SetupFailed(f"{self.command[0]} could not be started.", cause=str(error)) from error
        if self._cancelled.is_set():  # cancelled between the request and the start
            self._end()

    def _drain(self, meter: Meter, on_line: ReportLine | None) -> int:
        process = self._process
        if process is None or process.stdout is None:
            raise RuntimeError("pip was not started")
        with process.stdout, _LogFile(self._log) as log:
            for raw in process.stdout:
                line = raw.rstrip()
                self.lines.append(line)
                log.write(line)
                meter.read(line)
                if on_line is not None:
                    on_line(line)
        return process.wait()

    def _end(self) -> None:
        process = self._process
        if process is not None and process.poll() is None:
            end_process_tree(process)


class _LogFile:
    """Appends lines to a file, or nowhere."""

    def __init__(self, path: Path | None) -> None:
        self._file = path.open("a", encoding="utf-8") if path is not None else None

    def write(self, line: str) -> None:
        if self._file is not None:
            self._file.write(line + "\n")
            self._file.flush()

    def __enter__(self) -> _LogFile:
        return self

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            self._file.close()


def end_process_tree(process: subprocess.Popen[str]) -> None:
    """End a process that leads its own group, with its children: asked first, then forced. Returns when it is gone."""
    try:
        if sys.platform == "win32":
            subprocess.run(["taskkill", "/F", "/T", "/PID", str(process.pid)], capture_output=True, check=False)
            process.wait()
            return
        os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(GRACE_SECONDS)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    except ProcessLookupError:  # it ended by itself meanwhile
        process.wait()


def _environment(scratch: Path, python: Path) -> dict[str, str]:
    """The user's environment, with what makes pip's output readable for a program and its scratch space ours."""
    environment = {name: value for name, value in os.environ.items() if name not in _MISLEADING}
    environment |= {
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        "PIP_NO_INPUT": "1",
        "NO_COLOR": "1",
        "PYTHONUNBUFFERED": "1",
        "PYTHONIOENCODING": "utf-8",
        "TMPDIR": str(scratch),
        "TEMP": str(scratch),
        "TMP": str(scratch),
    }
    if (python.parent.parent / "pyvenv.cfg").exists():
        environment["PIP_USER"] = "0"  # "user = true" in somebody's pip.conf makes every installation in a venv fail
    return environment


_MISLEADING = frozenset({"PYTHONHOME", "__PYVENV_LAUNCHER__"})
"""Variables that make a virtual environment's Python look for its library elsewhere."""
