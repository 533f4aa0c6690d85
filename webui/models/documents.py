"""Reading the JSON documents that come with models, which are other people's and may be anything."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from webui.errors import CorruptFile

LARGEST_BYTES = 32 << 20


def read_object(path: Path, *, largest: int = LARGEST_BYTES) -> dict[str, Any]:
    """The JSON object in `path`; raises `CorruptFile` where it is none, or larger than `largest` bytes."""
    if path.stat().st_size > largest:
        raise CorruptFile(f"{path.name} is larger than such a file ever is.", cause=f"more than {largest:,} bytes")
    return parse_object(path.read_bytes(), label=path.name)


def parse_object(data: bytes, *, label: str) -> dict[str, Any]:
    """The JSON object in `data`; raises `CorruptFile` where it is none."""
    try:
        content = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise CorruptFile(f"{label} is damaged: it is not valid JSON.", cause=str(error)[:200]) from error
    if not isinstance(content, dict):
        raise CorruptFile(f"{label} is damaged: it holds no JSON object.")
    return content
