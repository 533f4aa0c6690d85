"""How a case of the corpus is laid out on the disk: `home` is the app's home, `config` is ~/.config/gguf-loader.

`@ROOT@` stands for the folder of the case and `@HOME@` for the app's home. Models that files name lie in `library` and
`elsewhere`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from webui.paths import PROJECT_ROOT, Paths

Content = Mapping[str, Any] | list[Any] | str | bytes | Callable[[Path], None]
"""JSON, text, bytes, or what makes the file."""
Case = Mapping[str, Content]

FOLDERS = {"home": ".gguf-loader", "config": ".config/gguf-loader"}
MODELS = ("library/mistral.gguf", "library/llama-7b.gguf", "elsewhere/phi.gguf", "elsewhere/adapter.gguf")
OTHERS = ("elsewhere/notes.txt", "elsewhere/llamafile-0.9")


def lay_out(case: Case, root: Path) -> Paths:
    """Make the files of `case` under `root`, which is the user's home; returns the app's folders."""
    checkout = root / "checkout"
    checkout.mkdir(parents=True)
    (checkout / "presets").symlink_to(PROJECT_ROOT / "presets")
    # A checkout without its settings.yaml, which says the defaults over again and takes long to read.
    paths = Paths(root / FOLDERS["home"], checkout).ensure()
    for name in (*MODELS, *OTHERS):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"GGUF")
    for name, content in case.items():
        path = place_of(name, root)
        path.parent.mkdir(parents=True, exist_ok=True)
        if callable(content):
            content(path)
        elif isinstance(content, bytes):
            path.write_bytes(content.replace(b"@ROOT@", str(root).encode()))
        else:
            text = content if isinstance(content, str) else json.dumps(content, indent=2)
            path.write_text(filled(text, root, paths), encoding="utf-8")
    return paths


def place_of(name: str, root: Path) -> Path:
    first, _, rest = name.partition("/")
    return root / FOLDERS.get(first, first) / rest


def filled(text: str, root: Path, paths: Paths) -> str:
    return text.replace("@HOME@", str(paths.home)).replace("@ROOT@", str(root))


def cleared(text: str, root: Path, paths: Paths) -> str:
    """The other way round, for tables that people read."""
    return text.replace(str(paths.home), "@HOME@").replace(str(root), "@ROOT@")
