"""Where packages may come from besides pip's own configuration: `setup.indexes`, one PACKAGE=ADDRESS a line.

{build} in an address becomes the label of a build, which is `webui.setup`'s.
"""

from __future__ import annotations

import re
from collections.abc import Iterable


def read_indexes(lines: Iterable[str]) -> dict[str, str]:
    """The addresses by package. Raises `ValueError` for a line that is none."""
    found = {}
    for line in lines:
        name, _, address = (part.strip() for part in line.partition("="))
        if not name or not re.match(r"(https?|file)://", address):
            raise ValueError(f"{line!r} is not PACKAGE=ADDRESS, as torch=https://SERVER/PATH/{{build}}")
        found[name.lower().replace("_", "-")] = address
    return found


def checked_indexes(lines: Iterable[str]) -> tuple[str, ...]:
    """`lines` as they stand if each names a package and an address; raises `ValueError` otherwise."""
    kept = tuple(lines)
    read_indexes(kept)
    return kept
