"""Presets: shipped ones are right, one's own go before them, names stay inside the folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from webui.chat.presets import PresetStore
from webui.errors import InvalidSetting, NotFound
from webui.loaders.sampling import SamplingParameters
from webui.paths import Paths


@pytest.fixture
def paths(tmp_path: Path) -> Paths:
    return Paths(home=tmp_path).ensure()


@pytest.fixture
def store(paths: Paths) -> PresetStore:
    return PresetStore(paths)


def test_every_shipped_preset_is_valid_and_described(store: PresetStore) -> None:
    names = store.names()
    assert {"balanced", "precise", "creative", "deterministic"} <= set(names)
    for name in names:
        assert store.get(name)
        assert store.description(name).endswith(".")
        assert store.shipped(name)
        assert not store.own(name)


def test_the_deterministic_preset_is_greedy(store: PresetStore) -> None:
    preset = store.get("deterministic")
    assert (preset.temperature, preset.top_k) == (0, 1)
    assert preset.seed >= 0


def test_saving_covers_a_shipped_preset_and_deleting_uncovers_it(store: PresetStore, paths: Paths) -> None:
    shipped = store.get("balanced")
    mine = SamplingParameters(temperature=1.5, stop="END\\n\nUSER:", mirostat="v2")
    store.save("balanced", mine, description="Mine: hotter")
    assert store.get("balanced") == mine
    assert store.get("balanced").stop_strings() == ("END\n", "USER:")
    assert store.description("balanced") == "Mine: hotter"
    assert store.names().count("balanced") == 1
    store.delete("balanced")
    assert store.get("balanced") == shipped
    assert list(paths.presets.iterdir()) == []


def test_a_shipped_preset_cannot_be_deleted(store: PresetStore, paths: Paths) -> None:
    with pytest.raises(InvalidSetting, match="came with the app"):
        store.delete("creative")
    assert (paths.project_presets / "creative.yaml").is_file()


def test_an_unknown_name_gets_the_nearest_one(store: PresetStore) -> None:
    with pytest.raises(NotFound, match="did you mean creative"):
        store.get("creativ")
    with pytest.raises(NotFound, match="no preset zzz"):
        store.delete("zzz")


@pytest.mark.parametrize(
    "name",
    [
        "",
        ".",
        "..",
        "../x",
        "a/b",
        "a\\b",
        "/etc/passwd",
        ".hidden",
        "a\0b",
        "a\nb",
        "con",
        "NUL.x",
        "x" * 65,
        "a.",
        "a ",
        "a..b",
    ],
)
def test_names_that_could_leave_the_folder_are_refused(store: PresetStore, paths: Paths, name: str) -> None:
    for act in (store.get, store.delete, lambda name: store.save(name, SamplingParameters())):
        with pytest.raises(InvalidSetting, match="cannot be the name"):
            act(name)
    assert list(paths.presets.iterdir()) == []


@pytest.mark.parametrize("name", ["a", "My preset 2", "größer", "llama-3.1+dry", "a_b"])
def test_ordinary_names_are_taken(store: PresetStore, name: str) -> None:
    store.save(name, SamplingParameters(seed=5))
    assert store.get(name).seed == 5
    assert store.names()[-1] == name


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"temperature: hot\n", "temperature is 'hot'"),
        (b"temprature: 1\n", "did you mean temperature"),
        (b"[1, 2\n", "cannot be read"),
        (b"- 1\n", "must hold keys"),
        (b"\xff\n", "cannot be read"),
        (b"#" * 70_000, "larger than"),
    ],
)
def test_a_wrong_file_says_what_is_wrong(store: PresetStore, paths: Paths, content: bytes, message: str) -> None:
    (paths.presets / "mine.yaml").write_bytes(content)
    assert "mine" in store.names()
    with pytest.raises(InvalidSetting, match=message):
        store.get("mine")


def test_an_empty_file_is_all_defaults(store: PresetStore, paths: Paths) -> None:
    (paths.presets / "mine.yaml").write_text("# nothing\n")
    assert store.get("mine") == SamplingParameters()
