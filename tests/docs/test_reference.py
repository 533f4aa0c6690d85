"""The generated files are what the declarations say today."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from webui.errors import tree
from webui.hooks import Panel, Tab
from webui.loaders import LOADERS
from webui.loaders.parameters import controls
from webui.loaders.sampling import SamplingParameters
from webui.paths import PROJECT_ROOT, Paths
from webui.reference import hooks, pages, troubleshooting, write
from webui.settings import Settings
from webui.settings.declared import declare, plain

FEWEST_PICTURES = 18
PICTURE_BYTES, PICTURES_BYTES = 60_000, 1_200_000


@pytest.fixture(scope="module")
def written() -> dict[str, str]:
    """The generated files as they would be written now."""
    return pages()


@pytest.mark.parametrize(
    "name",
    [
        "settings.yaml",
        "docs/settings.md",
        "docs/parameters.md",
        "docs/presets.md",
        "docs/extensions.md",
        "docs/elements.md",
        "docs/troubleshooting.md",
        "docs/backends/README.md",
        *(f"docs/backends/{name}.md" for name in LOADERS),
        "docs/hardware.md",
        "docs/api.md",
    ],
)
def test_a_generated_file_is_true(written: dict[str, str], name: str) -> None:
    path = PROJECT_ROOT / name
    assert path.is_file(), f"{name} is missing: run python3 -m webui.reference"
    true = path.read_text(encoding="utf-8") == written[name]
    assert true, f"{name} is not true any more: run python3 -m webui.reference"


def test_writing_writes_what_differs_and_nothing_else(written: dict[str, str], tmp_path: Path) -> None:
    assert sorted(write(tmp_path, written)) == sorted(written)
    (tmp_path / "settings.yaml").write_text("old")
    assert write(tmp_path, written) == ["settings.yaml"]
    assert write(tmp_path, written) == []


def test_the_shipped_settings_change_nothing(tmp_path: Path) -> None:
    settings = Settings.load(Paths(home=tmp_path), environment={}, loaders=LOADERS)
    assert settings.problems == ()
    assert {settings.source(key) for key in settings.keys()} == {"built-in"}  # noqa: SIM118 (not a mapping)


def test_every_key_in_settings_yaml_is_valid_once_it_is_uncommented(written: dict[str, str], tmp_path: Path) -> None:
    text = re.sub(r"^( *)#(\w)", r"\1\2", written["settings.yaml"], flags=re.MULTILINE)
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


def test_every_parameter_setting_and_hook_is_on_its_page(written: dict[str, str]) -> None:
    for spec in LOADERS.values():
        assert f"## {spec.name}\n" in written["docs/parameters.md"]
        for item in controls(spec.parameters):
            assert f"| `{item.name}` |" in written["docs/parameters.md"]
    for name in SamplingParameters.model_fields:
        assert f"| `{name}` |" in written["docs/parameters.md"]
    for declared in declare({}).values():
        assert f"| `{declared.key}` |" in written["docs/settings.md"]
    assert len(hooks.declared()) == 7
    for name in (*hooks.declared(), Tab.__name__, Panel.__name__):
        assert f"### {name}\n" in written["docs/extensions.md"]


def test_every_failure_has_its_section_and_its_picture_where_there_is_one(
    written: dict[str, str], tmp_path: Path
) -> None:
    for kind in tree():
        assert written["docs/troubleshooting.md"].count(f'<a id="{kind.code}"></a>') == 1
        assert f"](#{kind.code})" in written["docs/troubleshooting.md"]
    assert "![" not in troubleshooting.page(tmp_path)
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "failure-corrupt_file.png").write_bytes(b"")
    assert "![The file is damaged](images/failure-corrupt_file.png)" in troubleshooting.page(tmp_path)


def test_every_picture_of_a_failure_is_small_and_every_picture_a_page_names_is_there(written: dict[str, str]) -> None:
    docs = PROJECT_ROOT / "docs"
    named = set(re.findall(r"!\[[^]]*\]\((images/failure-\w+\.png)\)", written["docs/troubleshooting.md"]))
    there = {f"images/{picture.name}": picture.stat().st_size for picture in docs.glob("images/failure-*.png")}
    assert named == there.keys()
    assert {name.removeprefix("images/failure-").removesuffix(".png") for name in named} <= {one.code for one in tree()}
    assert len(there) >= FEWEST_PICTURES
    assert max(there.values()) <= PICTURE_BYTES and sum(there.values()) <= PICTURES_BYTES


def test_every_element_is_listed_once_with_its_tab(written: dict[str, str]) -> None:
    ids = re.findall(r"^\| `([^`]+)` \|", written["docs/elements.md"], flags=re.MULTILINE)
    assert len(ids) == len(set(ids))
    assert {"status-line", "tab-chat", "model-load", "chat-preset"} <= set(ids)
    for spec in LOADERS.values():
        for item in controls(spec.parameters):
            assert f"loader-{spec.name}-{item.name}".replace("_", "-") in ids
