"""The reference pages and `settings.yaml`, written from the declarations (`python3 -m webui.reference`).

    settings.yaml           every key with its default, commented out
    docs/settings.md        the same as a page, with the environment variables
    docs/parameters.md      each backend's parameters, and the sampling parameters with their sources
    docs/presets.md         the shipped sampling presets
    docs/extensions.md      the hooks
    docs/elements.md        the controls of the page and their ids
    docs/troubleshooting.md every failure, what it means and what to do
    docs/backends/          the facts of each backend, within pages written by hand
    docs/hardware.md        which GPUs and models go with what, likewise
    docs/api.md             the statuses of errors, likewise

Nobody edits these by hand; a test compares them with what is written here.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from webui.files import write_atomically
from webui.loaders import LOADERS
from webui.paths import PROJECT_ROOT
from webui.reference import api, backends, elements, hardware, hooks, parameters, presets, settings, troubleshooting


def pages() -> dict[str, str]:
    """Path in the checkout → content, for every generated file."""
    return {
        "settings.yaml": settings.yaml_file(LOADERS),
        "docs/settings.md": settings.page(LOADERS),
        "docs/parameters.md": parameters.page(LOADERS),
        "docs/presets.md": presets.page(PROJECT_ROOT / "presets"),
        "docs/extensions.md": hooks.page(),
        "docs/elements.md": elements.page(),
        "docs/troubleshooting.md": troubleshooting.page(PROJECT_ROOT / "docs"),
        **backends.pages(PROJECT_ROOT, LOADERS),
        hardware.PAGE: hardware.page(PROJECT_ROOT, LOADERS),
        api.PAGE: api.page(PROJECT_ROOT),
    }


def write(root: Path, files: Mapping[str, str]) -> list[str]:
    """Write those of `files` (see `pages`) that differ from what is there; return their paths."""
    changed = []
    for name, content in files.items():
        path = root / name
        if not path.exists() or path.read_text(encoding="utf-8") != content:
            write_atomically(path, content)
            changed.append(name)
    return changed
