"""Whether the weights in a GGUF file are what was published, and are numbers at all.

A header can be in order over weights that were damaged on the way or on the disk. Where a checksum is known (a list
beside the file, or one the app ships) the whole file is read and compared; without one, samples of each tensor are
searched for values that no weight has: "not a number" and infinity, in plain floats or in the scales of quantised
blocks.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from webui.errors import CorruptFile
from webui.models.facts import ModelFacts, ModelFormat
from webui.models.ggml_types import TENSOR_TYPES
from webui.models.gguf import GgufHeader, TensorInfo, read_header

BLOCK_BYTES = 1 << 22
WHOLE_BYTES = 1 << 18
"""Tensors up to this size are read whole."""
SAMPLE_BYTES = 1 << 15
SAMPLES = 8
LARGEST_LIST = 1 << 20
LISTS = ("SHA256SUMS", "sha256sums.txt", "SHA256SUMS.txt")
DIGEST = re.compile(r"\b[0-9a-fA-F]{64}\b")

Report = Callable[[str, float], None]
"""Called with what is being looked at and the share that is done."""


class Places(NamedTuple):
    """Where the numbers of one block lie that scale all others: `offsets` of values of the numpy type `kind`."""

    kind: str
    offsets: tuple[int, ...]


_HALF = {
    (0,): (
        "Q4_0",
        "Q5_0",
        "Q8_0",
        "IQ2_XXS",
        "IQ2_XS",
        "IQ3_XXS",
        "IQ1_S",
        "IQ4_NL",
        "IQ3_S",
        "IQ2_S",
        "IQ4_XS",
        "Q1_0",
    ),
    (0, 2): ("Q4_1", "Q5_1", "Q4_K", "Q5_K"),
    (80, 82): ("Q2_K",),
    (108,): ("Q3_K",),
    (208,): ("Q6_K",),
    (52,): ("TQ1_0",),
    (64,): ("TQ2_0",),
}
SCALES: Mapping[str, Places] = {
    **{name: Places("f2", offsets) for offsets, names in _HALF.items() for name in names},
    "Q8_K": Places("f4", (0,)),
    "F64": Places("f8", (0,)),
    "F32": Places("f4", (0,)),
    "F16": Places("f2", (0,)),
    "BF16": Places("bf16", (0,)),
    "MXFP4": Places("e8m0", (0,)),
}
"""Types without an entry have no number that can be none, or one that is packed into others."""
_BYTES = {kind.name: kind.bytes for kind in TENSOR_TYPES.values()}


def check_soundness(facts: ModelFacts, known: Mapping[str, str], report: Report = lambda step, share: None) -> str:
    """Look into all files of a model; returns what was found in order, or raises `CorruptFile`.

    `known` are SHA-256 digests by file name, besides those in a list beside the files.
    """
    sums = {file.name: digest for file in facts.files if (digest := known_digest(file, known))}
    for place, file in enumerate(facts.files):
        done, share = place / len(facts.files), 1 / len(facts.files)
        if (expected := sums.get(file.name)) is not None:
            _compare(file, expected, partial(_pass_on, report, facts.path.name, done, share))
        if facts.format is ModelFormat.GGUF:
            _sample(file)
        report(facts.path.name, done + share)
    if len(sums) == len(facts.files):
        return "its checksum is the published one"
    return "samples of all weights are in order" if facts.format is ModelFormat.GGUF else "its header is in order"


def known_digest(file: Path, known: Mapping[str, str]) -> str | None:
    """The SHA-256 that `file` should have: from `FILE.sha256` or a SHA256SUMS beside it, else from `known`."""
    for beside in (file.with_name(file.name + ".sha256"), *(file.with_name(name) for name in LISTS)):
        for line in _lines(beside):
            digest = DIGEST.search(line)
            named = line[digest.end() :].strip().lstrip("*") if digest else ""
            if digest and (Path(named).name == file.name or (not named and beside.name.startswith(file.name))):
                return digest[0].lower()
    return known.get(file.name)


def damage_in(header: GgufHeader, file: BinaryIO) -> str:
    """The first sampled tensor with a value that no weight has; empty where there is none."""
    order = "<" if header.byte_order == "little" else ">"
    for tensor in header.tensors:
        places = SCALES.get(tensor.type)
        if places is None or tensor.bytes <= 0:
            continue
        for data in _spans(file, header.data_offset, tensor):
            if _bad(data, tensor.type, places, order):
                return tensor.name
    return ""


def _pass_on(report: Report, name: str, done: float, share: float, part: float) -> None:
    report(name, done + part * share)


def _sample(path: Path) -> None:
    size = path.stat().st_size
    with path.open("rb") as file:
        tensor = damage_in(read_header(file, size, label=path.name), file)
    if tensor:
        raise CorruptFile(
            f"{path.name} is damaged: weights in {tensor[:80]} are no numbers.",
            cause="some values are infinite or not a number, which no model is published with",
        )


def _compare(path: Path, expected: str, report: Callable[[float], None]) -> None:
    digest, done, size = hashlib.sha256(), 0, max(1, path.stat().st_size)
    with path.open("rb") as file:
        while block := file.read(BLOCK_BYTES):
            digest.update(block)
            done += len(block)
            report(done / size)
    if digest.hexdigest() != expected:
        raise CorruptFile(
            f"{path.name} is not the file that was published: its checksum is another.",
            cause=f"SHA-256 {digest.hexdigest()} instead of {expected}",
        )


def _spans(file: BinaryIO, start: int, tensor: TensorInfo) -> Iterator[bytes]:
    """The whole of a small tensor; of a large one its beginning, its end and places in between, in whole blocks."""
    block = _BYTES[tensor.type]
    if tensor.bytes <= WHOLE_BYTES:
        file.seek(start + tensor.offset)
        yield file.read(tensor.bytes)
        return
    length = max(block, SAMPLE_BYTES // block * block)
    last = (tensor.bytes - length) // block
    for number in range(SAMPLES):
        file.seek(start + tensor.offset + last * number // (SAMPLES - 1) * block)
        yield file.read(length)


def _bad(data: bytes, kind: str, places: Places, order: str) -> bool:
    import numpy as np

    size = _BYTES[kind]
    blocks: Any = np.frombuffer(data[: len(data) // size * size], dtype=np.uint8).reshape(-1, size)
    for offset in places.offsets:
        if places.kind == "e8m0":
            found = (blocks[:, offset] == 0xFF).any()
        elif places.kind == "bf16":
            words = np.ascontiguousarray(blocks[:, offset : offset + 2]).view(f"{order}u2")
            found = ((words & 0x7F80) == 0x7F80).any()
        else:
            width = int(places.kind[1])
            values = np.ascontiguousarray(blocks[:, offset : offset + width]).view(order + places.kind)
            found = not np.isfinite(values).all()
        if found:
            return True
    return False


def _lines(path: Path) -> Sequence[str]:
    try:
        with path.open("rb") as file:
            return file.read(LARGEST_LIST).decode("utf-8", errors="replace").splitlines()
    except OSError:  # there is no such list
        return ()
