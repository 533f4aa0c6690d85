"""`settings.yaml` and docs/settings.md."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping

from webui.loaders.contract import LoaderSpec
from webui.reference.tables import GENERATED, code, table, value
from webui.settings.declared import Declared, declare
from webui.settings.groups import GROUPS
from webui.settings.layers import SHORT_VARIABLES

WIDTH = 118

YAML_HEAD = """\
# Settings of this checkout. Written by `python3 -m webui.reference` from the declarations, with every key commented out
# at its default: remove the # before a key to set it.
#
# Your own settings are better kept in settings.yaml in the app's home (~/.gguf-loader or $GGUF_HOME), where the page
# saves them and an update does not touch them. Stronger than this file are, in this order: that one,
# backend_config.json there, environment variables, the command line. docs/settings.md tells more.
"""

PAGE_HEAD = """\
# Settings

Every setting is declared once, in `webui/settings/groups.py`; a backend's parameters in that backend's file. What a
setting is comes from the strongest of these places that gives it, and the Backend tab shows which one that was:

1. the command line, for the settings that have an option
2. the environment
3. `backend_config.json` in the app's home: the backends, their order and their parameters
4. `settings.yaml` in the app's home: what the page saves, and yours to edit
5. `settings.yaml` of the checkout
6. the defaults below

The app's home is `~/.gguf-loader`, or the folder that `GGUF_HOME` names.

**A wrong value** in a file is left aside and reported on the page, and the app starts. It does not start when a
`settings.yaml` cannot be read at all, or when a setting that keeps strangers out is wrong: `host`, `share`, `auth`,
`api_key` and `allowed_hosts` of `server`. In the environment and on the command line every wrong value stops the start.

**When a change holds**: the column "holds from" says *now*, *next load* (of a model) or *restart* (of the app). A
running app notices within some seconds that a file was changed, by an editor or by `python3 app.py config`. Parameters
of a backend hold from the next load.

**Saving** replaces a file in one step, under a lock that every program of this app takes, so nothing is lost when two
write at once, when the disk is full or when the machine goes off. Beside each file lies its last good copy
(`backend_config.json.last-good`). When `backend_config.json` cannot be understood, the copy is used and the page says
so; the broken file is kept as `backend_config.json.broken` before anything takes its place. `python3 app.py config
restore` brings the last good copy back, for `settings.yaml` too.

**Environment variables** are named after the key: `server.port` is `GGUF_SERVER_PORT`, and a backend's parameter
`loaders.xllamacpp.context_size` is `GGUF_LOADERS_XLLAMACPP_CONTEXT_SIZE`. Lists are written with commas. An empty
variable counts as not set. Three settings have a short name too, which goes before the long one: """

BACKEND_CONFIG = """\
## backend_config.json

```json backend_config.json
{
  "preferred_backend": "auto",
  "gpu_enabled": true,
  "fallback_enabled": true,
  "fallback_order": ["xllamacpp", "llamafile"],
  "backends": {
    "xllamacpp": {"enabled": true, "priority": 1, "context_size": 8192},
    "ctransformers": {"enabled": false}
  }
}
```

`preferred_backend`, `gpu_enabled`, `fallback_enabled` and `fallback_order` are the settings of the section `backends`.
Under `backends`, each backend has `enabled`, `priority` (smaller is tried earlier; `fallback_order` goes before it) and
its parameters, beside those two or in a mapping `parameters`. What is not understood is reported and kept when the page
saves a setting there.

## The command

`python3 app.py config` lists what differs from the defaults; `config list WORDS` searches all settings. `config show
KEY` tells all about one, `config get KEY` prints its value alone, `config set KEY VALUE` and `config reset KEY` change
it. `config check` names everything that is wrong, with what would be allowed, and ends with status 1 if there is
anything. `config export FILE` writes settings, presets, settings saved for models and chats into one file, without the
login and the API key unless `--secrets` is given; `config import FILE` shows what it would do, asks, keeps a backup in
`backups/` of the app's home and does it.
"""


def yaml_file(loaders: Mapping[str, LoaderSpec]) -> str:
    """The commented `settings.yaml`, all keys at their defaults and commented out."""
    lines = [YAML_HEAD]
    sections: dict[str, list[Declared]] = {}
    for item in declare(loaders).values():
        sections.setdefault(item.key.rpartition(".")[0], []).append(item)
    for section, items in sections.items():
        if section.startswith("loaders."):
            continue
        lines += _yaml_section(section, items, depth=1 if section else 0)
    lines += ["# Where each backend's parameters start; those saved for a model go before them.", "loaders:"]
    for section, items in sections.items():
        if section.startswith("loaders."):
            lines += _yaml_section(section.removeprefix("loaders."), items, depth=2)
    return "\n".join(lines).rstrip() + "\n"


def page(loaders: Mapping[str, LoaderSpec]) -> str:
    """docs/settings.md."""
    short = ", ".join(f"{code(name)} for {code(key)}" for name, key in SHORT_VARIABLES.items())
    parts = [GENERATED, PAGE_HEAD + short + ".\n"]
    keys = declare(loaders)
    for section in ("", *GROUPS):
        items = [item for item in keys.values() if item.key.rpartition(".")[0] == section]
        rows = [
            (
                code(item.key),
                code(value(item.spec.default)),
                item.allowed(),
                f"**{item.spec.control.label}.** {item.spec.control.help}",
                item.effect.value,
                code(item.variable),
            )
            for item in items
        ]
        parts.append(f"## {section or 'At the top of the file'}\n")
        parts.append(table(("key", "default", "allowed", "meaning", "holds from", "environment"), rows))
    names = ", ".join(code(f"loaders.{name}") for name in loaders)
    parts.append("## loaders\n")
    parts.append(f"{names} hold the parameters each backend starts with: [parameters.md](parameters.md).\n")
    parts.append(BACKEND_CONFIG)
    return "\n".join(parts)


def _yaml_section(section: str, items: list[Declared], depth: int) -> list[str]:
    indent = "  " * depth
    lines = [f"{'  ' * (depth - 1)}{section}:"] if section else []
    for item in items:
        control = item.spec.control
        text = f"{control.label}: {control.help} Allowed: {item.allowed()}."
        lines += textwrap.wrap(text, WIDTH, initial_indent=f"{indent}# ", subsequent_indent=f"{indent}# ")
        lines.append(f"{indent}#{item.spec.name}: {value(item.spec.default)}")
    return [*lines, ""]
