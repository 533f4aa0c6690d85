"""`python3 app.py test`: installs everything the test suite needs, then runs it. Nothing else has to be prepared."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
import sysconfig
from collections.abc import Sequence
from pathlib import Path

from webui.errors import Busy
from webui.paths import PROJECT_ROOT
from webui.setup.backends import COMPILED, REQUIREMENTS
from webui.setup.browser import VARIABLE, ensure_chromium
from webui.setup.ending import orderly_end
from webui.setup.installed import differences
from webui.setup.lock import environment_lock
from webui.setup.pip import PipRun
from webui.setup.pip_progress import COMPILING, READY_WHEELS
from webui.setup.requirement_files import pinned_packages
from webui.setup.starter import ensure_starter
from webui.setup.terminal import TerminalProgress
from webui.setup.toolchain import install_hint, missing_tools

CACHE_VARIABLE = "GGUF_TEST_CACHE"
NEEDED = ("base.txt", "transformers.txt", "llama-cpp-python.txt", "test.txt")


def run_tests(arguments: Sequence[str]) -> int:
    """Prepare and run pytest with `arguments`; returns its exit status. Raises `SetupFailed` or `Busy`."""
    install_needed()
    progress = TerminalProgress("Starter model")
    try:
        ensure_starter(cache_folder(), progress)
    finally:
        progress.stop()
    progress = TerminalProgress("Browser")
    try:
        browser = ensure_chromium(progress)
    finally:
        progress.stop()
    environment = {**os.environ, VARIABLE: str(browser), CACHE_VARIABLE: str(cache_folder())}
    command = [
        sys.executable,
        "-m",
        "pytest",
        *side_by_side(arguments),
        *arguments,
    ]
    return subprocess.run(command, cwd=PROJECT_ROOT, env=environment, check=False).returncode


def side_by_side(arguments: Sequence[str]) -> list[str]:
    """What goes with `-n N`, several processes: the tests of one file stay together (see `tests/parallel.py`)."""
    asked = any(argument.startswith(("-n", "--numprocesses")) for argument in arguments)
    return ["--dist", "loadfile", "--no-loadscope-reorder"] if asked else []


def cache_folder() -> Path:
    """Where the tests keep what they download: `$GGUF_TEST_CACHE`, else a folder in the user's cache."""
    named = os.environ.get(CACHE_VARIABLE)
    return Path(named).absolute() if named else Path.home() / ".cache" / "gguf-loader-webui-tests"


def install_needed() -> None:
    """Install what the suite needs beyond the base: all engines and the test tools. Quiet where all is there."""
    files = [REQUIREMENTS / name for name in NEEDED]
    missing = differences(*files)
    if not missing:
        return
    progress = TerminalProgress("Test set-up")
    compiles = any(item.name in COMPILED for item in missing)
    if compiles:
        tools = missing_tools()
        progress.note("llama-cpp-python is compiled the first time; that takes some minutes.")
        if tools:
            progress.note(f"Not found here: {' and '.join(tools)}. {install_hint()}")
    lock = environment_lock(Path(sys.prefix))
    if not lock.acquire():
        raise Busy("Another installation is running.", hint="Start the tests again when it is finished.")
    with lock:
        requirements = [option for file in files for option in ("-r", str(file))]
        run = PipRun(
            sys.executable,
            ["install", "--verbose", *requirements],
            expected=sum(len(pinned_packages(file)) for file in files),
            scratch=None if sys.platform == "win32" else Path(sys.prefix),
            library=Path(sysconfig.get_path("purelib")),
            phases=COMPILING if compiles else READY_WHEELS,
            hold=lock.descriptor,
        )
        try:
            with orderly_end():
                run.run(progress)
        finally:
            progress.stop()
    importlib.invalidate_caches()
    progress.finish("done.")
