"""Sampling presets by name: the shipped ones in `presets/`, and the user's, which go before them.

A preset is a YAML file of the fields of `SamplingParameters`, with an optional `description`; what it leaves out has
the declared default. Shipped files are never written.
"""

from __future__ import annotations

import difflib
import io
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from webui.errors import InvalidSetting, NotFound
from webui.files import write_atomically
from webui.loaders.sampling import SamplingParameters

if TYPE_CHECKING:
    from webui.paths import Paths

NAME = re.compile(r"[^\W_][\w .+-]{0,62}[\w+]|[^\W_]")
"""Letters, digits, spaces and . + - _ within; begins with a letter or digit, does not end in a dot or a space."""
RESERVED = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)
"""Names that Windows keeps for devices."""
FOLDED_WIDTH = 100
LARGEST_FILE = 65_536


class PresetStore:
    """Reads the folders each time, so that a preset added by hand is there at once."""

    def __init__(self, paths: Paths) -> None:
        self._own = paths.presets
        self._shipped = paths.project_presets

    def names(self) -> tuple[str, ...]:
        """All names: shipped ones first, each part in alphabetical order. Unreadable files are listed too."""
        shipped = _names(self._shipped)
        return (*shipped, *(name for name in _names(self._own) if name not in shipped))

    def shipped(self, name: str) -> bool:
        """Whether `name` is a preset that came with the app; it cannot be deleted, only covered by one's own."""
        return name in _names(self._shipped)

    def own(self, name: str) -> bool:
        """Whether the user has a preset of this name."""
        return name in _names(self._own)

    def get(self, name: str) -> SamplingParameters:
        """The preset's parameters. Raises `NotFound` with the nearest name, `InvalidSetting` for a wrong file."""
        values = self._read(name)
        values.pop("description", None)
        return SamplingParameters.parse(values, where=f"preset {name}")

    def description(self, name: str) -> str:
        """One sentence on what the preset is for, or ""."""
        return str(self._read(name).get("description") or "")

    def save(self, name: str, params: SamplingParameters, *, description: str = "") -> None:
        """Write the user's preset `name`; one with the name of a shipped preset covers it. Raises `InvalidSetting`."""
        from ruamel.yaml import YAML

        path = self._own / f"{check_name(name)}.yaml"
        content: dict[str, Any] = {"description": description} if description else {}
        # Every value is written, so that the preset means the same when a default changes.
        content.update(params.model_dump(mode="json"))
        yaml = YAML()
        yaml.width = FOLDED_WIDTH
        stream = io.StringIO()
        yaml.dump(content, stream)
        write_atomically(path, stream.getvalue())

    def parse(self, name: str, text: str) -> tuple[SamplingParameters, str]:
        """Parameters and description of a preset's text. Raises `InvalidSetting` for a wrong name or text."""
        values = _values(text, check_name(name), "the file that it came in")
        description = str(values.pop("description", None) or "")
        return SamplingParameters.parse(values, where=f"preset {name}"), description

    def text(self, name: str) -> str:
        """The user's preset as it is written. Raises `NotFound` where there is none."""
        if not self.own(name):
            raise self._missing(name)
        return (self._own / f"{name}.yaml").read_text(encoding="utf-8-sig")

    def delete(self, name: str) -> None:
        """Remove the user's preset. Raises `NotFound` where there is none, `InvalidSetting` for a shipped one."""
        check_name(name)
        if self.own(name):
            (self._own / f"{name}.yaml").unlink()
        elif self.shipped(name):
            raise InvalidSetting(
                f"the preset {name} came with the app and cannot be deleted",
                hint="Save one of your own under the same name to use that instead.",
            )
        else:
            raise self._missing(name)

    def _read(self, name: str) -> dict[str, Any]:
        check_name(name)
        for folder in (self._own, self._shipped):
            if name in _names(folder):
                return _load(folder / f"{name}.yaml", name)
        raise self._missing(name)

    def _missing(self, name: str) -> NotFound:
        near = difflib.get_close_matches(name, self.names(), n=1)
        return NotFound(
            f"there is no preset {name}" + (f"; did you mean {near[0]}?" if near else ""),
            hint=f"Presets are {', '.join(self.names()) or 'none'}.",
        )


def check_name(name: str) -> str:
    """`name` if it may name a preset's file; raises `InvalidSetting` for anything that could leave the folder."""
    if not NAME.fullmatch(name) or RESERVED.fullmatch(name) or ".." in name:
        raise InvalidSetting(
            f"{name[:64]!r} cannot be the name of a preset",
            hint="Use up to 64 letters, digits, spaces, dots, dashes or underlines, beginning with a letter or digit.",
        )
    return name


def _names(folder: Path) -> tuple[str, ...]:
    if not folder.is_dir():
        return ()
    return tuple(sorted(path.stem for path in folder.glob("*.yaml") if path.is_file() and NAME.fullmatch(path.stem)))


def _load(path: Path, name: str) -> dict[str, Any]:
    if path.stat().st_size > LARGEST_FILE:
        raise InvalidSetting(f"the preset {name} is larger than {LARGEST_FILE // 1024} KiB", hint=str(path))
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (UnicodeDecodeError, OSError) as error:
        raise InvalidSetting(
            f"the preset {name} cannot be read", cause=str(error).splitlines()[0], hint=f"Correct or remove {path}."
        ) from error
    return _values(text, name, str(path))


def _values(text: str, name: str, place: str) -> dict[str, Any]:
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    try:
        data = YAML(typ="safe", pure=True).load(text)
    except (YAMLError, RecursionError, ValueError) as error:
        cause = str(error).splitlines()[0]
        raise InvalidSetting(
            f"the preset {name} cannot be read", cause=cause, hint=f"Correct or remove {place}."
        ) from error
    if not isinstance(data, dict | None):
        raise InvalidSetting(f"the preset {name} must hold keys and values", hint=f"Correct or remove {place}.")
    return {str(key): value for key, value in (data or {}).items()}
