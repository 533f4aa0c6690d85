"""Hardware profiles as lines of text, and which of them is in use."""

from __future__ import annotations

from pathlib import Path

import pytest

from webui.errors import InvalidSetting
from webui.paths import Paths
from webui.settings import Settings, SettingsStore
from webui.settings.profiles import Profile, read_profile


@pytest.mark.parametrize(
    ("line", "profile"),
    [
        ("night = cpu", Profile("night", processor=True)),
        ("work=all", Profile("work")),
        ("large card = GPU-8f2c", Profile("large card", ("GPU-8f2c",))),
        ("both = 0 nvidia:1 split 3:1", Profile("both", ("0", "nvidia:1"), split=(3, 1))),
        ("tiny = 0 1 split 0.005:1000", Profile("tiny", ("0", "1"), split=(0.005, 1000))),
        ("even = all split 1:1:0.5", Profile("even", split=(1, 1, 0.5))),
    ],
)
def test_a_line_is_a_profile_and_a_profile_a_line(line: str, profile: Profile) -> None:
    assert read_profile(line) == profile
    assert read_profile(str(profile)) == profile


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("", "is not written as"),
        ("0 1", "is not written as"),
        ("= 0", "is not written as"),
        ("x =", "is not written as"),
        (f"{'x' * 61} = 0", "is not written as"),
        ("quiet = all", "always there"),
        ("x = cpu 0", "names its GPUs wrongly"),
        ("x = 0 0", "names its GPUs wrongly"),
        ("x = cpu split 1", "names its GPUs wrongly"),
        ("x = 0 1 split 3", "one number"),
        ("x = 0 1 split 3:-1", "one number"),
        ("x = 0 1 split 0:0", "one number"),
        ("x = 0 1 split 1e9:1", "one number"),
        ("x = 0 1 split inf:1", "one number"),
        ("x = 0 1 split nan:1", "one number"),
        ("x = 0 1 split three:one", "one number"),
    ],
)
def test_what_is_no_profile_is_refused_with_the_reason(line: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        read_profile(line)


def load(home: Path, **values: object) -> Settings:
    given = {f"hardware.{name}": value for name, value in values.items()}
    return Settings.load(Paths(home).ensure(), environment={}, command_line=given, loaders={})


def test_which_is_in_use(tmp_path: Path) -> None:
    assert load(tmp_path).hardware.in_use() == Profile("")
    assert load(tmp_path, gpus=["1"]).hardware.in_use() == Profile("", ("1",))
    assert load(tmp_path, gpus="0,1").hardware.in_use() == Profile("", ("0", "1"))
    assert load(tmp_path, gpus=["1"], profile="quiet").hardware.in_use().processor
    profiles = ["a = 0", "b = 1"]
    assert load(tmp_path, profiles=profiles, profile="b").hardware.in_use() == Profile("b", ("1",))
    assert [one.name for one in load(tmp_path, profiles=profiles).hardware.known()] == ["all", "quiet", "a", "b"]


def test_two_of_one_name_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidSetting, match=r"hardware\.profiles"):
        load(tmp_path, profiles=["a = 0", "a = 1"])


def test_one_that_is_gone_is_said_and_left_aside(tmp_path: Path) -> None:
    store = SettingsStore(Paths(tmp_path).ensure(), load(tmp_path))
    store.save({"hardware.profiles": ["a = 0"], "hardware.profile": "a", "hardware.gpus": ["1"]})
    settings = store.save({"hardware.profiles": []})
    assert settings.hardware.in_use() == Profile("", ("1",))
    (problem,) = settings.problems
    assert "names a, which is not a hardware profile" in problem.message
    with pytest.raises(InvalidSetting, match="names a, which"):
        load(tmp_path / "other", profile="a")
