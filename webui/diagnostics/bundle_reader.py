"""Reading a support bundle, which anybody may have made: bounded, in memory, nothing of it is written anywhere."""

from __future__ import annotations

import hashlib
import json
import math
import re
import struct
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from webui.diagnostics.bundle import FORMAT_VERSION, MANIFEST, REPLAY
from webui.diagnostics.bundle_replay import Answer, decided_again
from webui.errors import AppError, CorruptFile, ModelNotFound
from webui.loaders.contract import LoaderSpec

LARGEST_FILE = 32 << 20
LARGEST_DIRECTORY = 1 << 20
"""Bytes of the ZIP file, and of its list of entries."""
LARGEST_ENTRY = 32 << 20
LARGEST_WHOLE = 96 << 20
MOST_ENTRIES = 64
MOST_VALUES = 2_000_000
DEEPEST = 60
LARGEST_NUMBER = 1 << 60
LARGEST_COUNT = 1 << 16
"""Of layers and heads: planning goes through them one by one."""
MOST_QUESTIONS = 64

_END, _END_64, _END_BYTES, _MOST_COMMENT = b"PK\x05\x06", b"PK\x06\x07", 22, 65_535
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,79}")


@dataclass(frozen=True, slots=True)
class ReadBundle:
    """A bundle that was read. `changed` names files that are not as they were written."""

    app_version: str
    made_at: float
    files: Mapping[str, Any]
    changed: tuple[str, ...] = ()

    def decide_again(self, loaders: Mapping[str, LoaderSpec]) -> list[Answer]:
        """Plans, rankings and ladders, decided again with `loaders`. Raises `CorruptFile` for what cannot be meant."""
        if REPLAY not in self.files:
            raise CorruptFile("The bundle holds nothing to decide again.", hint="It was made while the app was broken.")
        content = self.files[REPLAY]
        try:
            _check_replay(content)
            return decided_again(content, loaders)
        except AppError:
            raise
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError, ArithmeticError, IndexError) as error:
            raise _unsound(f"{type(error).__name__}: {error}") from error


def read_bundle(path: Path) -> ReadBundle:
    """The bundle at `path`. Raises `ModelNotFound`'s kin for no file, and `CorruptFile` for what is no bundle."""
    try:
        with path.open("rb") as stream:
            _check_size(stream, path)
            with zipfile.ZipFile(stream) as archive:
                texts = _texts(archive)
    except FileNotFoundError as error:
        raise ModelNotFound(
            f"{path.name} does not exist.", hint="Name the ZIP file that doctor --bundle wrote."
        ) from error
    except AppError:
        raise
    except OSError as error:
        raise CorruptFile(f"{path.name} cannot be read.", cause=error.strerror or str(error)) from error
    except (
        zipfile.BadZipFile,
        zlib.error,
        EOFError,
        NotImplementedError,
        RuntimeError,
        ValueError,
        struct.error,
    ) as error:
        raise _unsound(str(error)) from error
    files = {name: _parsed(name, text) for name, text in texts.items() if name.endswith(".json")}
    manifest = files.get(MANIFEST)
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT_VERSION:
        raise _unsound(f"it has no {MANIFEST} of a known version")
    return ReadBundle(
        str(manifest.get("app_version", ""))[:80], _number(manifest.get("made_at")), files, _changed(manifest, texts)
    )


def _check_size(stream: BinaryIO, path: Path) -> None:
    """Refuse a file, or a list of entries, that would fill the memory before anything of it is known."""
    size = path.stat().st_size
    if size > LARGEST_FILE:
        raise _unsound(f"it is larger than {LARGEST_FILE >> 20} MiB")
    stream.seek(max(0, size - _END_BYTES - _MOST_COMMENT))
    tail = stream.read()
    place = tail.rfind(_END)
    if place < 0 or len(tail) - place < _END_BYTES:
        raise _unsound("it is no ZIP file")
    directory = int.from_bytes(tail[place + 12 : place + 16], "little")
    if directory > LARGEST_DIRECTORY or _END_64 in tail:
        raise _unsound("its list of files is too long")
    stream.seek(0)


def _texts(archive: zipfile.ZipFile) -> dict[str, bytes]:
    entries = archive.infolist()
    if len(entries) > MOST_ENTRIES:
        raise _unsound(f"it holds more than {MOST_ENTRIES} files")
    found: dict[str, bytes] = {}
    left = LARGEST_WHOLE
    for entry in entries:
        if not _NAME.fullmatch(entry.filename) or entry.filename in found:
            raise _unsound(f"a file in it is called {entry.filename[:80]!r}")
        if entry.flag_bits & 1 or entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise _unsound("it is encrypted, or packed in an unusual way")
        with archive.open(entry) as stream:
            most = min(LARGEST_ENTRY, left)
            content = stream.read(most + 1)
        if len(content) > most:
            raise _unsound("what is in it is too large")
        left -= len(content)
        found[entry.filename] = content
    return found


def _parsed(name: str, text: bytes) -> Any:
    try:
        content = json.loads(text.decode("utf-8"), parse_constant=_no_number)
        return _Cleaner().cleaned(content, DEEPEST)
    except (ValueError, RecursionError) as error:
        raise _unsound(f"{name}: {error}") from error


def _no_number(word: str) -> Any:
    raise ValueError(f"{word} is no number")


class _Cleaner:
    """Checks and copies content: bounded in depth, number and size, its texts fit for any terminal."""

    def __init__(self) -> None:
        self._left = MOST_VALUES

    def cleaned(self, value: Any, depth: int) -> Any:
        self._left -= 1
        if depth < 0 or self._left < 0:
            raise ValueError("it is nested too deeply, or too long")
        if isinstance(value, str):
            return "".join(sign if sign.isprintable() or sign in "\n\t" else " " for sign in value)
        if isinstance(value, dict):
            return {self.cleaned(name, depth): self.cleaned(item, depth - 1) for name, item in value.items()}
        if isinstance(value, list):
            return [self.cleaned(item, depth - 1) for item in value]
        if isinstance(value, int | float) and abs(value) > LARGEST_NUMBER:
            raise ValueError("a number in it is too large")
        return value


def _check_replay(content: Any) -> None:
    """Bound what deciding goes through one by one."""
    for name in ("models", "loads", "facts"):
        if len(content[name]) > MOST_QUESTIONS:
            raise ValueError(f"it holds more than {MOST_QUESTIONS} {name}")
    for facts in content["facts"]:
        for name in ("block_count", "head_count", "head_count_kv", "expert_count"):
            if isinstance(facts.get(name), int) and not 0 <= facts[name] <= LARGEST_COUNT:
                raise ValueError(f"{name} cannot be {facts[name]}")
    for load in content["loads"]:
        if len(load["climbs"]) > MOST_QUESTIONS or any(
            len(one["decisions"]) > MOST_QUESTIONS for one in load["climbs"]
        ):
            raise ValueError("a load in it has too many steps")
    for model in content["models"]:
        if len(model["plans"]) > MOST_QUESTIONS:
            raise ValueError("a model in it has too many plans")


def _changed(manifest: Mapping[str, Any], texts: Mapping[str, bytes]) -> tuple[str, ...]:
    listed = manifest.get("files")
    known = (
        {str(one.get("name")): one.get("sha256") for one in listed if isinstance(one, dict)}
        if isinstance(listed, list)
        else {}
    )
    return tuple(
        name for name, text in texts.items() if name in known and hashlib.sha256(text).hexdigest() != known[name]
    )


def _number(value: Any) -> float:
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else 0.0


def _unsound(cause: str) -> CorruptFile:
    return CorruptFile(
        "This is no support bundle that can be read.",
        cause=cause,
        hint="Make a new one: python3 app.py doctor --bundle FILE.",
    )
