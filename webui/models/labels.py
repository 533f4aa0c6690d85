"""Text out of other people's files, made fit to be shown in one line: on a page, in a terminal, in a log."""

from __future__ import annotations

from typing import Any

LONGEST = 120


def label(value: Any) -> str | None:
    """`value` if it is text, on one line, without characters that do not print, cut where it is too long; else None."""
    if not isinstance(value, str):
        return None
    start = value[: LONGEST * 4]  # nobody needs to clean a megabyte
    line = " ".join("".join(sign if sign.isprintable() else " " for sign in start).split())
    return (line if len(line) <= LONGEST and start == value else line[: LONGEST - 1] + "…") or None
