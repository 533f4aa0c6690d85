"""docs/api.md names every route there is."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from webui.context import AppContext
from webui.paths import PROJECT_ROOT, Paths
from webui.server import create_api
from webui.settings import Settings


@pytest.fixture
async def routes(tmp_path: Path) -> set[str]:
    """`METHOD /path` of the routes for programs; those of the page itself are not in the schema."""
    paths = Paths(home=tmp_path / "home").ensure()
    context = AppContext.create(paths, Settings.load(paths, environment={"GGUF_EXTENSIONS_ENABLED": "false"}))
    try:
        described = create_api(context).openapi()["paths"]
    finally:
        await context.close()
    return {f"{method.upper()} {path}" for path, methods in described.items() for method in methods}


def test_every_route_is_in_the_reference_and_no_other(routes: set[str]) -> None:
    text = (PROJECT_ROOT / "docs" / "api.md").read_text(encoding="utf-8")
    written = set(re.findall(r"^\| `((?:GET|POST|PUT|DELETE) [^`]+)` \|", text, re.MULTILINE))
    assert written == routes
