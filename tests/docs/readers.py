"""What reads the samples of files, by the name that stands behind the language of their fence."""

from __future__ import annotations

import fnmatch
import json
from collections.abc import Callable
from pathlib import Path

from ruamel.yaml import YAML

from webui.chat.presets import PresetStore
from webui.loaders import LOADERS
from webui.paths import Paths
from webui.settings import Settings

Reader = Callable[[str, Path], None]


def settings_yaml(text: str, home: Path) -> None:
    """As the user's own settings.yaml."""
    paths = Paths(home=home).ensure()
    paths.settings_file.write_text(text, encoding="utf-8")
    _settings_without_problems(paths)


def backend_config(text: str, home: Path) -> None:
    paths = Paths(home=home).ensure()
    paths.backend_config.write_text(text, encoding="utf-8")
    _settings_without_problems(paths)


def preset(text: str, home: Path) -> None:
    paths = Paths(home=home).ensure()
    (paths.presets / "sample.yaml").write_text(text, encoding="utf-8")
    PresetStore(paths).get("sample")


def prometheus(text: str, home: Path) -> None:
    """Prometheus itself is not here; what matters to us is that it would ask the right address."""
    jobs = YAML(typ="safe", pure=True).load(text)["scrape_configs"]
    assert all(target for job in jobs for one in job["static_configs"] for target in one["targets"])
    assert {job.get("metrics_path", "/metrics") for job in jobs} == {"/metrics"}


def answer(text: str, home: Path) -> None:
    """What the server or a command answers: JSON, and nothing reads it but people."""
    json.loads(text)


READERS: dict[str, Reader] = {
    "settings.yaml": settings_yaml,
    "backend_config.json": backend_config,
    "presets/*.yaml": preset,
    "prometheus.yml": prometheus,
    "answer": answer,
}


def reader_of(name: str) -> Reader | None:
    return next((reader for pattern, reader in READERS.items() if fnmatch.fnmatchcase(name, pattern)), None)


def _settings_without_problems(paths: Paths) -> None:
    settings = Settings.load(paths, environment={}, loaders=LOADERS)
    assert settings.problems == (), settings.problems
