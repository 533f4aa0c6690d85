"""What is wrong with installed packages, told from files and versions."""

from __future__ import annotations

from importlib import metadata
from pathlib import Path

import pytest

from tests.builders.wheels import build_wheel
from webui.loaders import LOADERS
from webui.setup.backends import pins_of, requirements_of
from webui.setup.condition import conflicts, faults, installed_of

WITH_PACKAGES = [name for name, spec in LOADERS.items() if spec.distributions]


@pytest.mark.parametrize("name", WITH_PACKAGES)
def test_nothing_is_wrong_with_what_is_installed_here(name: str) -> None:
    spec = LOADERS[name]
    pins = pins_of(requirements_of(spec))
    installed = installed_of(spec, pins)
    assert installed.damage == ""
    assert installed.versions[spec.distributions[0]]
    assert "cpu" in installed.kinds
    assert faults(spec, list(installed.versions)) == []


@pytest.mark.parametrize(
    ("requires", "versions", "expected"),
    [
        ("helper>=2", {"helper": "1.0"}, "engine needs helper>=2, and 1.0 is installed"),
        ("helper>=2", {"helper": "2.1"}, ""),
        ("Help_er>=2", {"help-er": "3.0rc1"}, ""),
        ("helper", {}, "engine needs helper, which is not installed"),
        ("helper; sys_platform == 'nowhere'", {}, ""),
        ("helper; extra == 'more'", {}, ""),
    ],
)
def test_conflicts_are_those_that_pip_would_name(
    requires: str, versions: dict[str, str], expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import zipfile

    zipfile.ZipFile(build_wheel(tmp_path / "wheels", "engine", requires=requires)).extractall(tmp_path / "library")
    monkeypatch.syspath_prepend(str(tmp_path / "library"))
    assert metadata.version("engine") == "1.0"
    assert conflicts(["engine"], versions) == ([expected] if expected else [])
