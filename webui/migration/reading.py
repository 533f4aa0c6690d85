"""The text of an older file as values, each with its place; nothing is guessed, and nothing is silently forgiven.

JSON as programs write it, and as people leave it behind: with a byte order mark, comments and commas too many. What is
no JSON even so is left alone, with the place where it goes wrong. Reads never raise: a `Document` says what is wrong.
"""

from __future__ import annotations

import codecs
import json
import math
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from webui.migration.plan import Key

LARGEST_FILE = 64 * 1024 * 1024
"""No configuration and hardly any list of chats is larger."""
DEEPEST = 60
MARKS = ((codecs.BOM_UTF8, "utf-8-sig"), (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"))


@dataclass(frozen=True, slots=True)
class Leaf:
    """A value that holds no others: text, number, yes or no, nothing, or an empty list or object."""

    key: Key
    value: Any


@dataclass(frozen=True, slots=True)
class Document:
    """What a file holds. With a `problem`, a sentence, it holds nothing that can be used.

    `repeated` are values that another one of the same name in the same object follows, which goes before them.
    """

    file: Path
    content: Any = None
    repeated: tuple[Leaf, ...] = ()
    problem: str = ""
    raw: bytes = field(default=b"", repr=False)

    def leaves(self) -> Iterator[Leaf]:
        """Every value of the file, once each."""
        if not self.problem:
            yield from self.repeated
            yield from leaves_of(self.content)


class _Pairs(list[tuple[str, Any]]):
    """An object as it stands in the file, repeated names and all."""


def read(file: Path) -> Document:
    """The file's content, or why there is none."""
    try:
        facts = file.stat()
        if not stat.S_ISREG(facts.st_mode):
            return Document(file, problem="This is not a file." if not file.is_dir() else "This is a folder.")
        if facts.st_size > LARGEST_FILE:
            size = f"{facts.st_size / 1024 / 1024:.0f} MiB"
            return Document(file, problem=f"With {size} it is too large to be a configuration.")
        raw = file.read_bytes()
    except FileNotFoundError:
        target = f" to {file.readlink()}" if file.is_symlink() else ""
        return Document(file, problem=f"This link{target} leads nowhere." if target else "This file is not there.")
    except PermissionError:
        return Document(file, problem="You are not permitted to read this file.")
    except OSError as error:
        return Document(file, problem=f"It cannot be read: {error.strerror or error}.")
    return parse(file, raw)


def parse(file: Path, raw: bytes) -> Document:
    """The content of `raw`, which is all that `file` holds."""
    encoding = next((name for mark, name in MARKS if raw.startswith(mark)), "utf-8")
    try:
        text = raw.decode(encoding)
    except UnicodeDecodeError as error:
        line = raw[: error.start].count(b"\n") + 1
        return Document(
            file,
            raw=raw,
            problem=f"It is not UTF-8 text (byte {error.start + 1}, line {line}): save it as UTF-8 first.",
        )
    if not text.strip():
        return Document(file, raw=raw, problem="The file is empty.")
    try:
        pairs = [_parse_text(line) for line in _json_lines(text)] if file.suffix == ".jsonl" else _parse_text(text)
    except json.JSONDecodeError as error:
        return Document(file, raw=raw, problem=_broken(text, error))
    except (RecursionError, ValueError) as error:
        reason = "it is nested too deeply" if isinstance(error, RecursionError) else str(error)
        return Document(file, raw=raw, problem=f"It cannot be read as JSON: {reason}.")
    if _depth(pairs) > DEEPEST:
        return Document(file, raw=raw, problem="It is nested too deeply to be a configuration.")
    repeated: list[Leaf] = []
    content = _plain(pairs, (), repeated)
    return Document(file, content, tuple(repeated), raw=raw)


def leaves_of(value: Any, key: Key = ()) -> Iterator[Leaf]:
    """The leaves of a value that stands at `key`."""
    if isinstance(value, dict) and value:
        for name, item in value.items():
            yield from leaves_of(item, (*key, name))
    elif isinstance(value, list) and value:
        for place, item in enumerate(value):
            yield from leaves_of(item, (*key, place))
    else:
        yield Leaf(key, value)


def _parse_text(text: str) -> Any:
    try:
        return json.loads(text, object_pairs_hook=_Pairs)
    except json.JSONDecodeError:
        return json.loads(without_extras(text), object_pairs_hook=_Pairs)


def _json_lines(text: str) -> Iterator[str]:
    """The values of a file that holds one a line, each after as many line ends as stand before it."""
    for number, line in enumerate(text.splitlines()):
        if line.strip():
            yield "\n" * number + line


def without_extras(text: str) -> str:
    """`text` with comments (`//`, `/* */`, `#`) and trailing commas blanked, so that places stay what they are."""
    signs = list(text)
    at, comma, length = 0, -1, len(text)
    while at < length:
        sign = text[at]
        if sign == '"':
            at, comma = _end_of_string(text, at), -1
            continue
        end = _end_of_comment(text, at)
        if end > at:
            for place in range(at, end):
                if signs[place] not in "\r\n":
                    signs[place] = " "
            at = end
            continue
        if sign in "]}" and comma >= 0:
            signs[comma] = " "
        if sign == ",":
            comma = at
        elif not sign.isspace():
            comma = -1
        at += 1
    return "".join(signs)


def _end_of_string(text: str, at: int) -> int:
    """Where the string that begins at `at` is over."""
    at += 1
    while at < len(text) and text[at] != '"':
        at += 2 if text[at] == "\\" else 1
    return at + 1


def _end_of_comment(text: str, at: int) -> int:
    """Where the comment that begins at `at` is over; `at` where none begins there."""
    if text[at] == "#" or text.startswith("//", at):
        end = text.find("\n", at)
    elif text.startswith("/*", at):
        found = text.find("*/", at + 2)
        end = found + 2 if found >= 0 else -1
    else:
        return at
    return len(text) if end < 0 else end


def _broken(text: str, error: json.JSONDecodeError) -> str:
    near = " ".join(text.splitlines()[error.lineno - 1].split())[:60] if text.splitlines()[error.lineno - 1 :] else ""
    place = f"line {error.lineno}, column {error.colno}"
    return f"It is not valid JSON: {error.msg[0].lower()}{error.msg[1:]} in {place}" + (
        f", near {near}." if near else "."
    )


def _depth(value: Any) -> int:
    deepest, waiting = 0, [(value, 1)]
    while waiting:
        item, depth = waiting.pop()
        deepest = max(deepest, depth)
        if isinstance(item, _Pairs):
            waiting += [(inner, depth + 1) for _, inner in item]
        elif isinstance(item, list):
            waiting += [(inner, depth + 1) for inner in item]
    return deepest


def _plain(value: Any, key: Key, repeated: list[Leaf]) -> Any:
    """Dictionaries and lists; what a later value of the same name covers goes to `repeated`."""
    if isinstance(value, _Pairs):
        result: dict[str, Any] = {}
        for name, item in value:
            if name in result:
                repeated += leaves_of(result.pop(name), (*key, name))
            result[name] = _plain(item, (*key, name), repeated)
        return result
    if isinstance(value, list):
        return [_plain(item, (*key, place), repeated) for place, item in enumerate(value)]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value
