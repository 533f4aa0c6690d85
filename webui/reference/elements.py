"""docs/elements.md: every part of the page with a stable id, for tests and for those who write extensions."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from webui.context import AppContext
from webui.paths import Paths
from webui.reference.tables import GENERATED, code, table
from webui.settings import Settings

HEAD = """\
# Elements of the page

Every control has an id that stays the same: `#chat-input textarea` in a style sheet, a script or a Playwright test.
The ids of a backend's parameters are made of its name and the parameter's.
"""
OUTSIDE = "On every tab"


@dataclass(frozen=True, slots=True)
class Element:
    """One part of the page; `kind` is the name of its Gradio class, `tab` the label of the tab it is on."""

    elem_id: str
    kind: str
    label: str
    tab: str


def elements(page: Any) -> Iterator[Element]:
    """All parts of a built page (a `gradio.Blocks`) that have an id, in the order they were made."""
    for block in page.blocks.values():
        if block.elem_id:
            label = getattr(block, "label", None) or _text_of(block)
            yield Element(block.elem_id, type(block).__name__, label, _tab_of(block))


async def build() -> list[Element]:
    """Build the page over an empty home, without extensions, and read it."""
    from webui.tabs.page import build_page

    with tempfile.TemporaryDirectory() as folder:
        paths = Paths(home=Path(folder)).ensure()
        settings = Settings.load(paths, environment={}, command_line={"extensions.enabled": False})
        context = AppContext.create(paths, settings)
        try:
            return list(elements(build_page(context)))
        finally:
            await context.close()


def page() -> str:
    """The whole page, one table a tab."""
    found: dict[str, list[Element]] = {}
    # Inside a running loop: without one, Gradio makes loops of its own and leaves them open.
    for element in asyncio.run(build()):
        found.setdefault(element.tab, []).append(element)
    parts = [GENERATED, HEAD]
    for tab, items in found.items():
        rows = [(code(item.elem_id), item.kind, item.label) for item in items]
        parts += [f"## {tab}\n", table(("id", "kind", "label"), rows)]
    return "\n".join(parts)


def _tab_of(block: Any) -> str:
    while block is not None:
        if type(block).__name__ == "Tab":
            return str(block.label)
        block = block.parent
    return OUTSIDE


def _text_of(block: Any) -> str:
    """What stands on a button; other parts without a label show no fixed text."""
    return str(block.value) if type(block).__name__ == "Button" and isinstance(block.value, str) else ""
