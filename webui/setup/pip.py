"""Runs pip in a child process, turns its output into progress, and its failures into one clear sentence.

Used by the first start, the starter model and the backends alike; standard library only. It decides nothing about
what is installed. pip's own configuration (indexes, proxies, certificates, caches) is the user's and stays in force.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path

from webui.errors import EVIDENCE_LINES, Cancelled, SetupFailed

ReportStep = Callable[[str, "float | None"], None]
ReportLine = Callable[[str], None]

COLLECTED_SHARE = 0.15
DOWNLOADED_SHARE = 0.75
"""Where the phases of an installation end on the way from 0 to 1: finding, fetching, unpacking (or compiling)."""
TICK_SECONDS = 0.5
GRACE_SECONDS = 5.0

_COLLECTING = re.compile(r"^\s*(?:Collecting|Requirement already satisfied:|Processing)\s+(\S+)")
_FETCHING = re.compile(r"^\s*(Downloading|Using cached|Saved)\s+(\S+?)(?:\s+\(([\d.]+)\s*([kMG]?B)\))?$")
_BUILDING = re.compile(r"^\s*Building wheel for (\S+).*: started")
_BUILD_STEP = re.compile(r"^\s*\[(\d+)/(\d+)\]\s+(.*)")
_INSTALLING = re.compile(r"^Installing collected packages: (.*)")
_UNITS = {"B": 1, "kB": 1_000, "MB": 1_000_000, "GB": 1_000_000_000}

_CAUSES: tuple[tuple[str, str, str], ...] = (
    (
        r"No space left on device|Errno 28|not enough space on the disk",
        "the disk is full",
        "Free some space, then run the same command again.",
    ),
    (
        r"Permission denied|Errno 13|Access is denied|Read-only file system",
        "a folder may not be written to",
        "Check who owns the folder (no administrator rights are needed for one of your own), then run it again.",
    ),
    (
        r"CERTIFICATE_VERIFY_FAILED|SSLError|certificate verify failed",
        "the package index's certificate is not trusted here",
        "Behind a company proxy, give pip its certificate: pip config set global.cert FILE",
    ),
    (
        r"ProxyError|Cannot connect to proxy|407 Proxy",
        "the proxy refused the connection",
        "Check the proxy settings (HTTPS_PROXY, or pip config), then run the same command again.",
    ),
    (
        r"THESE PACKAGES DO NOT MATCH THE HASHES|BadHash|HashMismatch",
        "a downloaded file is not the expected one",
        "Run it again; if it happens again, the package index or a proxy on the way changes files.",
    ),
    (
        r"40[13] Client Error|401 Unauthorized|403 Forbidden",
        "the package index refused access",
        "Check the index address and the login in pip's configuration.",
    ),
    (
        r"NewConnectionError|NameResolutionError|name resolution|getaddrinfo failed|Network is unreachable|"
        r"Connection refused|ConnectTimeout|Failed to establish|Max retries exceeded|ReadTimeout|Read timed out|"
        r"IncompleteRead|Connection broken|ConnectionResetError|RemoteDisconnected|Connection aborted",
        "the package index cannot be reached",
        "Check the network connection, then run the same command again: it continues where it stopped.",
    ),
    (r"No module named pip\b", "this Python has no pip", "Install pip for it, for example: python3 -m ensurepip"),
    (
        r"externally-managed-environment",
        "this Python belongs to the operating system, which does not let pip change it",
        "Start without --no-setup, or from a virtual environment.",
    ),
    (
        r"Failed building wheel|Failed to build|subprocess-exited-with-error",
        "a package could not be compiled",
        "The compiler's own lines are in the log.",
    ),
    (
        r"\(from versions: none\)",
        "the package index offers no version of it",
        "Check the network connection, pip's index settings, and that this is a released 64-bit Python.",
    ),
    (
        r"No matching distribution found",
        "the package index has no suitable version for this Python and system",
        "Use a released 64-bit Python, not the very newest, on Linux, macOS or Windows.",
    ),
    (
        r"ResolutionImpossible|conflicting dependencies",
        "packages that are asked for exclude each other",
        "Remove the .venv folder and start again.",
    ),
)


class PipRun:
    """One run of `python -m pip ARGUMENTS`. `run` blocks; `cancel` may be called from another thread.

    `expected` is the number of packages it is about, for the share; `scratch` is where downloads are unpacked, on the
    disk of the environment by default; `hold` is a file descriptor that pip keeps open too (a lock).
    """

    def __init__(
        self,
        python: Path | str,
        arguments: Sequence[str],
        *,
        expected: int = 1,
        scratch: Path | None = None,
        hold: int | None = None,
        log: Path | None = None,
    ) -> None:
        self.command = [str(python), "-m", "pip", *arguments]
        self.lines: deque[str] = deque(maxlen=EVIDENCE_LINES * 5)
        self._expected = max(expected, 1)
        self._scratch = scratch
        self._hold = hold
        self._log = log
        self._process: subprocess.Popen[str] | None = None
        self._cancelled = threading.Event()

    def run(self, report: ReportStep, on_line: ReportLine | None = None) -> None:
        """Run to the end. Raises `SetupFailed` with pip's last lines, or `Cancelled`."""
        with tempfile.TemporaryDirectory(prefix="setup-", dir=self._scratch, ignore_cleanup_errors=True) as scratch:
            self._start(Path(scratch))
            meter = _Meter(report, self._expected, Path(scratch))
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
                env=_environment(scratch, Path(self.command[0])),
                **own_group,  # type: ignore[call-overload]
            )
        except OSError as error:
            raise SetupFailed(f"{self.command[0]} could not be started.", cause=str(error)) from error
        if self._cancelled.is_set():  # cancelled between the request and the start
            self._end()

    def _drain(self, meter: _Meter, on_line: ReportLine | None) -> int:
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


class _Meter:
    """Derives the step and the share from pip's lines and, between them, from the bytes that arrive in `scratch`."""

    def __init__(self, report: ReportStep, expected: int, scratch: Path) -> None:
        self._report = report
        self._expected = expected
        self._scratch = scratch
        self._collected = self._fetched = 0
        self._text = "asking the package index"
        self._share = 0.0
        self._file_bytes = 0.0
        self._bytes_before = 0
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._tick, name="pip-progress", daemon=True)

    def start(self) -> None:
        self._report(self._text, 0.0)
        self._thread.start()

    def stop(self) -> None:
        self._ended.set()
        self._thread.join()

    def read(self, line: str) -> None:
        """Take one line of pip's output into account."""
        with self._lock:
            if match := _FETCHING.match(line):
                self._fetch(match)
            elif match := _COLLECTING.match(line):
                self._collected += 1
                self._advance(
                    f"finding {match[1].partition('==')[0]}", COLLECTED_SHARE * self._collected / self._expected
                )
            elif match := _BUILD_STEP.match(line):
                done, total = int(match[1]), max(int(match[2]), 1)
                self._advance(
                    f"compiling, step {done} of {total}",
                    DOWNLOADED_SHARE * done / total if self._expected == 1 else self._share,
                )
            elif match := _BUILDING.match(line):
                self._advance(f"compiling {match[1]} (this takes some minutes)", self._share)
            elif match := _INSTALLING.match(line):
                self._advance(f"installing {len(match[1].split(', '))} packages", DOWNLOADED_SHARE)
            elif line.startswith("Successfully installed"):
                self._advance("installed", 1.0)

    def _fetch(self, match: re.Match[str]) -> None:
        name = match[2].rpartition("/")[2]
        if name.endswith(".metadata"):
            return
        self._fetched += 1
        self._file_bytes = float(match[3]) * _UNITS[match[4]] if match[1] == "Downloading" and match[3] else 0.0
        self._bytes_before = _bytes_in(self._scratch)
        size = f" ({match[3]} {match[4]})" if match[3] else ""
        self._advance(f"fetching {name.partition('-')[0]}{size}", self._fetch_share(self._fetched - 1))

    def _fetch_share(self, files: float) -> float:
        return COLLECTED_SHARE + (DOWNLOADED_SHARE - COLLECTED_SHARE) * min(files / self._expected, 1.0)

    def _advance(self, text: str, share: float) -> None:
        self._text = text
        self._share = max(self._share, min(share, 1.0))
        self._report(self._text, self._share)

    def _tick(self) -> None:
        while not self._ended.wait(TICK_SECONDS):
            with self._lock:
                if self._text.startswith("fetching") and self._file_bytes:
                    part = min((_bytes_in(self._scratch) - self._bytes_before) / self._file_bytes, 1.0)
                    self._share = max(self._share, self._fetch_share(self._fetched - 1 + max(part, 0.0)))
                self._report(self._text, self._share)


def explain(lines: Sequence[str] | deque[str], status: int) -> SetupFailed:
    """What pip's output means for a person. `status` is pip's exit status (negative: the signal that ended it)."""
    text = "\n".join(lines)
    if status < 0:
        return SetupFailed(
            "The installation was ended from outside.",
            cause=f"signal {-status}",
            hint="If memory is short, close other programs; then run the same command again.",
            evidence=lines,
        )
    for pattern, cause, hint in _CAUSES:
        if re.search(pattern, text):
            package = re.search(r"(?:No matching distribution found for|Failed building wheel for) (\S+)", text)
            about = f" {package[1]}" if package and ("compiled" in cause or "version" in cause) else ""
            return SetupFailed(f"Installing{about} failed: {cause}.", hint=hint, evidence=lines, exit_status=status)
    last = next((line for line in reversed(lines) if line.startswith("ERROR")), lines[-1] if lines else "")
    return SetupFailed("Installing failed.", cause=last.strip(), evidence=lines, exit_status=status)


def pinned_packages(requirements: Path) -> list[str]:
    """The `name==version` lines of a requirements file that hold on this system; options and comments left out."""
    lines = (line.partition("#")[0].strip() for line in requirements.read_text("utf-8").splitlines())
    pairs = (line.partition(";") for line in lines if line and not line.startswith("-"))
    return [pin.strip() for pin, _, marker in pairs if _holds(marker.strip())]


def _holds(marker: str) -> bool:
    """The two kinds of environment markers that the requirement files use; anything else is taken to hold."""
    if match := re.fullmatch(r'sys_platform == "(\w+)"', marker):
        return sys.platform == match[1]
    if match := re.fullmatch(r'python_version >= "3\.(\d+)"', marker):
        return sys.version_info >= (3, int(match[1]))
    return True


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


def _bytes_in(folder: Path) -> int:
    total = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            try:
                total += (Path(parent) / name).stat().st_size
            except FileNotFoundError:  # pip moves files while we look
                continue
    return total
