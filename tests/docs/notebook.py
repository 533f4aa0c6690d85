"""Runs the Python samples of one page as the cells of a notebook: `python -m tests.docs.notebook < cells.json`.

A cell is {"file", "line", "text"}; all share one set of names. An exception shows the lines of the page itself.
"""

from __future__ import annotations

import json
import sys


def main() -> None:
    names = {"__name__": "__main__"}
    for cell in json.load(sys.stdin):
        code = compile("\n" * (cell["line"] - 1) + cell["text"], cell["file"], "exec")
        exec(code, names)


if __name__ == "__main__":
    main()
