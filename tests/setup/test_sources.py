"""Where packages come from: wheels told by their names, indexes told by settings and by packages themselves."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.builders.wheels import build_wheel
from tests.setup.test_backends import machine
from webui.errors import InvalidSetting, NotFound
from webui.paths import Paths
from webui.settings import SettingsStore
from webui.settings.indexes import read_indexes
from webui.setup.choice import Way, choose
from webui.setup.sources import Sources, addresses_in, find_sources, read_wheels
from webui.setup.target import Target, platform_name


@pytest.mark.parametrize(
    ("tag", "platform", "python", "runs"),
    [
        ("cp311-cp311-manylinux_2_28_x86_64", "linux-x86_64", (3, 11), True),
        ("cp311-cp311-manylinux_2_28_x86_64", "linux-x86_64", (3, 12), False),
        ("cp311-cp311-manylinux_2_28_aarch64", "linux-x86_64", (3, 11), False),
        ("cp310-abi3-manylinux2014_x86_64.manylinux_2_17_x86_64", "linux-x86_64", (3, 13), True),
        ("cp312-abi3-manylinux2014_x86_64", "linux-x86_64", (3, 11), False),
        ("py3-none-any", "macos-arm64", (3, 15), True),
        ("py3-none-linux_x86_64", "linux-x86_64", (3, 14), True),
        ("cp311-cp311-win_amd64", "windows-x86_64", (3, 11), True),
        ("cp311-cp311-macosx_11_0_universal2", "macos-arm64", (3, 11), True),
        ("cp311-cp311-macosx_11_0_x86_64", "macos-arm64", (3, 11), False),
        ("cp311-cp311-musllinux_1_2_aarch64", "linux-arm64", (3, 11), True),
    ],
)
def test_a_wheel_s_name_says_where_it_runs(
    tag: str, platform: str, python: tuple[int, int], runs: bool, tmp_path: Path
) -> None:
    build_wheel(tmp_path, "tiny-engine", "1.0+cu128", tag=tag)
    (wheel,) = read_wheels(tmp_path)
    assert (wheel.distribution, wheel.version, wheel.label) == ("tiny-engine", "1.0+cu128", "cu128")
    assert wheel.runs_on(platform, python) is runs


def test_of_a_folder_s_builds_the_one_that_suits_is_taken(tmp_path: Path) -> None:
    """Not the one whose name sorts last, which is what pip would take."""
    for label in ("cpu", "cu126"):
        build_wheel(tmp_path, "torch", f"2.13.0+{label}", tag="cp311-cp311-manylinux_2_28_x86_64")
    target = Target("linux-x86_64", (3, 11), tmp_path)
    choice = choose("transformers", machine(), target, find_sources(folder=tmp_path))
    assert (choice.way, choice.wheel and choice.wheel.label) == (Way.FOLDER, "cpu")


def test_a_folder_that_is_not_there() -> None:
    with pytest.raises(NotFound, match="no folder /no/such"):
        find_sources(folder=Path("/no/such"))


def test_indexes_are_named_by_package() -> None:
    named = Sources(indexes=read_indexes(["Torch=https://server/whl/{build}", "llama_cpp_python = file:///wheels"]))
    assert named.address("torch", "cu126") == "https://server/whl/cu126"
    assert named.address("llama-cpp-python", "cu124") == "file:///wheels"
    assert named.address("xllamacpp", "cu128") == ""


@pytest.mark.parametrize("wrong", ["torch", "torch=", "=https://x", "torch=server/whl", "not a url"])
def test_an_index_that_is_none_is_refused_when_it_is_saved(tmp_path: Path, wrong: str) -> None:
    with pytest.raises(InvalidSetting, match=r"setup\.indexes") as refused:
        SettingsStore(Paths(tmp_path)).save({"setup.indexes": [wrong]})
    assert "is not PACKAGE=ADDRESS" in str(refused.value.cause)


def test_a_package_s_own_description_names_its_indexes() -> None:
    text = (
        "pip install x --index-url https://maker.invalid/x/whl/cu128\n"
        "pip install x --index-url https://maker.invalid/x/whl/rocm-6.4.1\n"
        "or https://maker.invalid/x/whl/<cuda-version> and https://maker.invalid/x/other"
    )
    assert addresses_in(text, ["cu128", "cu132", "rocm-6.4.1"]) == {
        "cu128": "https://maker.invalid/x/whl/cu128",
        "rocm-6.4.1": "https://maker.invalid/x/whl/rocm-6.4.1",
        "cu132": "https://maker.invalid/x/whl/cu132",
    }


def test_xllamacpp_names_the_indexes_of_its_builds() -> None:
    """What the table of builds says of it still holds for the version that is installed."""
    told = find_sources().told["xllamacpp"]
    assert {"cu132", "cu128", "rocm-7.2.4", "rocm-6.4.1", "vulkan"} == set(told)
    assert all(address.startswith("https://") and address.endswith(label) for label, address in told.items())


def test_platforms_have_one_name_each() -> None:
    assert platform_name("linux", "x86_64") == "linux-x86_64"
    assert platform_name("linux", "aarch64") == "linux-arm64"
    assert platform_name("win32", "AMD64") == "windows-x86_64"
    assert platform_name("darwin", "arm64") == "macos-arm64"
