"""What loads really took, beside what was planned for them: the next plan of the same model is corrected by it."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from webui.models.facts import ModelFacts
from webui.planning.plan import CPU, Measured
from webui.pool.notes import Content, FileNotes, plain

MOST_FILES = 200
MOST_PER_LOADER = 12
WHOLE_BATCH = 512
"""A load that has not read a prompt of this many tokens has not used all that was planned for it."""


class PlanRecords:
    """`FileNotes` of planned and measured bytes by device: the same promises, threads and constructor. Never raises."""

    def __init__(self, path: Path | None, machine: Callable[[], str]) -> None:
        self._notes = FileNotes(path, machine, subject="What loads took", sound=_sound, most_files=MOST_FILES)

    def add(
        self,
        facts: ModelFacts,
        version: str | None,
        *,
        loader: str,
        parameters: Mapping[str, Any],
        planned: Mapping[str, int],
        measured: Measured,
        used_tokens: int,
    ) -> None:
        """Keep what a load took, in place of an earlier one with the same parameters. `planned` is without correction.

        `used_tokens` is the longest conversation the model has had meanwhile.
        """
        new = plain(
            {
                "loader": loader,
                "parameters": dict(parameters),
                "planned": dict(planned),
                "measured": dict(measured.devices),
                "at": measured.at,
                "used_tokens": used_tokens,
            }
        )

        def change(before: list[Content]) -> list[Content]:
            others = [one for one in before if one["parameters"] != new["parameters"]]
            return [*others, new][-MOST_PER_LOADER:]

        self._notes.change(facts, loader, version, change)

    def measured(
        self, facts: ModelFacts, loader: str, version: str | None, parameters: Mapping[str, Any]
    ) -> Measured | None:
        """What the last load with just these parameters took."""
        wanted = plain(dict(parameters))
        for one in reversed(self._of(facts, loader, version)):
            if one["parameters"] == wanted:
                return Measured(one["measured"], one["at"])
        return None

    def correction(self, facts: ModelFacts, loader: str, version: str | None) -> int:
        """Bytes of the machine's own memory that loads of this model took beyond the plan, in the median; 0 where no
        load is known that has been used to the full.
        """
        errors = [
            one["measured"][CPU] - one["planned"][CPU]
            for one in self._of(facts, loader, version)
            if one["used_tokens"] >= WHOLE_BATCH and CPU in one["measured"] and CPU in one["planned"]
        ]
        return int(statistics.median(errors)) if errors else 0

    def _of(self, facts: ModelFacts, loader: str, version: str | None) -> list[Content]:
        return self._notes.of(facts, {loader: version})


def _sound(content: Content) -> bool:
    sums = [*content["planned"].values(), *content["measured"].values(), content["used_tokens"]]
    return isinstance(content["parameters"], dict) and all(isinstance(one, int) for one in sums)
