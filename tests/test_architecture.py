"""The walls of the house: which room may import which, who may import gradio and the engines, how large files may be.

`docs/architecture.md` shows the same table; a room that needs a new door gets it here and there.
"""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
ROOMS = ROOT / "webui"

GROUND = {"errors", "files", "paths", "remedies"}
MAY_IMPORT: dict[str, set[str]] = {
    "remedies": set(),
    "errors": {"remedies"},
    "files": {"errors"},
    "paths": {"errors"},
    "hardware": GROUND,
    "models": GROUND,
    "loaders": GROUND | {"models", "hardware"},
    "settings": GROUND | {"loaders"},
    "planning": GROUND | {"hardware", "models", "loaders"},
    "pool": GROUND | {"planning", "hardware", "loaders", "models", "settings"},
    "hooks": GROUND | {"loaders", "chat"},
    "extensions": GROUND | {"hooks", "loaders", "settings"},
    "chat": GROUND | {"pool", "planning", "loaders", "models", "settings", "extensions"},
    "setup": GROUND | {"hardware", "loaders", "models", "planning", "settings"},
    "diagnostics": GROUND
    | {
        "chat",
        "context",
        "extensions",
        "hardware",
        "loaders",
        "migration",
        "models",
        "planning",
        "pool",
        "settings",
        "setup",
    },
    "context": GROUND
    | {
        "chat",
        "diagnostics",
        "extensions",
        "hardware",
        "loaders",
        "migration",
        "models",
        "planning",
        "pool",
        "settings",
        "setup",
    },
    "security": GROUND | {"settings", "api"},
    "migration": GROUND | {"chat", "loaders", "settings"},
    "api": GROUND | {"context", "chat", "hardware", "loaders", "migration", "models", "pool", "security", "settings"},
    "tabs": GROUND
    | {
        "chat",
        "context",
        "diagnostics",
        "extensions",
        "hardware",
        "loaders",
        "migration",
        "models",
        "planning",
        "pool",
        "security",
        "settings",
        "setup",
    },
    "toolkit": GROUND
    | {"chat", "context", "diagnostics", "loaders", "migration", "models", "planning", "pool", "settings", "setup"},
    "server": GROUND | {"api", "context", "security", "settings", "tabs", "extensions"},
    "reference": GROUND
    | {
        "api",
        "chat",
        "context",
        "extensions",
        "hardware",
        "hooks",
        "loaders",
        "models",
        "planning",
        "settings",
        "setup",
    }
    | {"tabs"},
    "cli": set(),  # everything: see below
}
ENGINES = {"ctransformers", "llama_cpp", "torch", "transformers", "xllamacpp", "accelerate", "gguf"}
MODULES = sorted(ROOMS.rglob("*.py"))


def room_of(path: Path) -> str:
    return path.relative_to(ROOMS).parts[0].removesuffix(".py")


def imports_of(path: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
            found |= {f"{node.module}.{alias.name}" for alias in node.names if node.module == "webui"}
    return found


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("path", MODULES, ids=name)
def test_a_room_imports_only_what_it_may(path: Path) -> None:
    room = room_of(path)
    if room in ("__init__", "cli"):
        return
    assert room in MAY_IMPORT, f"{room} is a new room: give it a line in MAY_IMPORT and in docs/architecture.md"
    entered = {module.split(".")[1] for module in imports_of(path) if module.startswith("webui.")}
    assert entered <= MAY_IMPORT[room] | {room}


@pytest.mark.parametrize("path", MODULES, ids=name)
def test_gradio_and_the_engines_stay_where_they_belong(path: Path) -> None:
    top = {module.split(".")[0] for module in imports_of(path)}
    if room_of(path) not in ("tabs", "server"):
        assert "gradio" not in top
    if room_of(path) != "loaders":
        assert not top & ENGINES


@pytest.mark.parametrize("path", MODULES, ids=name)
def test_files_and_functions_can_be_read_in_one_sitting(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert text.count("\n") <= 420
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert (node.end_lineno or 0) - node.lineno <= 65, f"{node.name} is too long"


def test_the_parent_imports_no_engine() -> None:
    """Building the whole app, page and all, must not load one of the engine libraries."""
    import subprocess
    import sys

    script = (
        f"import sys, webui.context, webui.server, webui.tabs, webui.cli;print(sorted(set(sys.modules) & {ENGINES!r}))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=ROOT, check=False)
    assert (done.stdout.strip(), done.returncode) == ("[]", 0), done.stderr


def test_the_architecture_page_names_every_room() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    missing = [room for room in MAY_IMPORT if f"`{room}" not in page]
    assert missing == []
