"""The app's own Python environment: the folder `.venv` beside `app.py`, made on the first start and kept in order.

A stamp inside it says what it holds, so that every later start needs one small file and no network. Standard library
only.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path

from webui.errors import SetupFailed
from webui.setup.lock import FileLock, environment_lock
from webui.setup.pip import PipRun
from webui.setup.requirement_files import pinned_packages
from webui.setup.terminal import TerminalProgress

WAIT_SECONDS = 0.5


class State(StrEnum):
    READY = "ready"
    MISSING = "missing"
    INTERRUPTED = "interrupted"
    OUTDATED = "outdated"
    BROKEN = "broken"


_OPENING = {
    State.MISSING: "First start: the packages are fetched into {folder}. This happens once and takes a minute or two.",
    State.INTERRUPTED: "The set-up of {since} did not finish; it goes on now.",
    State.OUTDATED: "The pinned packages have changed; the differences are installed.",
    State.BROKEN: "The Python that {folder} was made with is gone or was replaced; it is made anew.",
}


class Environment:
    """The virtual environment of the checkout `root`, holding what `requirements/base.txt` pins."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.folder = root / ".venv"
        self.requirements = root / "requirements" / "base.txt"
        self.stamp = self.folder / "webui-setup.json"
        self.log = self.folder / "setup.log"

    @property
    def python(self) -> Path:
        if sys.platform == "win32":
            return self.folder / "Scripts" / "python.exe"
        return self.folder / "bin" / "python"

    @property
    def is_running(self) -> bool:
        """Whether this very process already runs in the environment."""
        return self.folder.exists() and Path(sys.prefix).resolve() == self.folder.resolve()

    def state(self) -> State:
        """Looks at two small files; takes about a millisecond."""
        if not self.folder.exists():
            return State.MISSING
        if not self.python.exists() or self._python_replaced():
            return State.BROKEN
        stamp = self._read_stamp()
        if stamp.get("state") != "ready":
            return State.INTERRUPTED if stamp else State.OUTDATED
        return State.READY if stamp.get("requirements") == self._digest() else State.OUTDATED

    def prepare(self, progress: TerminalProgress) -> None:
        """Bring the environment to `READY`; returns at once if it is. Raises `SetupFailed`."""
        if self.state() is State.READY:
            return
        with self._lock(progress) as lock:
            state = self.state()  # another start may have finished it while this one waited
            if state is State.READY:
                return
            since = self._read_stamp().get("since", "last time")
            progress.note(_OPENING[state].format(folder=self.folder, since=since))
            try:
                self._build(state, progress, lock)
            except OSError as error:
                raise _explain_folder(self.folder, error) from error
            finally:
                progress.stop()
        progress.finish("done.")

    def _build(self, state: State, progress: TerminalProgress, lock: FileLock) -> None:
        if not self.is_running and (state in (State.MISSING, State.BROKEN) or not self._has_pip()):
            self._create(progress)
        self._write_stamp("installing")
        run = PipRun(
            self.python,
            ["install", "-r", str(self.requirements)],
            expected=len(pinned_packages(self.requirements)),
            scratch=None if sys.platform == "win32" else self.folder,  # Windows limits the length of paths
            library=next(self._libraries(), None),
            hold=lock.descriptor,
            log=self.log,
        )
        try:
            run.run(progress)
        except SetupFailed as error:
            raise SetupFailed(
                error.message,
                cause=error.cause,
                hint=f"{error.hint} The whole log: {self.log}",
                evidence=error.evidence,
            ) from error
        self._write_stamp("ready")

    def _create(self, progress: TerminalProgress) -> None:
        """Make the virtual environment, over the remains of one that does not work."""
        for module in ("venv", "ensurepip"):
            if importlib.util.find_spec(module) is None:
                raise SetupFailed(
                    f"This Python cannot make a virtual environment: its {module} module is missing.", hint=_venv_hint()
                )
        progress("making the Python environment", 0.0)
        if self.folder.exists():
            if self._read_stamp() == {} and not (self.folder / "pyvenv.cfg").exists() and any(self.folder.iterdir()):
                raise SetupFailed(
                    f"{self.folder} exists and is no Python environment.", hint="Move it away, then start again."
                )
            shutil.rmtree(self.folder)
        self.folder.mkdir()
        self._write_stamp("installing")
        made = subprocess.run(
            [sys.executable, "-m", "venv", str(self.folder)],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            check=False,
        )
        if made.returncode != 0:
            lines = (made.stdout + made.stderr).splitlines()
            if any("ensurepip" in line for line in lines):
                raise SetupFailed("The virtual environment could not be made.", hint=_venv_hint(), evidence=lines)
            cause = lines[-1] if lines else f"exit status {made.returncode}"
            raise SetupFailed("The virtual environment could not be made.", cause=cause, evidence=lines)

    def _has_pip(self) -> bool:
        return any((library / "pip" / "__main__.py").exists() for library in self._libraries())

    def _libraries(self) -> Iterator[Path]:
        """The site-packages folder, where there is one yet."""
        if sys.platform == "win32":
            yield from self.folder.glob("Lib/site-packages")
        else:
            yield from self.folder.glob("lib/python3*/site-packages")

    def _lock(self, progress: TerminalProgress) -> FileLock:
        lock = environment_lock(self.folder)
        announced = False
        while not lock.acquire():
            if not announced:
                progress.note("Another start is setting the app up; waiting for it.")
                announced = True
            time.sleep(WAIT_SECONDS)
        return lock

    def _python_replaced(self) -> bool:
        """Whether the Python the environment was made with has another version by now (an upgrade of the system).

        Only this process's own Python can be judged without starting another: if it is the one that made the
        environment, their versions must be equal.
        """
        if self.is_running:
            return False
        try:
            lines = (self.folder / "pyvenv.cfg").read_text("utf-8").splitlines()
        except OSError:
            return True
        facts = {key.strip(): value.strip() for key, _, value in (line.partition("=") for line in lines)}
        home = Path(getattr(sys, "_base_executable", sys.executable)).parent
        if not facts.get("home") or Path(facts["home"]) != home:
            return False
        made_with = facts.get("version", "").split(".")[:2]
        return Path(self.python).resolve() == Path(sys.executable).resolve() and made_with != [
            str(part) for part in sys.version_info[:2]
        ]

    def _digest(self) -> str:
        return hashlib.sha256(self.requirements.read_bytes()).hexdigest()

    def _read_stamp(self) -> dict[str, str]:
        try:
            stamp = json.loads(self.stamp.read_text("utf-8"))
        except (OSError, ValueError):  # not there, or cut off: both mean that nothing is known
            return {}
        return {str(key): str(value) for key, value in stamp.items()} if isinstance(stamp, dict) else {}

    def _write_stamp(self, state: str) -> None:
        stamp = {"state": state, "requirements": self._digest(), "since": time.strftime("%Y-%m-%d %H:%M")}
        temporary = self.stamp.with_suffix(".new")
        temporary.write_text(json.dumps(stamp), "utf-8")
        os.replace(temporary, self.stamp)  # noqa: PTH105  # the name says that the old file may be there


def _venv_hint() -> str:
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    if sys.platform == "linux":
        return f"On Debian and Ubuntu: sudo apt install python{version}-venv. Then start again."
    return "Install Python from its official installer, which has it. Then start again."


def _explain_folder(folder: Path, error: OSError) -> SetupFailed:
    if isinstance(error, PermissionError):
        return SetupFailed(
            f"{folder} cannot be written: permission denied.",
            hint="Put the app into a folder of your own, or start it with --no-setup from an environment you made.",
        )
    if error.errno == 28:  # ENOSPC
        return SetupFailed(f"{folder} cannot be written: the disk is full.", hint="Free some space, then start again.")
    return SetupFailed(f"{folder} cannot be written.", cause=str(error))
