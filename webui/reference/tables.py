"""Markdown tables and the words for a declared field."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any

from webui.settings.declared import Declared, plain

GENERATED = "<!-- Written by `python3 -m webui.reference` from the declarations. Do not edit. -->\n"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table; cells may hold anything but line breaks."""
    lines = [_row(head), "|" + "---|" * len(head), *(_row(row) for row in rows)]
    return "\n".join(lines) + "\n"


def value(item: Any) -> str:
    """A default as one would write it in YAML or JSON."""
    return json.dumps(plain(item), ensure_ascii=False)


def code(text: str) -> str:
    return f"`{text}`"


def field_rows(declared: Iterable[Declared]) -> Iterable[tuple[str, ...]]:
    """Name, default, what is allowed, and help of each field."""
    for item in declared:
        help_text = f"**{item.spec.control.label}.** {item.spec.control.help}"
        yield code(item.spec.name), code(value(item.spec.default)), item.allowed(), help_text


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in cells) + " |"
