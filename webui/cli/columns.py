"""Tables and figures for a terminal."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from typing import Any

UNKNOWN = "–"


def write_json(content: Any) -> None:
    sys.stdout.write(json.dumps(content, indent=2, ensure_ascii=False) + "\n")


def write_table(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Columns as wide as their widest cell. A title that begins with ">" sets its column flush right."""
    right = [title.startswith(">") for title in titles]
    lines = [[title.removeprefix(">") for title in titles], *rows]
    widths = [max(len(line[column]) for line in lines) for column in range(len(titles))]
    for line in lines:
        cells = (
            cell.rjust(width) if flush else cell.ljust(width)
            for cell, width, flush in zip(line, widths, right, strict=True)
        )
        sys.stdout.write("  ".join(cells).rstrip() + "\n")


def size(count: int | None) -> str:
    """Bytes in the unit that leaves one to three digits before the point: 98.4 MB."""
    if count is None:
        return UNKNOWN
    value, units = float(count), ["B", "kB", "MB", "GB", "TB"]
    while value >= 999.5 and len(units) > 1:
        value /= 1000
        units.pop(0)
    return f"{value:.0f} {units[0]}" if units[0] == "B" or value >= 99.95 else f"{value:.1f} {units[0]}"


def amount(count: int | None) -> str:
    """A number of parameters as people say it: 135M, 7.2B."""
    if count is None:
        return UNKNOWN
    for unit, name in ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k")):
        if count >= unit:
            value = count / unit
            return f"{value:.0f}{name}" if value >= 99.95 else f"{value:.1f}{name}"
    return str(count)


def number(count: int | None) -> str:
    return UNKNOWN if count is None else f"{count:,}"


def seconds(value: float | None) -> str:
    return UNKNOWN if value is None else f"{value:.2f} s" if value >= 1 else f"{value * 1000:.0f} ms"


def day(at: float | None) -> str:
    """The day of a time since the epoch, in UTC."""
    return UNKNOWN if at is None else time.strftime("%Y-%m-%d", time.gmtime(at))


def rate(value: float | None) -> str:
    return UNKNOWN if value is None else f"{value:.1f}"
