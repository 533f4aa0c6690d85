"""The places settings come from, each read into one layer of dotted keys and values.

Weakest first: the declarations, `settings.yaml` of the checkout, `settings.yaml` of the user, `backend_config.json`,
the environment, the command line. What a wrong value does depends on the place. In a file it is left aside and
reported, and the app starts; but a file that cannot be read as YAML, and a wrong value of a setting that keeps
strangers out, stop the start, because leaving them aside would open a door. In the environment and on the command
line, given for this one start, every wrong value stops it. A key with nothing behind it counts as not set.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from webui.errors import InvalidSetting
from webui.settings import backend_config
from webui.settings.declared import Declared
from webui.settings.groups import GROUPS
from webui.settings.reading import parse_yaml, read_text

if TYPE_CHECKING:
    from webui.paths import Paths

SHORT_VARIABLES = {
    "GGUF_BACKEND": "backends.preferred_backend",
    "GGUF_GPU_ENABLED": "backends.gpu_enabled",
    "GGUF_DEBUG": "debug",
}
"""Names from the specification; every key also has its systematic one, `Declared.variable`."""

COMMAND_LINE = "the command line"


@dataclass(frozen=True, slots=True)
class Layer:
    """What one place says. `strict` places refuse what is wrong; relative paths are taken from `folder`.

    `sources` names the place of a single key where that is more exact than `source` (an environment variable), and
    `name_in_file` says how a key is written there. `backends` are those the place describes, known here or not.
    """

    source: str
    values: dict[str, Any]
    folder: Path
    strict: bool = False
    sources: dict[str, str] = field(default_factory=dict)
    problems: tuple[InvalidSetting, ...] = ()
    name_in_file: Callable[[str], str] = str
    backends: tuple[str, ...] = ()
    own: bool = False
    """One of the files that the app itself writes."""

    def source_of(self, key: str) -> str:
        return self.sources.get(key, self.source)


def read_layers(
    paths: Paths,
    environment: Mapping[str, str],
    command_line: Mapping[str, Any],
    keys: Mapping[str, Declared],
    started_in: Path,
) -> Iterator[Layer]:
    """All layers above the declarations, weakest first."""
    yield yaml_layer(paths.project_settings, "settings.yaml")
    yield replace(yaml_layer(paths.settings_file, str(paths.settings_file)), own=True)
    yield replace(backend_config_layer(paths.backend_config), own=True)
    yield environment_layer(environment, keys, started_in)
    yield Layer(COMMAND_LINE, dict(command_line), started_in, strict=True)


def yaml_layer(path: Path, source: str) -> Layer:
    """Read a settings.yaml; a missing file is an empty layer. Raises `InvalidSetting` where it is not YAML."""
    text = read_text(path, source)
    values, problems = flatten_yaml(parse_yaml(text, source) if text else {}, source)
    return Layer(source, values, path.parent, problems=tuple(problems))


def flatten_yaml(data: Mapping[str, Any], source: str) -> tuple[dict[str, Any], list[InvalidSetting]]:
    """Dotted keys and values of a settings.yaml, and the sections in it that are none."""
    values: dict[str, Any] = {}
    problems: list[InvalidSetting] = []
    for name, content in data.items():
        if name not in GROUPS and name != "loaders":
            values[str(name)] = content
        elif content is not None and not isinstance(content, dict):
            problems.append(_not_a_section(str(name), source))
        elif name == "loaders":
            for loader, parameters in (content or {}).items():
                if parameters is not None and not isinstance(parameters, dict):
                    problems.append(_not_a_section(f"loaders.{loader}", source))
                    continue
                values.update({f"loaders.{loader}.{key}": value for key, value in (parameters or {}).items()})
        else:
            values.update({f"{name}.{key}": value for key, value in (content or {}).items()})
    return values, problems


def backend_config_layer(path: Path) -> Layer:
    """Read backend_config.json; it protects nothing, so a broken one is reported and its last good copy used."""
    found = backend_config.find(path)
    values, problems = backend_config.flatten(found.data, found.source)
    return Layer(
        found.source,
        values,
        path.parent,
        problems=(*found.problems, *problems),
        name_in_file=backend_config.name_in_file,
        backends=backend_config.named(found.data),
    )


def environment_layer(environment: Mapping[str, str], keys: Mapping[str, Declared], started_in: Path) -> Layer:
    """The variables that set a key. An empty variable counts as not set; a likely slip in a name is reported."""
    names = {declared.variable: key for key, declared in keys.items()} | SHORT_VARIABLES
    values: dict[str, Any] = {}
    sources: dict[str, str] = {}
    problems: list[InvalidSetting] = []
    # Longer names first, so that the short ones of the specification win where both are set.
    for variable in sorted(environment, key=len, reverse=True):
        if not variable.startswith("GGUF_") or not environment[variable].strip():
            continue
        key = names.get(variable)
        if key is not None:
            values[key] = environment[variable].strip()
            sources[key] = variable
        elif near := difflib.get_close_matches(variable, names, n=1, cutoff=0.85):
            problems.append(
                InvalidSetting(
                    f"the environment variable {variable} is not known; did you mean {near[0]}?", key=variable
                )
            )
    return Layer("the environment", values, started_in, strict=True, sources=sources, problems=tuple(problems))


def absolute(value: Any, folder: Path) -> Any:
    """A path of a layer, with `~` expanded and relative ones taken from the layer's folder."""
    return Path(os.path.abspath(folder / value.expanduser())) if isinstance(value, Path) else value  # noqa: PTH100


def _not_a_section(name: str, source: str) -> InvalidSetting:
    return InvalidSetting(f"{name} in {source} must be a section with indented keys under it", key=name, source=source)
