"""The last good copy of each settings file, and what happens to one that cannot be read.

Beside `NAME` lies `NAME.last-good`, what it held when it could last be understood. A file that has become unreadable is
never written over: it is copied to `NAME.broken` (`NAME.broken-2` …) before anything takes its place.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

from webui.errors import InvalidSetting
from webui.files import remove_leftovers, write_atomically
from webui.settings.reading import read_text

log = logging.getLogger(__name__)

Parse = Callable[[str, str], dict[str, Any]]
"""Makes a mapping of a text; raises `InvalidSetting`, which names the second argument."""


def last_good(path: Path) -> Path:
    return path.with_name(f"{path.name}.last-good")


def write_kept(path: Path, text: str, *, private: bool) -> None:
    """Write `text`, which is good, to `path` and to its last good copy. The caller holds the lock.

    Where the disk takes the file and not the copy, the file counts: what was to be saved is saved.
    """
    remove_leftovers(path)
    write_atomically(path, text, private=private)
    try:
        write_atomically(last_good(path), text, private=True)
    except OSError as error:
        log.warning("There is no last good copy of %s as it is now: %s", path, error)


def remember_good(path: Path, parse: Parse) -> None:
    """Make the last good copy what `path` holds now, if that can be understood. The caller holds the lock."""
    try:
        text = read_text(path, path.name)
        parse(text, path.name)
    except InvalidSetting:
        return
    if path.exists() and _text_of(last_good(path)) != text:
        write_atomically(last_good(path), text, private=True)


def good_text(path: Path, parse: Parse) -> str | None:
    """The text of the last good copy; None where there is none that can be understood."""
    copy = last_good(path)
    if not copy.exists():
        return None
    try:
        text = read_text(copy, copy.name)
        parse(text, copy.name)
    except InvalidSetting:
        return None
    return text


def set_aside(path: Path) -> Path:
    """Copy the broken file to a name of its own and return that. The file itself stays until it is replaced."""
    content = path.read_bytes()
    number = 1
    while (copy := _aside(path, number)).exists() and copy.read_bytes() != content:
        number += 1
    if not copy.exists():
        write_atomically(copy, content, private=True)
    return copy


def restore(path: Path, parse: Parse, *, private: bool) -> Path | None:
    """Put the last good copy in the place of a file that cannot be understood; returns where that one went.

    None, and nothing done, where the file is good or there is no good copy. The caller holds the lock.
    """
    try:
        parse(read_text(path, path.name), path.name)
    except InvalidSetting:
        text = good_text(path, parse)
        if text is None:
            return None
        copy = set_aside(path)
        write_kept(path, text, private=private)
        return copy
    return None


def _aside(path: Path, number: int) -> Path:
    return path.with_name(f"{path.name}.broken" + (f"-{number}" if number > 1 else ""))


def _text_of(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):  # not there, or no text: not the same then
        return None
