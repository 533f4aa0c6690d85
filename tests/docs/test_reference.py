"""The generated files are what the declarations say today."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from webui.hooks import Panel, Tab
from webui.loaders import LOADERS
from webui.loaders.parameters import controls
from webui.loaders.shared import SamplingParameters
from webui.paths import PROJECT_ROOT, Paths
from webui.reference import hooks, pages, write
from webui.settings import Settings
from webui.settings.declared import declare, plain

PAGES = pages()


@pytest.mark.parametrize("name", PAGES)
def test_a_generated_file_is_true(name: str) -> None:
    path = PROJECT_ROOT / name
    assert path.is_file(), f"{name} is missing: run python3 -m webui.reference"
    true = path.read_text(encoding="utf-8") == PAGES[name]
    assert true, f"{name} is not true any more: run python3 -m webui.reference"


def test_writing_writes_what_differs_and_nothing_else(tmp_path: Path) -> None:
    assert sorted(write(tmp_path)) == sorted(PAGES)
    (tmp_path / "settings.yaml").write_text("old")
    assert write(tmp_path) == ["settings.yaml"]
    assert write(tmp_path) == []


def test_the_shipped_settings_change_nothing(tmp_path: Path) -> None:
    settings = Settings.load(Paths(home=tmp_path), environment={}, loaders=LOADERS)
    assert settings.problems == ()
    assert {settings.source(key) for key in settings.keys()} == {"built-in"}  # noqa: SIM118 (not a mapping)


def test_every_key_in_settings_yaml_is_valid_once_it_is_uncommented(tmp_path: Path) -> None:
    text = re.sub(r"^( *)#(\w)", r"\1\2", PAGES["settings.yaml"], flags=re.MULTILINE)
    paths = Paths(home=tmp_path / "home", project_root=tmp_path)
    paths.project_settings.write_text(text)
    settings = Settings.load(paths, environment={}, loaders=LOADERS)
    assert settings.problems == ()
    data = YAML(typ="safe", pure=True).load(text)
    for key, declared in declare(LOADERS).items():
        value = data
        for part in key.split(".", 2) if key.startswith("loaders.") else key.split("."):
            value = value[part]
        assert value == plain(declared.spec.default), key


def test_every_parameter_setting_and_hook_is_on_its_page() -> None:
    for spec in LOADERS.values():
        assert f"## {spec.name}\n" in PAGES["docs/parameters.md"]
        for item in controls(spec.parameters):
            assert f"| `{item.name}` |" in PAGES["docs/parameters.md"]
    for name in SamplingParameters.model_fields:
        assert f"| `{name}` |" in PAGES["docs/parameters.md"]
    for declared in declare({}).values():
        assert f"| `{declared.key}` |" in PAGES["docs/settings.md"]
    assert len(hooks.declared()) == 7
    for name in (*hooks.declared(), Tab.__name__, Panel.__name__):
        assert f"### {name}\n" in PAGES["docs/extensions.md"]
