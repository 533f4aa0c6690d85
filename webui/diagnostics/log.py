"""The app's own log: a ring in memory for the Diagnostics tab, and a file that rotates. Secrets never enter either."""

from __future__ import annotations

import contextlib
import logging
import re
import sys
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


class _LogFile(RotatingFileHandler):
    """The log on the disk. A full disk costs it its lines, and nobody's screen fills with reports of that."""

    def __init__(self, path: Path, buffer: LogBuffer) -> None:
        super().__init__(path, maxBytes=FILE_BYTES, backupCount=FILE_COUNT, encoding="utf-8", delay=True)
        self.setFormatter(_Redacting("%(asctime)s %(levelname)s %(name)s: %(message)s"))
        self._buffer = buffer
        self._told = ""

    def handleError(self, record: logging.LogRecord) -> None:
        """Tell the buffer of a failure of the disk, once for each kind."""
        error = sys.exc_info()[1]
        if not isinstance(error, OSError):
            super().handleError(record)
        elif self._told != (reason := error.strerror or str(error)):
            self._told = reason
            _tell(self._buffer, "The log is not written to the disk for now: %s", reason)

    def close(self) -> None:
        with contextlib.suppress(OSError):  # the last lines, for which there is no room: told when they came
            super().close()


def _tell(buffer: LogBuffer, text: str, *values: object) -> None:
    """A line for the buffer alone, where the file cannot be written."""
    buffer.handle(logging.LogRecord("webui", logging.WARNING, __file__, 0, text, values, None))


def start_logging(folder: Path, *, debug: bool) -> LogBuffer:
    """Send the app's log to a new buffer and to `folder`/app.log; `stop_logging` undoes it."""
    root = logging.getLogger("webui")
    set_debug(debug)
    buffer = LogBuffer()
    handlers: list[logging.Handler] = [buffer]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handlers.append(_LogFile(folder / "app.log", buffer))
    except OSError as error:
        # A read-only home must not keep the app from running; the buffer tells of it.
        _tell(buffer, "No log file: %s", error)
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
