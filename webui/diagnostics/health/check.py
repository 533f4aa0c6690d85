"""What a check says, and what the checks are about."""

from __future__ import annotations

import shlex
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from webui.diagnostics.health.evidence import Evidence
from webui.errors import AppError
from webui.hardware.facts import DiskFacts, HardwareFacts
from webui.hardware.host import SYSTEM_ROOT
from webui.loaders.contract import LoaderSpec
from webui.paths import Paths
from webui.pool.status import LoadStory
from webui.settings import Settings


class CheckState(StrEnum):
    OK = "ok"
    WARNING = "warning"
    PROBLEM = "problem"


@dataclass(frozen=True, slots=True)
class Check:
    """One line of the health list. `fix` is empty where there is nothing to do.

    `action` names what mends it, for a button or `doctor --fix`: a verb of `webui.diagnostics.health.actions` and what
    it is about. It is `None` where only a person can mend it, in the way `fix` says. With an action, `fix` ends with
    the words that lead to it, open for a colon: on a page the button follows, elsewhere the command (`remedy`).
    `untried` says that a thorough look, which nobody has taken yet, would tell more.
    """

    name: str
    state: CheckState
    sentence: str
    fix: str = ""
    action: str | None = None
    untried: bool = False

    @property
    def remedy(self) -> str:
        """What to do, for where there are no buttons."""
        return f"{self.fix}: {command_of(self.action)}" if self.action else self.fix


@dataclass(frozen=True, slots=True)
class HealthFacts:
    """What the checks are about. `settings` is the error where they could not be read.

    `serving` says that this very app holds the port. `loads` are the latest, newest first. `disks` are those of the
    folders that the app writes to, by what they hold. `root` is where /proc and /etc lie, and `now` the time it is.
    """

    paths: Paths
    settings: Settings | AppError
    hardware: HardwareFacts
    loaders: Mapping[str, LoaderSpec]
    serving: bool = False
    loads: Sequence[LoadStory] = ()
    disks: Mapping[str, DiskFacts] = field(default_factory=dict)
    evidence: Evidence = field(default_factory=Evidence)
    root: Path = SYSTEM_ROOT
    now: float = field(default_factory=time.time)

    @property
    def models(self) -> Path:
        """The folder with the models."""
        chosen = self.settings.models.directory if isinstance(self.settings, Settings) else None
        return chosen or self.paths.models


def command_of(action: str) -> str:
    """The command that carries out an action, as a shell takes it."""
    return f"python3 app.py doctor --fix {shlex.quote(action)}"


def fine(name: str, sentence: str, *, untried: bool = False) -> Check:
    return Check(name, CheckState.OK, sentence, untried=untried)


def warning(name: str, sentence: str, fix: str, action: str | None = None) -> Check:
    return Check(name, CheckState.WARNING, sentence, fix, action)


def problem(name: str, sentence: str, fix: str, action: str | None = None) -> Check:
    return Check(name, CheckState.PROBLEM, sentence, fix, action)


def worst(checks: Sequence[Check]) -> CheckState:
    """The state of the whole."""
    order = list(CheckState)
    return max((found.state for found in checks), key=order.index, default=CheckState.OK)


def is_there(path: Path) -> bool:
    """Whether there is such a file or folder, as far as we may look; a closed folder shows nothing."""
    try:
        path.stat()
    except OSError:
        return False
    return True


def names(things: Sequence[object], most: int = 3) -> str:
    """The first of `things`, and how many more there are."""
    shown = ", ".join(str(thing) for thing in things[:most])
    return f"{shown} and {len(things) - most} more" if len(things) > most else shown
