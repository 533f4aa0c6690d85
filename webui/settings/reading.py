"""Reading a settings file: its text, and the mapping that YAML makes of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from webui.errors import InvalidSetting

LARGEST_FILE = 16 << 20
"""Bytes; a configuration of every key there is has some thousands."""
MOST_VALUES = 200_000
"""Aliases let a few lines stand for billions of values, or for themselves."""


def read_text(path: Path, source: str) -> str:
    """The file's text, "" where there is none; raises `InvalidSetting` where it cannot be read."""
    try:
        with path.open("rb") as stream:
            content = stream.read(LARGEST_FILE + 1)
        if len(content) > LARGEST_FILE:
            raise InvalidSetting(f"{source} is larger than {LARGEST_FILE >> 20} MiB", source=source)
        return content.decode("utf-8-sig")
    except FileNotFoundError:
        return ""
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidSetting(
            f"{source} cannot be read", cause=str(error), hint="Check the file and its permissions.", source=source
        ) from error


def parse_yaml(text: str, source: str) -> dict[str, Any]:
    """A YAML mapping as plain Python values; raises `InvalidSetting` with line and column where it is none."""
    from ruamel.yaml import YAML
    from ruamel.yaml.error import MarkedYAMLError, YAMLError

    try:
        data = YAML(typ="safe", pure=True).load(text)
    except YAMLError as error:
        mark = error.problem_mark if isinstance(error, MarkedYAMLError) else None
        place = f" in line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        reason = (error.problem if isinstance(error, MarkedYAMLError) else None) or str(error).splitlines()[0]
        raise InvalidSetting(
            f"{source} is not valid YAML: {reason}{place}",
            hint="Correct that line, or move the file away to start with the defaults.",
            source=source,
        ) from error
    except RecursionError as error:
        raise InvalidSetting(f"{source} is nested too deeply to be a configuration", source=source) from error
    if data is None:
        return {}
    if not isinstance(data, dict):
        raise InvalidSetting(f"{source} must hold sections and keys, such as server: port: 7860", source=source)
    if _more_values_than(data, MOST_VALUES):
        raise InvalidSetting(f"{source} holds more values than a configuration can", source=source)
    return data


def _more_values_than(data: Any, most: int) -> bool:
    """Whether there are more than `most` values, each alias counted where it stands."""
    waiting, count = [data], 0
    while waiting and count <= most:
        found = waiting.pop()
        inner = found.values() if isinstance(found, dict) else found if isinstance(found, list | set | tuple) else ()
        count += len(inner)
        waiting += inner
    return count > most
