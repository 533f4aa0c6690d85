"""What a GGUF file, alone or in several parts, says about its model.

Turns headers (`webui.models.gguf`) into `ModelFacts`. Nothing is guessed: a value of an unexpected type is unknown.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from webui.errors import CorruptFile
from webui.models.facts import ModelFacts, ModelFormat
from webui.models.ggml_types import quantization_name
from webui.models.gguf import INT32, UINT16, GgufHeader, read_header
from webui.models.integrity import TOKENS, check_model
from webui.models.labels import label
from webui.models.weights import gather

PART = re.compile(r"^(?P<stem>.+)-(?P<number>\d{5})-of-(?P<count>\d{5})\.gguf$", re.IGNORECASE)
MOST_PARTS = 10_000
LOOK_UP = {"tokenizer.ggml.bos_token_id": TOKENS, "tokenizer.ggml.eos_token_id": TOKENS}


def gguf_facts(path: Path) -> ModelFacts:
    """Facts of the file at `path`, or of the whole set where `path` is one part of it.

    Raises `CorruptFile` (also for a set with parts missing) and `UnsupportedFormat`.
    """
    files = parts_of(path)
    headers = [_read(file) for file in files]
    _check_set(files, headers)
    return facts_from_headers(files[0], files, headers)


def parts_of(path: Path) -> tuple[Path, ...]:
    """All files of the set that `path` belongs to, in order; just `path` where the name has no part number."""
    match = PART.match(path.name)
    if match is None:
        return (path,)
    count, number = int(match["count"]), int(match["number"])
    if not 1 <= number <= count <= MOST_PARTS:
        raise CorruptFile(f"{path.name} says it is part {number} of {count}, which cannot be.")
    suffix = path.suffix
    parts = tuple(path.with_name(f"{match['stem']}-{part:05d}-of-{count:05d}{suffix}") for part in range(1, count + 1))
    missing = [part.name for part in parts if not part.is_file()]
    if missing:
        raise CorruptFile(
            f"{len(missing)} of the {count} parts of {match['stem']} are missing.",
            cause="not found: " + ", ".join(missing[:5]) + (" …" if len(missing) > 5 else ""),
            hint="Put all parts into one folder, with the names they were published under.",
            missing=missing,
        )
    return parts


def set_stem(path: Path) -> str:
    """The name without extension and part number: what people call the model."""
    match = PART.match(path.name)
    return match["stem"] if match else path.stem


def facts_from_headers(
    path: Path,
    files: Sequence[Path],
    headers: Sequence[GgufHeader],
    *,
    model_format: ModelFormat = ModelFormat.GGUF,
) -> ModelFacts:
    """Gather the facts; the first header holds the metadata, the tensors are summed over all."""
    first = headers[0]
    values = first.metadata
    tensor_types: Counter[str] = Counter()
    elements = 0
    for header in headers:
        for tensor in header.tensors:
            tensor_types[tensor.type] += tensor.bytes
            elements += tensor.elements
    architecture = _text(values.get("general.architecture"))
    check_model(path.name, architecture, headers)

    def own(key: str) -> int | None:
        """The architecture's own value. Where it differs per layer, the largest, which memory is planned for."""
        return _largest(values.get(f"{architecture}.{key}"))

    return ModelFacts(
        path=path,
        format=model_format,
        files=tuple(files),
        file_bytes=sum(file.stat().st_size for file in files),
        name=label(values.get("general.name")) or set_stem(path),
        architecture=label(architecture),
        quantization=quantization_name(_integer(values.get("general.file_type")), tensor_types),
        parameter_count=elements or None,
        block_count=own("block_count"),
        context_length=own("context_length"),
        embedding_length=own("embedding_length"),
        head_count=own("attention.head_count"),
        head_count_kv=own("attention.head_count_kv"),
        key_length=own("attention.key_length"),
        value_length=own("attention.value_length"),
        expert_count=own("expert_count"),
        vocabulary_size=first.lengths.get(TOKENS) or own("vocab_size"),
        tokenizer=label(values.get("tokenizer.ggml.model")),
        chat_template=_text(values.get("tokenizer.chat_template")),
        bos_token=first.texts.get("tokenizer.ggml.bos_token_id"),
        eos_token=first.texts.get("tokenizer.ggml.eos_token_id"),
        add_bos_token=_flag(values.get("tokenizer.ggml.add_bos_token")),
        tensor_bytes=sum(tensor_types.values()) if elements else None,
        tensor_types=dict(tensor_types),
        weights=gather((tensor.name, tensor.bytes, tensor.type) for header in headers for tensor in header.tensors),
        gguf_version=first.version,
        byte_order=first.byte_order,
        metadata=dict(values),
    )


def _read(path: Path) -> GgufHeader:
    with path.open("rb") as file:
        return read_header(file, path.stat().st_size, label=path.name, look_up=LOOK_UP)


def _check_set(files: Sequence[Path], headers: Sequence[GgufHeader]) -> None:
    """The parts must agree that they are one set, in this order, and a file alone that it is no part."""
    if len(files) == 1 and not _says(headers[0], "split.count", UINT16, 0, 1):
        raise CorruptFile(
            f"{files[0].name} is only a part of a model.",
            cause=f"its header says it is one of {_shown(headers[0].metadata['split.count'])} files",
            hint="Put all parts into one folder, with the names they were published under.",
        )
    for index, (file, header) in enumerate(zip(files, headers, strict=True) if len(files) > 1 else ()):
        count, number = header.metadata.get("split.count"), header.metadata.get("split.no")
        if count is None or number is None or not _agrees(header, len(files), index):
            raise CorruptFile(
                f"{file.name} does not belong to this set of {len(files)} files.",
                cause=f"its header says it is number {_shown(number)} (from 0) of {_shown(count)}",
                hint="Download the set again, or give the files the names they were published under.",
            )
    found = sum(len(header.tensors) for header in headers)
    if not _says(headers[0], "split.tensors.count", INT32, found):
        raise CorruptFile(
            f"The {len(files)} files of {set_stem(files[0])} are not those of one model.",
            cause=f"they hold {found:,} tensors, and the first announces "
            + _shown(headers[0].metadata.get("split.tensors.count")),
        )


def _agrees(header: GgufHeader, count: int, number: int) -> bool:
    return _says(header, "split.count", UINT16, count) and _says(header, "split.no", UINT16, number)


def _says(header: GgufHeader, key: str, kind: int, *values: int) -> bool:
    """Whether `key` holds one of `values` in the type that engines insist on here, or is not there."""
    return key not in header.types or (header.types[key] == kind and header.metadata.get(key) in values)


def _shown(value: Any) -> str:
    return str(value)[:20] if isinstance(value, int) else "none"


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None


def _flag(value: Any) -> bool | None:
    return value if isinstance(value, bool) else None


def _integer(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None


def _largest(value: Any) -> int | None:
    if isinstance(value, list):
        return max((number for item in value if (number := _integer(item)) is not None), default=None)
    return _integer(value)
