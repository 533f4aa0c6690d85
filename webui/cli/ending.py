"""How a command ends: errors become one line of cause, one of hint, and an exit status."""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Callable
from typing import ParamSpec

import typer

from webui.errors import AppError, ConfigurationError
from webui.setup.terminal import write_error

P = ParamSpec("P")

FAILED = 1
WRONG_USAGE = 2
INTERRUPTED = 130
FALSE = frozenset({"", "0", "false", "no", "off"})


class WrongUsage(ConfigurationError):
    """What was typed cannot be meant."""

    code = "wrong_usage"
    default_hint = "The command's --help lists what can be given."


def command(function: Callable[P, int | None]) -> Callable[P, None]:
    """Make `function` a command: it returns its exit status (None is 0) or raises, and never shows a traceback.

    Keeps the signature, from which typer reads arguments and options.
    """

    @functools.wraps(function)
    def ended(*args: P.args, **kwargs: P.kwargs) -> None:
        raise typer.Exit(status_of(lambda: function(*args, **kwargs)))

    return ended


def status_of(work: Callable[[], int | None]) -> int:
    """Do `work` and say how it ended; errors are written to standard error."""
    try:
        return work() or 0
    except WrongUsage as error:
        write_error(error)
        return WRONG_USAGE
    except AppError as error:
        write_error(error)
        return FAILED
    except KeyboardInterrupt:
        sys.stderr.write("\nCancelled.\n")
        return INTERRUPTED
    except BrokenPipeError:
        # Whoever read the output has gone (`| head`). Nothing more can be written, nor flushed at the end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    except Exception as error:
        if debugging():
            raise
        write_error(
            AppError(
                "Something went wrong inside the app.",
                cause=f"{type(error).__name__}: {error}",
                hint="Run the same command with GGUF_DEBUG=1 to see where, and report it.",
            )
        )
        return FAILED


def debugging() -> bool:
    return os.environ.get("GGUF_DEBUG", "").strip().lower() not in FALSE
