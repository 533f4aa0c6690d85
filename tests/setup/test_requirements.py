"""The requirement files: exact, complete and in agreement with each other."""

from __future__ import annotations

import re
from importlib import metadata
from pathlib import Path

import pytest

from webui.loaders import LOADERS
from webui.paths import PROJECT_ROOT
from webui.setup.backends import REQUIREMENTS, requirements_of
from webui.setup.installed import differences
from webui.setup.requirement_files import pinned_packages

FILES = sorted(REQUIREMENTS.glob("*.txt"))
NAMED_BY_HAND = {
    *("gradio", "llama-cpp-python", "ctransformers", "transformers", "accelerate", "torch", "xllamacpp"),
    *("nvidia-ml-py", "psutil", "pyyaml", "plotly", "pytest", "playwright"),
}


def pins(file: Path) -> dict[str, str]:
    return dict(re.sub(r"\[.*\]", "", line).split()[0].split("==") for line in pinned_packages(file))


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_every_line_is_an_exact_version(file: Path) -> None:
    assert pinned_packages(file)
    for line in pinned_packages(file):
        assert re.fullmatch(r"[a-z0-9.-]+(\[[a-z]+\])?==[0-9][0-9a-z.]*( --hash=sha256:[0-9a-f]{64})?", line), line


def test_all_files_agree() -> None:
    seen: dict[str, str] = {}
    for file in [*FILES, PROJECT_ROOT / "requirements.txt"]:
        for name, version in pins(file).items():
            assert seen.setdefault(name, version) == version, (file, name)


def test_the_file_at_the_top_holds_the_whole_set() -> None:
    top = pins(PROJECT_ROOT / "requirements.txt")
    assert set(top) >= NAMED_BY_HAND


def test_the_base_pins_what_its_packages_need_too() -> None:
    """Walk the installed packages' own requirements: without extras and markers, all of them must be pinned."""
    base = pins(REQUIREMENTS / "base.txt")
    for name in base:
        try:
            needs = metadata.requires(name) or []
        except metadata.PackageNotFoundError:  # for another system or Python
            continue
        for need in needs:
            if ";" not in need:
                needed = re.match(r"[A-Za-z0-9._-]+", need)
                assert needed is not None
                assert re.sub(r"[._-]+", "-", needed[0]).lower() in {re.sub(r"[._-]+", "-", pin) for pin in base}, need


def test_every_backend_with_packages_can_be_installed() -> None:
    for spec in LOADERS.values():
        if spec.distributions:
            file = requirements_of(spec)
            assert file is not None, spec.name
            assert spec.distributions[0] in pins(file)


def test_the_environment_of_the_tests_is_the_pinned_one() -> None:
    assert (
        differences(*(REQUIREMENTS / name for name in ("base.txt", "transformers.txt", "llama-cpp-python.txt"))) == ()
    )


def test_differences_name_what_is_absent_and_what_is_other(tmp_path: Path) -> None:
    file = tmp_path / "some.txt"
    file.write_text('# x\n-c other.txt\npsutil==0.1\nnot-there-at-all==2.0\nneither==1.0; sys_platform == "plan9"\n')
    found = {item.name: (item.pinned, item.installed) for item in differences(file)}
    assert found == {"psutil": ("0.1", metadata.version("psutil")), "not-there-at-all": ("2.0", None)}


def test_no_registry_is_named() -> None:
    for file in [*FILES, PROJECT_ROOT / "requirements.txt"]:
        assert "://" not in file.read_text(encoding="utf-8")
