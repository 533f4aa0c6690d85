"""Taking one wrong entry out of a settings file, whatever it is called and wherever in the file it stands.

`SettingsStore.reset` takes out keys that are declared, from where they are saved. What is wrong in a file may be called
anything; it is found by the words in which the complaint about it names it.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Mapping, MutableMapping
from typing import Any

Entries = MutableMapping[str, Any]


def yaml_without(text: str, key: str) -> str:
    """A settings.yaml without what the dotted `key` names; everything else stays as it is, comments too."""
    from ruamel.yaml import YAML

    yaml = YAML()
    yaml.preserve_quotes = True
    document = yaml.load(text)
    if isinstance(document, MutableMapping):
        _take_out(document, key)
    stream = io.StringIO()
    yaml.dump(document, stream)
    return stream.getvalue()


def json_without(data: Mapping[str, Any], key: str) -> dict[str, Any]:
    """The content of a backend_config.json without what the dotted `key` names, in any of the ways it is written."""
    result: dict[str, Any] = json.loads(json.dumps(data))
    section, _, rest = key.partition(".")
    ways = [key]
    if section == "loaders":
        name, _, parameter = rest.rpartition(".")
        ways += [f"backends.{name}.{parameter}", f"backends.{name}.parameters.{parameter}"]
    elif section == "backends":
        name, _, parameter = rest.rpartition(".")
        ways += [rest, f"backends.{name}.parameters.{parameter}"]
    for way in ways:
        _take_out(result, way)
    return result


def _take_out(document: Entries, key: str) -> None:
    for owner, name in list(_places(document, key)):
        owner.pop(name, None)


def _places(document: Entries, key: str) -> Iterator[tuple[Entries, str]]:
    """Where the key leads: every mapping with an entry called like the rest of it. Names may hold dots themselves."""
    if key in document:
        yield document, key
    for name, content in document.items():
        if key.startswith(f"{name}.") and isinstance(content, MutableMapping):
            yield from _places(content, key.removeprefix(f"{name}."))
