"""Damaged models that are more than one file: transformers directories, and llamafiles with a model inside."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

from tests.builders.gguf import tiny_llama_spm, tiny_llamafile
from tests.builders.transformers_dir import tiny_llama_dir
from tests.faults.mutations import TEMPLATES, WAYS, Case, Source

WEIGHTS = "model.safetensors"
VALUES: tuple[Any, ...] = (
    None,
    True,
    -1,
    0,
    1,
    3,
    2**31,
    2**63,
    10**30,
    1.5,
    1e308,
    "",
    "x" * 100_000,
    "\x1b[2J",
    [],
    {},
)
"""What a number, a name or a list is replaced by."""

Files = dict[str, bytes]


class DirectoryMaker:
    """Damaged transformers directories: bytes, JSON values, and the headers and indexes of the weights."""

    def __init__(self, folder: Path) -> None:
        self._files = {path.name: path.read_bytes() for path in tiny_llama_dir(folder / "tiny").iterdir()}

    def case(self, seed: int, number: int) -> Case:
        draw = Random(f"directory {seed} {number}")
        way = list(DIRECTORY_WAYS)[number % len(DIRECTORY_WAYS)]
        files = dict(self._files)
        DIRECTORY_WAYS[way](files, draw)
        return Case(number, "directory", way, files, ".")


def _file(files: Files, draw: Random) -> str:
    return draw.choice(sorted(files))


def _bits(files: Files, draw: Random) -> None:
    name = _file(files, draw)
    data = bytearray(files[name])
    for _ in range(draw.choice([1, 4, 40])):
        data[draw.randrange(min(len(data), 4000))] ^= 1 << draw.randrange(8)
    files[name] = bytes(data)


def _cut(files: Files, draw: Random) -> None:
    name = _file(files, draw)
    files[name] = files[name][: draw.randrange(len(files[name]))]


def _lost(files: Files, draw: Random) -> None:
    del files[_file(files, draw)]


def _document(name: str) -> Callable[[Files, Random], None]:
    """One value, however deep, replaced or removed."""

    def edit(files: Files, draw: Random) -> None:
        content = json.loads(files[name])
        place = content
        key: Any = draw.choice(sorted(place))
        while isinstance(place[key], dict | list) and place[key] and draw.random() < 0.7:
            place = place[key]
            key = draw.choice(sorted(place)) if isinstance(place, dict) else draw.randrange(len(place))
        if draw.random() < 0.2:
            del place[key]
        else:
            place[key] = draw.choice(VALUES)
        files[name] = json.dumps(content).encode()

    return edit


def _not_an_object(files: Files, draw: Random) -> None:
    name = draw.choice([name for name in sorted(files) if name.endswith(".json")])
    files[name] = draw.choice([b"[]", b"null", b"NaN", b"1", b"[" * 100_000, b"\xff\xfe{}", b"", b'{"a": 1e999}'])


def _template(files: Files, draw: Random) -> None:
    if draw.random() < 0.5:
        files["chat_template.jinja"] = draw.choice(TEMPLATES).encode()
        return
    content = json.loads(files["tokenizer_config.json"])
    content["chat_template"] = draw.choice([*TEMPLATES, [{"name": "default", "template": "x"}], [1], {}, 7])
    files["tokenizer_config.json"] = json.dumps(content).encode()


def _weights_header(files: Files, draw: Random) -> None:
    """The tensor list of the weights: types, shapes and offsets that cannot be."""
    data = files[WEIGHTS]
    (length,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + length])
    entry = header[draw.choice([name for name in sorted(header) if name != "__metadata__"])]
    way = draw.randrange(4)
    if way == 0:
        entry["dtype"] = draw.choice(["F16", "BF16", "I64", "F8_E4M3", "X9", "", 1, None])
    elif way == 1:
        entry["shape"] = draw.choice(
            [[], [0], [-1], [1], [2**62, 2**62], ["a"], entry["shape"][::-1], [*entry["shape"], 2]]
        )
    elif way == 2:
        entry["data_offsets"] = draw.choice([[0, 4], [4, 0], [0, 2**63], [-4, 0], [0], "all", [0, len(data)]])
    else:
        header["__metadata__"] = draw.choice([{}, {"format": "gguf"}, {"format": 1}, [], "x"])
    packed = json.dumps(header).encode()
    files[WEIGHTS] = struct.pack("<Q", len(packed)) + packed + data[8 + length :]


def _weights_length(files: Files, draw: Random) -> None:
    length = draw.choice([0, 1, 2, 2**20, 2**32, 2**63, 2**64 - 1])
    files[WEIGHTS] = struct.pack("<Q", length) + files[WEIGHTS][8:]


def _index(files: Files, draw: Random) -> None:
    mapping = draw.choice(
        [{}, {"a": WEIGHTS}, {"a": "no.safetensors"}, {"a": "../x"}, {"a": "/etc/passwd"}, {"a": 1}, {"a": None}, [], 1]
    )
    files["model.safetensors.index.json"] = json.dumps({"weight_map": mapping}).encode()


DIRECTORY_WAYS: dict[str, Callable[[Files, Random], None]] = {
    "bits": _bits,
    "cut": _cut,
    "file lost": _lost,
    "config.json": _document("config.json"),
    "config.json, again": _document("config.json"),
    "tokenizer.json": _document("tokenizer.json"),
    "tokenizer_config.json": _document("tokenizer_config.json"),
    "generation_config.json": _document("generation_config.json"),
    "no JSON object": _not_an_object,
    "chat template": _template,
    "weights' header": _weights_header,
    "weights' header length": _weights_length,
    "weights' index": _index,
}


class LlamafileMaker:
    """Damaged llamafiles: the archive around a model, or the model inside a sound archive."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._inside = Source("m.gguf", tiny_llama_spm(folder / "m.gguf").read_bytes())
        self._whole = tiny_llamafile(folder / "whole.llamafile", folder / "m.gguf").read_bytes()

    def case(self, seed: int, number: int) -> Case:
        draw = Random(f"llamafile {seed} {number}")
        way = ("archive's end", "archive's start", "cut", "arguments", "model inside")[number % 5]
        data = bytearray(self._whole)
        if way in ("archive's end", "archive's start"):
            near = draw.choice([32, 300])
            for _ in range(draw.choice([1, 4, 20])):
                at = draw.randrange(near)
                data[-1 - at if way == "archive's end" else at + 90] = draw.choice([0, 0xFF, draw.randrange(256)])
        elif way == "cut":
            del data[draw.randrange(len(data)) :]
        elif way == "arguments":
            arguments = draw.choice(
                ["", "-m", "-m\n/etc/passwd", "-m\nother.gguf", "\0" * 100, "x" * 200_000, "é\udcff"]
            )
            data = bytearray(self._built(self._inside.data, arguments.encode("utf-8", "replace").decode()))
        else:
            inner = draw.choice(sorted(WAYS))
            data = bytearray(self._built(WAYS[inner](self._inside, draw), None))
        return Case(number, "llamafile", way, {"m.llamafile": bytes(data)}, "m.llamafile")

    def _built(self, model: bytes, arguments: str | None) -> bytes:
        inside = self._folder / "inside.gguf"
        inside.write_bytes(model)
        return tiny_llamafile(self._folder / "built.llamafile", inside, arguments=arguments).read_bytes()
