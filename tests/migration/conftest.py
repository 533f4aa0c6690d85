"""A user's home of the test's own, with the app's folders in it."""

from __future__ import annotations

import hashlib
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.migration.corpus.layout import Case, lay_out
from webui.loaders import LOADERS
from webui.migration.carrying import Carried, carry
from webui.migration.survey import Survey, survey
from webui.paths import Paths
from webui.settings import Settings

NOW = 1_763_000_000.0
OURS = ("backups", "logs", "cache", "settings.lock")
"""What may tell of a migration after it was undone."""

Laid = Callable[[Case], "Laid_"]


class Laid_:
    """A case on the disk, and what one does with it."""

    def __init__(self, root: Path, case: Case) -> None:
        self.root = root
        self.paths: Paths = lay_out(case, root)

    def survey(self, *named: Path) -> Survey:
        return survey(self.paths, LOADERS, named, self.root)

    def settings(self) -> Settings:
        return Settings.load(self.paths, environment={}, loaders=LOADERS)

    def carry(self) -> Carried:
        found = self.survey()
        return carry(self.paths, found.plan, found.documents, LOADERS, self.settings(), NOW)

    def value(self, key: str) -> Any:
        return self.settings().shown()[key]


@pytest.fixture
def laid(tmp_path: Path) -> Callable[[Case], Laid_]:
    return lambda case: Laid_(tmp_path / "user", case)


def picture(root: Path) -> dict[str, tuple[str, int, int, str]]:
    """Every file below `root` but the traces of migrations: bytes, permissions, time of change, where links lead."""
    found = {}
    for path in sorted(root.rglob("*")):
        parts = path.relative_to(root).parts
        if any(part in OURS for part in parts) or (path.is_dir() and not path.is_symlink()):
            continue
        facts = path.lstat()
        link = str(path.readlink()) if path.is_symlink() else ""
        content = "" if link else hashlib.sha256(path.read_bytes()).hexdigest()
        found["/".join(parts)] = (content, stat.S_IMODE(facts.st_mode), facts.st_mtime_ns, link)
    return found
