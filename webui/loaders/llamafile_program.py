"""The executable behind the llamafile loader: where it is, how it is started, which generation it is, what it takes.

A program is asked, never guessed at: `--version` says whose it is, its help which flags it has. What is said with those
flags is `webui.loaders.llamafile_flags`'s business.
"""

from __future__ import annotations

import errno
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from webui.errors import AppError, BrokenPackage, MissingPackage, TimedOut
from webui.loaders.llama_server import Dialect
from webui.models.facts import ModelFacts, ModelFormat
from webui.paths import Paths

VARIABLE = "GGUF_LLAMAFILE"
"""Environment variable that names the executable to use."""

NAMES = ("llamafile", "llama-server")
PROBE_SECONDS = 60.0
"""A llamafile of several gigabytes may be read by a virus scanner before its first run."""

VERSION_SECONDS = 5.0
"""For what is only looked at: a program that is slower to say its version has none, until the app is started again."""

APE_MAGIC = (b"MZqFpD", b"jartsr", b"APEDBG")
"""Beginnings of an "actually portable executable", which a Unix shell can run where the kernel cannot."""

_VERSION = re.compile(r"(?:llamafile(?:r)?\s+v?|version:\s*)(\d[\w.]*)", re.IGNORECASE)
_FLAG = re.compile(r"--?[A-Za-z][\w-]*")
_PLACEHOLDER = re.compile(r"[A-Z0-9_.:|/=-]+$|[<\[{(]")
"""A word that stands for a flag's value: FNAME, N, <file>, [on|off|auto]."""
_OVERSTRIKE = re.compile(r".\x08")


@dataclass(frozen=True, slots=True)
class Program:
    """An executable that was asked. `start` are the words that run it, `flags` all its help lists."""

    path: Path
    start: tuple[str, ...]
    version: str
    is_llamafile: bool
    dialect: Dialect
    flags: frozenset[str]
    help: str

    def has(self, *names: str) -> str | None:
        """The first of `names` that the help lists."""
        return next((name for name in names if name in self.flags), None)

    def takes_value(self, name: str) -> bool:
        """Whether the help shows a word for a value behind flag `name`, on its own line."""
        for line in self.help.splitlines():
            found = re.search(rf"(?<![\w-]){re.escape(name)}(?![\w-])(?P<rest>.*)", line)
            if found:
                rest = re.sub(r"^(?:,\s*--?[\w-]+)+", "", found["rest"])
                return bool(re.match(r",?[ =](?:[A-Z<\[{]|on\b|\w+\|)", rest))
        return False


def find_program(
    configured: str = "", facts: ModelFacts | None = None, environment: Mapping[str, str] | None = None
) -> Path:
    """The executable to use; raises `MissingPackage` if there is none.

    In this order: the configured path, the model itself if it is a llamafile, `$GGUF_LLAMAFILE`, the app's `bin`
    folder, the search path.
    """
    environment = os.environ if environment is None else environment
    if configured.strip():
        path = Path(configured.strip()).expanduser()
        if path.is_file():
            return path
        raise MissingPackage(f"The configured executable {path} does not exist.", hint="Correct its path.")
    if facts is not None and facts.format is ModelFormat.LLAMAFILE:
        return facts.path
    named = environment.get(VARIABLE, "").strip()
    if named:
        path = Path(named).expanduser()
        if path.is_file():
            return path
        raise MissingPackage(f"{VARIABLE} names {path}, which does not exist.", hint=f"Correct {VARIABLE}.")
    folder = Paths.from_environment(environment).bin
    if os.access(folder, os.R_OK | os.X_OK) and folder.is_dir():  # a folder that is closed to us holds nothing for us
        inside = sorted(folder.iterdir())
        for name in NAMES:
            for path in inside:
                if path.is_file() and path.name.startswith(name):
                    return path
    if (on_path := _on_search_path(environment)) is not None:
        return on_path
    raise MissingPackage(
        "There is no llamafile and no llama-server executable here.",
        hint=f"Put one into {folder}, or name it with {VARIABLE}.",
    )


def version_of(path: Path) -> str | None:
    """What the executable that was found at `path` calls its version; it is asked once, until the file changes.

    Only one that was put there for this app is run for so little: named by `$GGUF_LLAMAFILE` or by a setting and called
    as these programs are, or in the app's `bin` folder. A program of the search path or a model is not.
    """
    named = os.environ.get(VARIABLE, "").strip()
    chosen = bool(named) and path == Path(named).expanduser()
    if not chosen and (not path.name.startswith(NAMES) or path == _on_search_path(os.environ)):
        return None
    try:
        state = path.stat()
    except OSError:
        return None
    return _told(path, state.st_size, state.st_mtime_ns)


@lru_cache(maxsize=16)
def _told(path: Path, size: int, changed: int) -> str | None:
    """The version that the file of this state tells; None where it does not run, or not in time."""
    try:
        _, said = _first_words(path, VERSION_SECONDS)
    except (AppError, OSError):
        return None
    found = _VERSION.search(said)
    return found[1] if found else None


def _on_search_path(environment: Mapping[str, str]) -> Path | None:
    found = (shutil.which(name, path=environment.get("PATH")) for name in NAMES)
    return next((Path(path) for path in found if path), None)


def probe(path: Path, *, prefer_v2: bool = False) -> Program:
    """Ask the executable at `path` what it is. Raises `BrokenPackage` if it does not run, `TimedOut` if it hangs."""
    start, said = _first_words(path)
    is_llamafile = "llamafile" in said.lower()
    found = _VERSION.search(said)
    version = found[1] if found else "unknown"
    if not is_llamafile:
        text = _listen([*start, "--help"])
        return Program(path, start, version, False, Dialect.UPSTREAM, _flags(text), text)
    generation = _generation(version)
    text = _listen([*start, "--server", "--help"])
    if generation is Dialect.V1 and (prefer_v2 or "--port" not in _flags(text)):
        second = _listen([*start, "--server", "--v2", "--help"])
        if {"--listen", "-l"} & _flags(second):
            return Program(path, start, version, True, Dialect.V2, _flags(second), second)
    return Program(path, start, version, True, generation, _flags(text), text)


def _generation(version: str) -> Dialect:
    numbers = [int(part) for part in re.findall(r"\d+", version)[:2]]
    return Dialect.V1 if len(numbers) == 2 and tuple(numbers) < (0, 10) else Dialect.UPSTREAM


def _flags(text: str) -> frozenset[str]:
    """The flags a help lists: those at the beginnings of lines, before the description. Prose does not count."""
    named: set[str] = set()
    for line in text.splitlines():
        for word in re.split(r"[\s,]+", line.strip()):
            if found := _FLAG.fullmatch(word):
                named.add(found[0])
            elif not _PLACEHOLDER.match(word):
                break
    return frozenset(named)


def _first_words(path: Path, seconds: float = PROBE_SECONDS) -> tuple[tuple[str, ...], str]:
    """How to start the program, and what it says to `--version`."""
    try:
        said = _listen([str(path), "--version"], seconds)
    except OSError as error:
        if error.errno not in (errno.ENOEXEC, errno.EACCES) or not _shell_can_run(path):
            raise BrokenPackage(
                f"{path.name} cannot be run: {error.strerror}.",
                cause="the system refused to start it",
                hint=f"Make it executable: chmod +x {path}" if error.errno == errno.EACCES else "",
            ) from error
        said = "run-detectors"
    if "run-detectors" in said and os.name == "posix":
        # The kernel handed the file to a loader that does not know it (or to none); the shell knows how to unpack it.
        return ("sh", str(path)), _listen(["sh", str(path), "--version"], seconds)
    if not said.strip():
        raise BrokenPackage(f"{path.name} does not say its version, so it is no llamafile and no llama-server.")
    return (str(path),), said


def _shell_can_run(path: Path) -> bool:
    with path.open("rb") as file:
        return os.name == "posix" and file.read(6) in APE_MAGIC


def _listen(command: list[str], seconds: float = PROBE_SECONDS) -> str:
    """Both outputs of a program that ends by itself. Raises `OSError` if it does not start."""
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=seconds,
            check=False,
            creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0) if sys.platform == "win32" else 0,
        )
    except subprocess.TimeoutExpired as error:
        raise TimedOut(
            f"{Path(command[0]).name} did not answer {command[-1]} within {seconds:.0f} s.",
            hint="Check that it is a llamafile or a llama-server.",
        ) from error
    # Manual pages print bold as a letter, a backspace and the letter again.
    return _OVERSTRIKE.sub("", done.stdout.decode("utf-8", "replace"))
