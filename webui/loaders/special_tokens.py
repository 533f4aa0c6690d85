"""The special tokens of a GGUF file's vocabulary, for engines whose tokenizer does not know them in a text.

A chat template writes special tokens as text (`<s>`, `<|im_end|>`), and an engine that spells them out letter by letter
sees a different conversation than the model was trained on. `SpecialTokens` cuts a text at them.
"""

from __future__ import annotations

import mmap
import re
import struct
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from webui.errors import CorruptFile

CONTROL, USER_DEFINED = 3, 4  # llama_token_type
_STRING, _ARRAY = 8, 9
_SIZES = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}

TURN_ENDS = frozenset(
    {
        "<|im_end|>",
        "<|eot_id|>",
        "<|end|>",
        "<|endoftext|>",
        "<|end_of_text|>",
        "<|eom_id|>",
        "<|end_of_turn|>",
        "<end_of_turn>",
        "<|return|>",
        "<|user|>",
        "<EOT>",
        "<|EOT|>",
    }
)
"""Special tokens that end a reply in some model family, whatever the file names as its end-of-text token."""


class SpecialTokens:
    """Special tokens by their text. `shown` are those that belong to the text of a reply (user-defined ones)."""

    def __init__(self, ids: Mapping[str, int], shown: Mapping[int, str] | None = None) -> None:
        self.ids = dict(ids)
        self.shown = dict(shown or {})
        self.turn_ends = frozenset(self.ids[text] for text in TURN_ENDS.intersection(self.ids))
        longest_first = sorted(self.ids, key=len, reverse=True)
        self._pattern = re.compile("|".join(map(re.escape, longest_first))) if longest_first else None

    def cut(self, text: str) -> Iterator[str | int]:
        """`text` as a sequence of plain pieces (never empty) and the ids of the special tokens between them."""
        place = 0
        if self._pattern is not None:
            for found in self._pattern.finditer(text):
                if found.start() > place:
                    yield text[place : found.start()]
                yield self.ids[found.group()]
                place = found.end()
        if place < len(text):
            yield text[place:]


def read_special_tokens(path: Path) -> SpecialTokens:
    """Read the vocabulary of a little-endian GGUF; raises `CorruptFile` if its header points outside the file."""
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        try:
            tokens, types = _vocabulary(data)
        except (struct.error, KeyError, IndexError) as error:
            raise CorruptFile(f"{path.name} is damaged: its vocabulary cannot be read.", cause=str(error)) from error
        special = {index: kind for index, kind in enumerate(types) if kind in (CONTROL, USER_DEFINED)}
        texts = {index: text for index, text in enumerate(tokens) if index in special and text}
    shown = {index: text for index, text in texts.items() if special[index] == USER_DEFINED}
    return SpecialTokens({text: index for index, text in texts.items()}, shown)


def _vocabulary(data: mmap.mmap) -> tuple[list[str], tuple[int, ...]]:
    """The token texts and types; walks the metadata and stops as soon as both are found."""
    version, position = struct.unpack_from("<I", data, 4)[0], 8
    length = "<I" if version == 1 else "<Q"
    width = struct.calcsize(length)
    keys = struct.unpack_from(length, data, position + width)[0]
    position += 2 * width
    tokens: list[str] = []
    types: tuple[int, ...] = ()

    def read_string(at: int) -> tuple[str, int]:
        size = struct.unpack_from(length, data, at)[0]
        end = at + width + size
        if end > len(data):
            raise IndexError(f"a string of {size} bytes at position {at}")
        return data[at + width : end].decode("utf-8", errors="replace"), end

    for _ in range(keys):
        if tokens and types:
            break
        key, position = read_string(position)
        kind = struct.unpack_from("<I", data, position)[0]
        position += 4
        if kind == _ARRAY:
            element = struct.unpack_from("<I", data, position)[0]
            count = struct.unpack_from(length, data, position + 4)[0]
            position += 4 + width
            if element == _STRING:
                texts, position = _strings(read_string, position, count)
                tokens = texts if key == "tokenizer.ggml.tokens" else tokens
            else:
                if key == "tokenizer.ggml.token_type":
                    types = struct.unpack_from(f"<{count}i", data, position)
                position += count * _SIZES[element]
        elif kind == _STRING:
            _, position = read_string(position)
        else:
            position += _SIZES[kind]
    return tokens, types


def _strings(read: Callable[[int], tuple[str, int]], position: int, count: int) -> tuple[list[str], int]:
    texts: list[str] = []
    for _ in range(count):
        text, position = read(position)
        texts.append(text)
    return texts, position
