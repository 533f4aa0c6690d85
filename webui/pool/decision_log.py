"""What the last loads were decided from, so that their ladders can be decided again somewhere else (support bundles).

Nothing of the app depends on it: the file may be deleted at any time, and a disk that is full costs the copy alone.
"""

from __future__ import annotations

import asyncio
import json
import logging
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from webui.files import write_atomically
from webui.planning.decisions import Decision, decisions_to_dict, plain
from webui.pool.status import LoadStory

log = logging.getLogger(__name__)

FORMAT_VERSION = 1
LATEST = 2
"""Loads that are kept however they ended."""
TROUBLED = 6
"""Loads that are kept of those that failed, or needed more than one step."""
LARGEST_FILE = 32 * 1024 * 1024

Entry = dict[str, Any]
"""`model`, `cause`, `at`, `outcome`, `loader`, `asked_loader` and `parameters` of a load, and its `climbs`."""


class DecisionLog:
    """`note` and `close` belong to the event loop, `latest` to any thread. With `path` None, memory alone."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._entries: list[Entry] | None = None if path is not None else []
        self._keeping: set[asyncio.Task[None]] = set()

    def note(self, story: LoadStory, parameters: Mapping[str, Any], climbs: Sequence[Sequence[Decision]]) -> None:
        """Keep what `story` came from. The decisions hold on to nothing that changes: they are written beside."""
        if not climbs:
            return
        task = asyncio.create_task(asyncio.to_thread(self._add, story, dict(parameters), climbs))
        self._keeping.add(task)
        task.add_done_callback(self._kept)

    async def close(self) -> None:
        """Return when nothing is being written any more."""
        if self._keeping:
            await asyncio.wait(self._keeping)

    def latest(self) -> list[Entry]:
        """The loads that are kept, newest first. Reads a file."""
        with self._lock:
            return list(reversed(self._read()))

    def _add(self, story: LoadStory, parameters: dict[str, Any], climbs: Sequence[Sequence[Decision]]) -> None:
        entry = {
            "model": story.model,
            "cause": story.cause,
            "at": story.at,
            "outcome": story.outcome,
            "loader": story.loader,
            "asked_loader": story.asked_loader,
            "parameters": plain(parameters),
            "troubled": story.outcome == "failed" or len(story.rungs) > 1,
            "climbs": [decisions_to_dict(climb) for climb in climbs],
        }
        with self._lock:
            self._entries = _bounded([*self._read(), entry])
            if self._path is None:
                return
            try:
                text = json.dumps({"version": FORMAT_VERSION, "loads": self._entries})
                write_atomically(self._path, text, private=True)
            except OSError as error:
                log.warning("What a load was decided from is not kept on disk: %s", error)

    def _read(self) -> list[Entry]:
        if self._entries is None:
            self._entries = _from_file(self._path) if self._path is not None else []
        return self._entries

    def _kept(self, task: asyncio.Task[None]) -> None:
        self._keeping.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("What a load was decided from could not be kept", exc_info=error)


def _bounded(entries: Sequence[Entry]) -> list[Entry]:
    """The latest of each kind, in the order of time."""
    kept = {id(one) for one in entries[-LATEST:]}
    kept |= {id(one) for one in [one for one in entries if one["troubled"]][-TROUBLED:]}
    return [one for one in entries if id(one) in kept]


def _from_file(path: Path) -> list[Entry]:
    """What was kept; nothing where it cannot be read, which costs only what it could have told."""
    try:
        if path.stat().st_size > LARGEST_FILE:
            return []
        content = json.loads(path.read_bytes())
        entries = content["loads"] if content["version"] == FORMAT_VERSION else []
        return [entry for entry in entries if isinstance(entry["troubled"], bool) and isinstance(entry["climbs"], list)]
    except FileNotFoundError:
        return []
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        log.warning("What earlier loads were decided from cannot be read: %s", error)
        return []
