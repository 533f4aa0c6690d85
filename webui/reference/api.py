"""docs/api.md: which status an error answers with, from the tree of errors."""

from __future__ import annotations

from pathlib import Path

from webui.api.errors import error_body, status_of
from webui.errors import tree
from webui.reference.filled import filled
from webui.reference.tables import code, table

PAGE = "docs/api.md"


def page(root: Path) -> str:
    return filled(root / PAGE, {"statuses": _statuses()})


def _statuses() -> str:
    """The codes that a client may meet, by status; links lead to what to do about them."""
    found: dict[int, list[str]] = {}
    for kind in tree():
        error = kind("")
        link = f"[{code(error_body(error)['error']['code'])}](troubleshooting.md#{kind.code})"
        found.setdefault(status_of(error), []).append(link)
    return table(("status", "code"), [(str(status), ", ".join(codes)) for status, codes in sorted(found.items())])
