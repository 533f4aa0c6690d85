"""Notes about model files that hold as long as file, machine and engine are the same, kept in one JSON file.

The file may be deleted at any time. What a note says is its owner's business: see `experience` and `measurements`.
"""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from webui.files import write_atomically
from webui.models.facts import ModelFacts

log = logging.getLogger(__name__)

FORMAT_VERSION = 1

Content = dict[str, Any]
"""A note itself: plain JSON types, `loader` among them."""
Entry = dict[str, Any]
"""`files` (the identity of the model), `machine`, `version` (of the engine), `gpus` and `known` (the content)."""
Change = Callable[[list[Content]], list[Content]]


class FileNotes:
    """Notes by the model's path, oldest first. With `path` None they are kept in memory alone. Never raises.

    `subject` begins the sentences of the log. `machine` names the machine as far as engines care; it is asked at the
    first use and may take a moment. `gpus` names the choice of GPUs that holds now: notes that were made with another
    choice are kept and say nothing meanwhile. `sound` tells a usable content; it may raise `KeyError` or `TypeError`
    for others.
    Methods read and write files: call them in a thread. They may be called from several.
    """

    def __init__(
        self,
        path: Path | None,
        machine: Callable[[], str],
        *,
        subject: str,
        sound: Callable[[Content], bool],
        most_files: int,
        gpus: Callable[[], str] = lambda: "",
    ) -> None:
        self._path = path
        self._ask_machine = machine
        self._machine: str | None = None
        self._subject = subject
        self._sound = sound
        self._most_files = most_files
        self._gpus = gpus
        self._lock = threading.Lock()
        self._entries: dict[str, list[Entry]] = {}
        self._ahead = path is None
        """What is in memory is newer than the file, since that could not be written, or there is none."""
        self._seen: tuple[int, int, int] | None = None
        """Which state of the file is in memory."""

    def of(self, facts: ModelFacts, versions: Mapping[str, str | None]) -> list[Content]:
        """What is noted of `facts` for the engines of these `versions` (by loader), oldest first.

        Notes that no longer hold are dropped for good; those of loaders that `versions` leaves out stay, unmentioned.
        """
        with self._lock:
            entries = self._read()
            mine = entries.get(str(facts.path), [])
            identity = _identity(facts) if mine else []
            holding = [entry for entry in mine if self._holds(entry, identity, versions)]
            if len(holding) < len(mine):
                self._replace(entries, facts, holding)
            gpus = self._gpus() if holding else ""
            now = [entry["known"] for entry in holding if entry.get("gpus", "") == gpus]
            return [known for known in now if known["loader"] in versions]

    def change(self, facts: ModelFacts, loader: str, version: str | None, change: Change) -> None:
        """Put what `change` makes of the notes of `loader` about `facts` that hold in their place, as the latest."""
        identity, gpus = _identity(facts), self._gpus()
        stamp = {"files": identity, "machine": self._this_machine(), "version": version, "gpus": gpus}

        def concerned(entry: Entry) -> bool:
            return bool(entry["known"]["loader"] == loader and entry.get("gpus", "") == gpus)

        with self._lock:
            entries = self._read()
            mine = entries.get(str(facts.path), [])
            others = [entry for entry in mine if not concerned(entry)]
            holding = [entry for entry in mine if self._holds(entry, identity, {loader: version})]
            before = [entry["known"] for entry in holding if concerned(entry)]
            self._replace(entries, facts, [*others, *({**stamp, "known": known} for known in change(before))])

    def forget(self, facts: ModelFacts) -> None:
        """Drop everything noted of `facts`."""
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
        entries = {path: kept for path, kept in entries.items() if path != str(facts.path)}
        if mine:
            entries[str(facts.path)] = mine  # at the end: the latest
        for path in list(entries)[: max(0, len(entries) - self._most_files)]:
            del entries[path]
        self._entries, self._seen = entries, None
        if self._path is None:
            return
        try:
            write_atomically(self._path, json.dumps({"version": FORMAT_VERSION, "files": entries}))
            self._ahead = False
        except OSError as error:
            if not self._ahead:
                log.warning("%s is not kept on disk for now: %s", self._subject, error)
            self._ahead = True

    def _read(self) -> dict[str, list[Entry]]:
        """The entries of the file, which another app may have written to; those in memory where these are newer."""
        if self._path is None or self._ahead:
            return self._entries
        try:
            status = self._path.stat()
            state = (status.st_ino, status.st_size, status.st_mtime_ns)
            if state != self._seen:
                self._entries, self._seen = self._parsed(json.loads(self._path.read_bytes())), state
            return self._entries
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
            log.warning("%s cannot be read, and is begun anew: %s", self._subject, error)
            return {}

    def _parsed(self, content: Any) -> dict[str, list[Entry]]:
        if content["version"] != FORMAT_VERSION:
            return {}
        files = content["files"]
        return {str(path): [entry for entry in files[path] if self._usable(entry)] for path in files}

    def _usable(self, entry: Any) -> bool:
        try:
            whole = {"files", "machine", "version"} <= entry.keys() and isinstance(entry["known"]["loader"], str)
            return whole and self._sound(entry["known"])
        except (AttributeError, KeyError, TypeError, ValueError):
            return False


def plain(content: Mapping[str, Any]) -> Content:
    """`content` as plain JSON types; what is none of them becomes text."""
    known: Content = json.loads(json.dumps(content, default=str))
    return known


def _identity(facts: ModelFacts) -> list[list[Any]]:
    return [_stamp(file) for file in facts.files]


def _stamp(file: Path) -> list[Any]:
    try:
        status = file.stat()
    except OSError:  # it is gone, or cannot be seen; should it come back, it is another
        return [str(file), -1, -1]
    return [str(file), status.st_size, status.st_mtime_ns]
