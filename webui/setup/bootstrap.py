"""The first start: makes the Python environment if need be and moves into it; `app.py` then runs the commands.

Imports nothing but the standard library.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Sequence

from webui.errors import AppError, SetupFailed
from webui.paths import PROJECT_ROOT as ROOT
from webui.setup.ending import orderly_end
from webui.setup.environment import Environment, State
from webui.setup.terminal import TerminalProgress, write_error

NO_SETUP = "--no-setup"
INTERRUPTED = 130
"""The exit status shells give to a program ended with Ctrl+C."""

HELP = """\
Usage: python3 app.py [OPTIONS] [COMMAND]

  Starts GGUF Loader WebUI. The first start sets up its own Python environment in .venv beside this file,
  fetches a small model and opens the page on http://127.0.0.1:7860; later starts need no network.

Options:
  --no-setup  Use the running Python as it is and install nothing.
  --help      This text; once the app is set up, all options and commands.
"""


def enter(arguments: Sequence[str]) -> tuple[int | None, list[str]]:
    """Make sure that this process runs in an environment that has what the app needs.

    Returns the exit status where there is nothing more to do, else None, and the arguments that are left. Does not
    return where it becomes another process.
    """
    with_setup = NO_SETUP not in arguments
    arguments = [argument for argument in arguments if argument != NO_SETUP]
    environment = Environment(ROOT)
    if with_setup:
        if _asks_for_help(arguments) and environment.state() is not State.READY:
            sys.stdout.write(HELP)
            return 0, arguments
        try:
            with orderly_end():
                environment.prepare(TerminalProgress("Setting up"))
            if not environment.is_running:
                return _move_into(environment, arguments), arguments
        except AppError as error:
            write_error(error)
            return 1, arguments
        except KeyboardInterrupt:
            sys.stderr.write("\nInterrupted. The next start continues the set-up.\n")
            return INTERRUPTED, arguments
    return None, arguments


def _asks_for_help(arguments: Sequence[str]) -> bool:
    return "--help" in arguments or "-h" in arguments


def _move_into(environment: Environment, arguments: Sequence[str]) -> int:
    """Become the environment's Python (POSIX), or start it and pass on signals and the exit status (Windows)."""
    command = [str(environment.python), str(ROOT / "app.py"), *arguments]
    variables = {name: value for name, value in os.environ.items() if name not in ("PYTHONHOME", "__PYVENV_LAUNCHER__")}
    sys.stdout.flush()
    sys.stderr.flush()
    if sys.platform != "win32":
        os.execve(command[0], command, variables)
    child = subprocess.Popen(command, env=variables)
    # The console sends Ctrl+C to both; the child decides what it means, this process only waits.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: child.terminate())
    return child.wait()


def explain_missing(error: ModuleNotFoundError) -> int:
    """Say which package the running Python lacks (possible with --no-setup only); returns the exit status."""
    if (error.name or "").partition(".")[0] == "webui":
        raise error
    write_error(
        SetupFailed(
            f"This Python lacks the package {error.name!r}.",
            cause=sys.executable,
            hint="Start without --no-setup, or install by hand: python -m pip install -r requirements.txt",
        )
    )
    return 1
