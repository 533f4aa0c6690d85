"""The reference pages and `settings.yaml`, written from the declarations (`python3 -m webui.reference`).

    settings.yaml           every key with its default, commented out
    docs/settings.md        the same as a page, with the environment variables
    docs/parameters.md      each backend's parameters, and the sampling parameters with their sources
    docs/presets.md         the shipped sampling presets
    docs/extensions.md      the hooks

Nobody edits these by hand; a test compares them with what is written here.
"""

from __future__ import annotations

from pathlib import Path

from webui.loaders import LOADERS
from webui.paths import PROJECT_ROOT
from webui.reference import hooks, parameters, presets, settings


def pages() -> dict[str, str]:
    """Path in the checkout → content, for every generated file."""
    return {
        "settings.yaml": settings.yaml_file(LOADERS),
        "docs/settings.md": settings.page(LOADERS),
        "docs/parameters.md": parameters.page(LOADERS),
        "docs/presets.md": presets.page(PROJECT_ROOT / "presets"),
        "docs/extensions.md": hooks.page(),
    }


def write(root: Path = PROJECT_ROOT) -> list[str]:
    """Write the files that are not true any more; return their paths."""
    from webui.files import write_atomically

    changed = []
    for name, content in pages().items():
        path = root / name
        if not path.exists() or path.read_text(encoding="utf-8") != content:
            write_atomically(path, content)
            changed.append(name)
    return changed
