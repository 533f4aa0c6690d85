"""The settings that a search found to be the fastest of each model here, and what they gained."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from webui.models.facts import ModelFacts
from webui.pool.notes import FileNotes, plain

MOST_FILES = 200


@dataclass(frozen=True, slots=True)
class TunedSetting:
    """`parameters` are those of `loader` that differ from its usual ones, as plain JSON types.

    `gain` is how many times faster a typical exchange is than with the settings that were in force, those of
    `usual_loader`; 1 where nothing faster was found, and `None` where these did not run at all. Speeds are tokens per
    second of the reply and of the prompt, before (with the usual settings) and with these. `tuned_at` is seconds since
    the epoch.
    """

    loader: str
    parameters: Mapping[str, Any] = field(default_factory=dict)
    gain: float | None = 1.0
    usual_loader: str = ""
    usual: Mapping[str, Any] = field(default_factory=dict)
    """What the changed parameters were before."""
    reply_before: float | None = None
    reply: float | None = None
    prompt_before: float | None = None
    prompt: float | None = None
    tuned_at: float = 0.0


class Tuned:
    """`FileNotes` of one setting for each loader: the same promises, threads and constructor. Never raises."""

    def __init__(self, path: Path | None, machine: Callable[[], str], gpus: Callable[[], str] = lambda: "") -> None:
        self._notes = FileNotes(
            path, machine, subject="The best settings found", sound=_sound, most_files=MOST_FILES, gpus=gpus
        )

    def of(self, facts: ModelFacts, versions: Mapping[str, str | None]) -> dict[str, TunedSetting]:
        """The settings found for `facts`, by loader, with the engines of these `versions`."""
        return {content["loader"]: TunedSetting(**content) for content in self._notes.of(facts, versions)}

    def keep(self, facts: ModelFacts, version: str | None, found: TunedSetting) -> None:
        """Keep `found` in place of what was found before for its loader. `version` is the engine's."""
        self._notes.change(facts, found.loader, version, lambda before: [plain(asdict(found))])

    def forget(self, facts: ModelFacts) -> None:
        """From now on, `facts` is loaded with the usual settings again."""
        self._notes.forget(facts)


def _sound(content: dict[str, Any]) -> bool:
    return isinstance(TunedSetting(**content).parameters, dict)
