"""What was learnt about loading a file here: which attempts worked and which failed, and why.

An entry holds as long as the file (path, size and time of change of each of its parts), the machine and the engine's
version are the same; after that it is forgotten. Kept in one JSON file that may be deleted at any time.
"""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from webui.files import write_atomically
from webui.models.facts import ModelFacts
from webui.planning.recovery import Known

log = logging.getLogger(__name__)

FORMAT_VERSION = 1
MOST_FILES = 200
MOST_PER_FILE = 30

Entry = dict[str, Any]
"""`files` (the identity), `machine`, `version` (of the engine) and the fields of `Known`."""


class Experience:
    """Entries by the model's path. With `path` None they are kept in memory alone. Never raises.

    `machine` names the machine as far as engines care; it is asked at the first use and may take a moment. Methods
    read and write files: call them in a thread. They may be called from several.
    """

    def __init__(self, path: Path | None, machine: Callable[[], str]) -> None:
        self._path = path
        self._ask_machine = machine
        self._machine: str | None = None
        self._lock = threading.Lock()
        self._entries: dict[str, list[Entry]] = {}
        self._ahead = path is None
        """What is in memory is newer than the file, since that could not be written, or there is none."""

    def recall(self, facts: ModelFacts, versions: Mapping[str, str | None]) -> tuple[Known, ...]:
        """What is known of `facts` with the engines of these `versions` (by loader), oldest first.

        Entries that no longer hold are dropped for good; those of loaders that `versions` leaves out stay, unmentioned.
        """
        identity = _identity(facts)
        with self._lock:
            entries = self._read()
            mine = entries.get(str(facts.path), [])
            holding = [entry for entry in mine if self._holds(entry, identity, versions)]
            if len(holding) < len(mine):
                self._replace(entries, facts, holding)
            return tuple(_known(entry) for entry in holding if entry["known"]["loader"] in versions)

    def remember(self, facts: ModelFacts, version: str | None, known: Known) -> None:
        """Keep how an attempt ended, in place of what was kept of the same attempt. `version` is the engine's."""
        entry: Entry = {
            "files": _identity(facts),
            "machine": self._this_machine(),
            "version": version,
            "known": json.loads(json.dumps(asdict(known), default=str)),
        }
        with self._lock:
            entries = self._read()
            others = [one for one in entries.get(str(facts.path), []) if not _same_attempt(one, entry)]
            self._replace(entries, facts, [*others, entry][-MOST_PER_FILE:])

    def forget(self, facts: ModelFacts) -> None:
        """Drop everything known of `facts`."""
        with self._lock:
            entries = self._read()
            if str(facts.path) in entries:
                self._replace(entries, facts, [])

    def _holds(self, entry: Entry, identity: list[list[Any]], versions: Mapping[str, str | None]) -> bool:
        loader = entry["known"]["loader"]
        same_engine = loader not in versions or versions[loader] == entry["version"]
        return bool(same_engine and entry["files"] == identity and entry["machine"] == self._this_machine())

    def _this_machine(self) -> str:
        if self._machine is None:
            self._machine = self._ask_machine()
        return self._machine

    def _replace(self, entries: dict[str, list[Entry]], facts: ModelFacts, mine: list[Entry]) -> None:
        """Put `mine` in the place of what is kept of `facts`, throw away the oldest files, and write."""
        entries.pop(str(facts.path), None)
        if mine:
            entries[str(facts.path)] = mine  # at the end: the latest
        for path in list(entries)[: max(0, len(entries) - MOST_FILES)]:
            del entries[path]
        self._entries = entries
        if self._path is None:
            return
        try:
            write_atomically(self._path, json.dumps({"version": FORMAT_VERSION, "files": entries}))
            self._ahead = False
        except OSError as error:
            if not self._ahead:
                log.warning("What was learnt about loading is not kept on disk for now: %s", error)
            self._ahead = True

    def _read(self) -> dict[str, list[Entry]]:
        """The entries of the file, which another app may have written to; those in memory where these are newer."""
        if self._path is None or self._ahead:
            return self._entries
        try:
            content = json.loads(self._path.read_bytes())
            if content["version"] != FORMAT_VERSION:
                return {}
            files = content["files"]
            return {str(path): [entry for entry in files[path] if _sound(entry)] for path in files}
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
            log.warning("What was learnt about loading cannot be read, and is begun anew: %s", error)
            return {}


def _identity(facts: ModelFacts) -> list[list[Any]]:
    return [_stamp(file) for file in facts.files]


def _stamp(file: Path) -> list[Any]:
    try:
        status = file.stat()
    except OSError:  # it is gone, or cannot be seen; should it come back, it is another
        return [str(file), -1, -1]
    return [str(file), status.st_size, status.st_mtime_ns]


def _same_attempt(one: Entry, other: Entry) -> bool:
    return all(one["known"][key] == other["known"][key] for key in ("loader", "asked", "parameters"))


def _sound(entry: Any) -> bool:
    """Whether `entry` is what `remember` writes."""
    try:
        _known(entry)
    except (KeyError, TypeError):
        return False
    return {"files", "machine", "version"} <= entry.keys() and isinstance(entry["known"]["loader"], str)


def _known(entry: Entry) -> Known:
    return Known(**entry["known"])
