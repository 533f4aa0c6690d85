"""A llamafile with weights inside: an executable that is also a ZIP with `.args` and a GGUF, stored uncompressed."""

from __future__ import annotations

import errno
import struct
import zipfile
import zlib
from itertools import pairwise
from pathlib import Path
from typing import BinaryIO

from webui.errors import CorruptFile, UnsupportedFormat
from webui.models.facts import ModelFacts, ModelFormat
from webui.models.gguf import read_header
from webui.models.gguf_facts import LOOK_UP, facts_from_headers

EXECUTABLE_MAGICS = (b"MZ", b"\x7fELF", b"\xcf\xfa\xed\xfe", b"#!")
"""Actually portable executables and Windows programs, Linux, macOS, and scripts."""
LOCAL_HEADER = struct.Struct("<4s22xHH")
LOCAL_MAGIC = b"PK\x03\x04"
LARGEST_ARGUMENTS = 1 << 16


def is_executable(start: bytes) -> bool:
    """Whether a file that begins with `start` is a program, and so may be a llamafile."""
    return start.startswith(EXECUTABLE_MAGICS)


def llamafile_facts(path: Path) -> ModelFacts:
    """Facts of the model inside; raises `UnsupportedFormat` where there is none, `CorruptFile` for a broken ZIP."""
    with path.open("rb") as file:
        try:
            with zipfile.ZipFile(file) as archive:
                member = _member(archive, path)
        except (zipfile.BadZipFile, RuntimeError, ValueError, EOFError, struct.error, zlib.error) as error:
            raise _without_weights(path) from error
        except OSError as error:
            if error.errno != errno.EINVAL:  # a place before the file's beginning
                raise
            raise _misdirected(path) from error
        start = _data_start(file, member, path)
        header = read_header(
            file, member.file_size, label=f"{member.filename} in {path.name}", start=start, look_up=LOOK_UP
        )
    return facts_from_headers(path, [path], [header], model_format=ModelFormat.LLAMAFILE)


def _member(archive: zipfile.ZipFile, path: Path) -> zipfile.ZipInfo:
    """The GGUF that `.args` names behind `-m`, else the largest (a projector is smaller than its model)."""
    members = [member for member in archive.infolist() if member.filename.lower().endswith(".gguf")]
    if not members:
        raise _without_weights(path)
    named = _named_model(archive)
    member = next((item for item in members if item.filename == named), None)
    member = member or max(members, key=lambda item: item.file_size)
    if member.compress_type != zipfile.ZIP_STORED:
        raise UnsupportedFormat(
            f"{path.name} holds its model compressed, and it can only be used in place.",
            hint="Make the llamafile anew with zipalign, as its documentation says.",
        )
    return member


def _named_model(archive: zipfile.ZipFile) -> str | None:
    """The argument behind `-m` or `--model` in `.args`, which holds one argument a line."""
    try:
        info = archive.getinfo(".args")
    except KeyError:
        return None
    if info.file_size > LARGEST_ARGUMENTS:
        return None
    arguments = archive.read(info).decode("utf-8", errors="replace").split("\n")
    for flag, value in pairwise(arguments):
        if flag.strip() in ("-m", "--model"):
            return value.strip().removeprefix("/zip/")
    return None


def _data_start(file: BinaryIO, member: zipfile.ZipInfo, path: Path) -> int:
    """Where the member's bytes begin: behind its local header, whose extra field differs from the directory's."""
    if member.header_offset < 0:
        raise _misdirected(path)
    file.seek(member.header_offset)
    raw = file.read(LOCAL_HEADER.size)
    if len(raw) < LOCAL_HEADER.size or raw[:4] != LOCAL_MAGIC:
        raise _misdirected(path)
    _, name_length, extra_length = LOCAL_HEADER.unpack(raw)
    start = member.header_offset + LOCAL_HEADER.size + int(name_length) + int(extra_length)
    if start + member.file_size > path.stat().st_size:
        raise CorruptFile(f"{path.name} is incomplete: the model inside is longer than the file.")
    return start


def _misdirected(path: Path) -> CorruptFile:
    return CorruptFile(f"{path.name} is damaged: its archive's directory points to nowhere.")


def _without_weights(path: Path) -> UnsupportedFormat:
    return UnsupportedFormat(
        f"{path.name} is a program without a model inside.",
        hint="If it is a llamafile, choose a GGUF file and the loader llamafile, which runs it.",
    )
