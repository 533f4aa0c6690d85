"""What the long checks found, kept until what they looked at changes, so that the quick ones need not look again."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from webui.files import write_atomically

log = logging.getLogger(__name__)

Found = dict[str, Any]
"""One finding: plain JSON values."""


class Evidence:
    """Findings by kind and by what they are about, each with the stamp of what was looked at. For several threads.

    Kept in `file`; in memory alone where there is none or its folder does not exist, since looking makes no folder.
    """

    def __init__(self, file: Path | None = None) -> None:
        self._file = file
        self._lock = threading.Lock()
        self._kept: dict[str, dict[str, Found]] | None = None

    def get(self, kind: str, name: str, stamp: str) -> Found | None:
        """What was found, if it was found of what has this stamp."""
        with self._lock:
            found = self._all().get(kind, {}).get(name)
        return found if found is not None and found.get("stamp") == stamp else None

    def put(self, kind: str, name: str, stamp: str, found: Mapping[str, Any]) -> None:
        with self._lock:
            self._all().setdefault(kind, {})[name] = {**found, "stamp": stamp}
            self._save()

    def forget(self, kind: str, name: str) -> None:
        with self._lock:
            if self._all().get(kind, {}).pop(name, None) is not None:
                self._save()

    def _all(self) -> dict[str, dict[str, Found]]:
        if self._kept is None:
            self._kept = _read(self._file) if self._file is not None else {}
        return self._kept

    def _save(self) -> None:
        if self._file is None:
            return
        try:
            if self._file.parent.is_dir():
                write_atomically(self._file, json.dumps(self._kept, indent=1))
        except OSError as error:
            log.warning("What the checks found is not kept: %s", error)


def _read(file: Path) -> dict[str, dict[str, Found]]:
    """What was kept; nothing where it cannot be read, since looking again is only slower."""
    try:
        kept = json.loads(file.read_text("utf-8"))
        return {kind: {name: dict(found) for name, found in group.items()} for kind, group in kept.items()}
    except (OSError, ValueError, TypeError, AttributeError):
        return {}
