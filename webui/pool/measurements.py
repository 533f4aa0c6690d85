"""How fast loaders ran each model here: what benchmarks, trials of settings and replies measured."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from pathlib import Path

from webui.models.facts import ModelFacts
from webui.planning.speed import Speed
from webui.pool.notes import Content, FileNotes, plain

__all__ = ["Measurements", "Speed"]

MOST_FILES = 200
MOST_PER_LOADER = 40
RECENT_REPLIES = 9
SHALLOW = 2048
"""Replies that begin with fewer tokens than this in the context count as equally deep; beyond, depth doubles."""


class Measurements:
    """`FileNotes` of speeds: the same promises, threads and arguments. Never raises."""

    def __init__(self, path: Path | None, machine: Callable[[], str], gpus: Callable[[], str] = lambda: "") -> None:
        self._notes = FileNotes(
            path, machine, subject="What was measured", sound=_sound, most_files=MOST_FILES, gpus=gpus
        )

    def of(self, facts: ModelFacts, versions: Mapping[str, str | None]) -> tuple[Speed, ...]:
        """What was measured of `facts` with the engines of these `versions` (by loader), oldest first of each loader.

        What was measured with another file under that name, on another machine or with another version is forgotten.
        """
        return tuple(_speed(content) for content in self._notes.of(facts, versions))

    def add(self, facts: ModelFacts, version: str | None, speed: Speed) -> None:
        """Keep `speed` in place of an earlier one of the same loader, parameters, depth and source.

        A reply's is added to those of about its depth, and their median is kept. `version` is the engine's, as the
        loader's `availability` tells it.
        """
        if speed.source == "reply":
            speed = replace(speed, depth=about(speed.depth), recent=(speed.tokens_per_second,))

        def change(before: list[Content]) -> list[Content]:
            new = plain(asdict(speed))
            same = [one for one in before if _same_setting(one, new)]
            if speed.source == "reply" and same:
                new = plain(asdict(_with_earlier(speed, _speed(same[-1]))))
            return [*(one for one in before if one not in same), new][-MOST_PER_LOADER:]

        self._notes.change(facts, speed.loader, version, change)

    def forget(self, facts: ModelFacts) -> None:
        """Drop everything measured of `facts`."""
        self._notes.forget(facts)


def about(depth: int) -> int:
    """The least depth that counts as equal to `depth` for replies: 0, 2,048, 4,096, 8,192 …"""
    return 0 if depth < SHALLOW else 1 << (depth.bit_length() - 1)


def _with_earlier(speed: Speed, earlier: Speed) -> Speed:
    """The newest speeds with the median of the latest replies; what this reply did not tell stays as it was told."""
    recent = (*earlier.recent, *speed.recent)[-RECENT_REPLIES:]
    prompt = speed.prompt_tokens_per_second
    return replace(
        speed,
        tokens_per_second=statistics.median(recent),
        prompt_tokens_per_second=earlier.prompt_tokens_per_second if prompt is None else prompt,
        recent=recent,
    )


def _same_setting(one: Content, other: Content) -> bool:
    return all(one[key] == other[key] for key in ("parameters", "depth", "source"))


def _speed(content: Content) -> Speed:
    return Speed(**{**content, "recent": tuple(content["recent"])})


def _sound(content: Content) -> bool:
    speed = _speed(content)
    return isinstance(speed.parameters, dict) and speed.tokens_per_second > 0
