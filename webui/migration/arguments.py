"""The free arguments of older files, one by one, whichever way they were written: an object, a list, or one line."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from typing import Any

NUMBER = re.compile(r"-?\d+(\.\d+)?")

Argument = tuple[str, Any, str]
"""Its name ("" for what is none), its value (True for a bare switch), and how it was written."""


def arguments(value: Any) -> Iterator[Argument]:
    """Each argument of a list or a line."""
    if isinstance(value, str):
        try:
            yield from _arguments(shlex.split(value))
        except ValueError:  # a quote that is not closed
            yield from _arguments(value.split())
    else:
        yield from _arguments(list(value))


def _arguments(words: list[Any]) -> Iterator[Argument]:
    """The value of an option stands behind it, or behind `=`."""
    place = 0
    while place < len(words):
        word = words[place]
        place += 1
        if not isinstance(word, str):
            yield "", word, str(word)
            continue
        name, equals, value = word.partition("=")
        if _is_option(word) and len(parts := name.split(None, 1)) == 2:  # a list whose items are whole: "--threads 4"
            yield parts[0], parts[1] + equals + value, word
        elif equals:
            yield name.strip(), value.strip(), word
        elif not _is_option(word):
            yield "", word, word
        elif place < len(words) and not _is_option(words[place]):
            yield name, words[place], f"{word} {words[place]}"
            place += 1
        else:
            yield name, True, word


def _is_option(word: Any) -> bool:
    return isinstance(word, str) and word.startswith("-") and NUMBER.fullmatch(word) is None
