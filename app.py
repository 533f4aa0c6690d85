"""Starts GGUF Loader WebUI: `python3 app.py` sets itself up on the first run and opens the page.

This file is written so that any Python 3 can read it, to say in one sentence what is missing where the Python is too
old. Everything else is in `webui/setup/bootstrap.py` (the first start) and `webui/cli.py` (the commands).
"""

import sys

OLDEST_PYTHON = (3, 11)


def main():
    """Check the interpreter, then hand over. Returns the exit status."""
    if sys.version_info < OLDEST_PYTHON:
        sys.stderr.write(
            "GGUF Loader WebUI needs Python 3.11 or newer, and this is Python "
            + ".".join(str(part) for part in sys.version_info[:2])
            + ".\nHint: install a newer Python and start with it, for example: python3.12 app.py\n"
        )
        return 1
    from webui.setup.bootstrap import enter, explain_missing

    status, arguments = enter(sys.argv[1:])
    if status is not None:
        return status
    try:
        from webui.cli import main as run_command
    except ModuleNotFoundError as error:
        return explain_missing(error)
    sys.argv[1:] = arguments
    return run_command()


if __name__ == "__main__":
    sys.exit(main())
