"""Several files at once: what goes first, and what they agree in."""

from __future__ import annotations

import os
from pathlib import Path

from tests.migration.corpus.app_settings import WHOLE
from tests.migration.corpus.backend_sets import SET_100, SET_110
from tests.migration.corpus.layout import Case


def link_to(target: str) -> object:
    def make(path: Path) -> None:
        path.symlink_to(os.path.relpath(path.parent / target, path.parent))

    return make


CASES: dict[str, Case] = {
    "several: app and set": {"home/config.json": WHOLE, "home/backend_config.json": SET_110},
    "several: two homes": {"home/backend_config.json": SET_110, "config/backend_config.json": SET_100},
    "several: every name": {
        "home/backend_config.json": {"backend_configs": {"llamafile": {"context_size": 1024}}},
        "home/config.json": {"n_ctx": 2048, "use_gpu": False},
        "home/app_config.json": {"n_ctx": 3072, "use_gpu": True},
        "home/settings.json": {"context_size": 5120, "temperature": 0.1},
        "home/preferences.json": {"temperature": 0.9, "top_k": 10},
        "home/a.config.json": {"top_k": 20},
        "config/config.json": {"n_ctx": 6144, "top_k": 30, "min_p": 0.2},
    },
    "several: they agree": {
        "home/config.json": {"n_ctx": 8192, "use_gpu": False},
        "config/settings.json": {"context_size": 8192, "gpu_enabled": False},
    },
    "several: a link to the other": {
        "config/config.json": {"n_ctx": 8192},
        "home/config.json": link_to("../.config/gguf-loader/config.json"),
    },
    "several: over one's own settings": {
        "home/settings.yaml": "chat:\n  system_prompt: Mine.\nmodels:\n  default_model: mine.gguf\n",
        "home/backend_config.json": {"gpu_enabled": True, "backends": {"llamafile": {"context_size": 12288}}},
        "home/config.json": WHOLE | {"use_hardware_acceleration": False, "context_size": 2048},
    },
    "several: a default goes before another value": {
        "home/config.json": {"n_ctx": 4096},
        "config/config.json": {"n_ctx": 8192},
    },
}
