"""llama.cpp's file formats before GGUF, and the ggml files of other architectures: recognised, and read where possible.

The `ggjt` and `ggmf` formats were llama's alone and say their sizes. Files with the oldest magic are written alike by
every architecture (gpt2, gptj, mpt, starcoder …) and do not say which it is; a `config.json` beside the file does.
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

from webui.errors import CorruptFile
from webui.models.documents import read_object
from webui.models.facts import ModelFacts, ModelFormat
from webui.models.ggml_types import FILE_TYPES

MAGICS = {b"lmgg": "ggml", b"fmgg": "ggmf", b"tjgg": "ggjt"}
"""As the bytes stand in the file: little-endian words."""
QUANTISATION_VERSION_FACTOR = 1000
"""Files since May 2023 add this times the version of the quantisation formats to their file type."""
LARGEST_PLAUSIBLE = 1 << 24


def ggml_facts(path: Path) -> ModelFacts:
    """Facts of a file that begins with one of `MAGICS`; raises `CorruptFile` for impossible sizes."""
    size = path.stat().st_size
    with path.open("rb") as file:
        start = file.read(40)
    kind = MAGICS[start[:4]]
    known = {} if kind == "ggml" else _llama_sizes(path, start)
    return ModelFacts(
        path=path,
        format=ModelFormat.GGML,
        files=(path,),
        file_bytes=size,
        name=path.stem,
        architecture="llama" if known else _beside(path),
        quantization=FILE_TYPES.get(known.get("file_type", -1)),
        block_count=known.get("block_count"),
        embedding_length=known.get("embedding_length"),
        head_count=known.get("head_count"),
        vocabulary_size=known.get("vocabulary_size"),
        tokenizer="llama" if known else None,
        byte_order="little",
        metadata={"ggml.container": kind},
    )


def _llama_sizes(path: Path, start: bytes) -> dict[str, int]:
    """Seven words behind magic and version: vocabulary, width, multiple, heads, layers, rotary width, file type."""
    if len(start) < 36:
        raise CorruptFile(f"{path.name} is damaged or incomplete: it ends inside its header.")
    vocabulary, width, _, heads, layers, _, file_type = struct.unpack_from("<7I", start, 8)
    if not all(0 < value < LARGEST_PLAUSIBLE for value in (vocabulary, width, heads, layers)):
        raise CorruptFile(
            f"{path.name} is damaged: its header holds impossible sizes.",
            cause=f"vocabulary {vocabulary:,}, width {width:,}, heads {heads:,}, layers {layers:,}",
        )
    return {
        "vocabulary_size": vocabulary,
        "embedding_length": width,
        "head_count": heads,
        "block_count": layers,
        "file_type": file_type % QUANTISATION_VERSION_FACTOR,
    }


def _beside(path: Path) -> str | None:
    """The architecture that a `config.json` in the same folder names."""
    config = path.with_name("config.json")
    if not config.is_file():
        return None
    named: Any = read_object(config).get("model_type")
    return named if isinstance(named, str) and named else None
