"""What was learnt about loading a file here: which attempts worked and which failed, and why."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path

from webui.models.facts import ModelFacts
from webui.planning.recovery import Known
from webui.pool.notes import Content, FileNotes, plain

MOST_FILES = 200
MOST_PER_LOADER = 20


class Experience:
    """`FileNotes` of attempts at loading: the same promises, threads and arguments. Never raises."""

    def __init__(self, path: Path | None, machine: Callable[[], str], gpus: Callable[[], str] = lambda: "") -> None:
        self._notes = FileNotes(
            path, machine, subject="What was learnt about loading", sound=_sound, most_files=MOST_FILES, gpus=gpus
        )

    def recall(self, facts: ModelFacts, versions: Mapping[str, str | None]) -> tuple[Known, ...]:
        """What is known of `facts` with the engines of these `versions` (by loader), oldest first of each loader."""
        return tuple(Known(**content) for content in self._notes.of(facts, versions))

    def remember(self, facts: ModelFacts, version: str | None, known: Known) -> None:
        """Keep how an attempt ended, in place of what was kept of the same attempt. `version` is the engine's."""
        new = plain(asdict(known))

        def change(before: list[Content]) -> list[Content]:
            return [*(one for one in before if not _same_attempt(one, new)), new][-MOST_PER_LOADER:]

        self._notes.change(facts, known.loader, version, change)

    def forget(self, facts: ModelFacts) -> None:
        """Drop everything known of `facts`."""
        self._notes.forget(facts)


def _same_attempt(one: Content, other: Content) -> bool:
    return all(one[key] == other[key] for key in ("loader", "asked", "parameters"))


def _sound(content: Content) -> bool:
    return bool(Known(**content))
