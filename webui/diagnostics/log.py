"""The app's own log: a ring in memory for the Diagnostics tab, and a file that rotates. Secrets never enter either."""

from __future__ import annotations

import logging
import re
from collections import deque
from dataclasses import dataclass
from logging.handlers import RotatingFileHandler
from pathlib import Path

KEPT_LINES = 2000
FILE_BYTES = 2 * 1024 * 1024
FILE_COUNT = 3
SECRET = re.compile(
    r"(?i)(?P<name>(?:authorization[\"'\s:=]+)?bearer\s+|(?:api[-_]?key|password|authorization|auth)[\"'\s]*[:=][\"'\s]*)"
    r"(?P<value>[^\s\"',&]+)"
)


@dataclass(frozen=True, slots=True)
class LogLine:
    """`at` is seconds on the wall clock, `level` the numeric level of `logging`."""

    number: int
    at: float
    level: int
    room: str
    text: str


class LogBuffer(logging.Handler):
    """The last lines of the log, with the numbers to ask for what is new."""

    def __init__(self) -> None:
        super().__init__()
        self._lines: deque[LogLine] = deque(maxlen=KEPT_LINES)
        self._count = 0
        self.companions: list[logging.Handler] = []

    def emit(self, record: logging.LogRecord) -> None:
        text = redact(record.getMessage())
        if record.exc_info and record.exc_info[1] is not None:
            text += f"\n{redact(logging.Formatter().formatException(record.exc_info))}"
        self._count += 1
        self._lines.append(LogLine(self._count, record.created, record.levelno, record.name, text))

    @property
    def count(self) -> int:
        """How many lines there have ever been: unchanged means that nothing is new."""
        return self._count

    def lines(self, level: int = logging.DEBUG, search: str = "") -> list[LogLine]:
        """The kept lines of at least `level` that contain `search` (case does not matter), oldest first."""
        wanted = search.casefold()
        return [
            line
            for line in list(self._lines)
            if line.level >= level and (wanted in line.text.casefold() or wanted in line.room.casefold())
        ]


def redact(text: str) -> str:
    """`text` with the values of keys, passwords and bearer tokens blacked out."""
    return SECRET.sub(lambda match: f"{match['name']}•••", text)


class _Redacting(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return redact(super().format(record))


def start_logging(folder: Path, *, debug: bool) -> LogBuffer:
    """Send the app's log to a new buffer and to `folder`/app.log; `stop_logging` undoes it."""
    root = logging.getLogger("webui")
    set_debug(debug)
    buffer = LogBuffer()
    handlers: list[logging.Handler] = [buffer]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = RotatingFileHandler(
            folder / "app.log", maxBytes=FILE_BYTES, backupCount=FILE_COUNT, encoding="utf-8", delay=True
        )
        file.setFormatter(_Redacting("%(asctime)s %(levelname)s %(name)s: %(message)s"))
        handlers.append(file)
    except OSError as error:
        # A read-only home must not keep the app from running; the buffer tells of it.
        buffer.handle(logging.LogRecord("webui", logging.WARNING, __file__, 0, "No log file: %s", (error,), None))
    for handler in handlers:
        root.addHandler(handler)
    buffer.companions = handlers[1:]
    return buffer


def set_debug(debug: bool) -> None:
    """Log every step from now on, or only what matters."""
    logging.getLogger("webui").setLevel(logging.DEBUG if debug else logging.INFO)


def stop_logging(buffer: LogBuffer) -> None:
    """Take the handlers of `start_logging` away again and close their file."""
    root = logging.getLogger("webui")
    for handler in [buffer, *buffer.companions]:
        root.removeHandler(handler)
        handler.close()
