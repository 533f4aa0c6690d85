"""What lies on the desk of a page before its first sample, where a page is about something that has to be there."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

OLDER_APP = {
    "version": "1.0.0",
    "theme": "dark",
    "use_hardware_acceleration": False,
    "default_max_tokens": 300,
    "ai_settings": {"temperature": 0.4, "top_k": 30},
}


def older_app(person: Path) -> None:
    """The settings of the app that came before this one, where that kept them."""
    file = person / ".config" / "gguf-loader" / "config.json"
    file.parent.mkdir(parents=True)
    file.write_text(json.dumps(OLDER_APP), encoding="utf-8")


PREPARED: dict[str, Callable[[Path], None]] = {"docs/migration.md": older_app}
"""Page → what prepares the reader's folder for it."""
