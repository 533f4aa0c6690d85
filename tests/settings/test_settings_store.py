"""Saving: the right file, comments and strangers' keys kept, nothing written when something is wrong."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path
from typing import Any

import pytest

from tests.settings.test_settings_layers import TOYS
from webui.errors import InvalidSetting
from webui.paths import Paths
from webui.settings import ModelSettings, Settings, SettingsStore


@pytest.fixture
def paths(tmp_path: Path) -> Paths:
    project = tmp_path / "project"
    project.mkdir()
    return Paths(home=tmp_path / "home", project_root=project).ensure()


def store_of(paths: Paths, **arguments: Any) -> SettingsStore:
    arguments = {"environment": {}, "loaders": TOYS, **arguments}
    return SettingsStore(paths, Settings.load(paths, **arguments))


def test_ordinary_keys_go_to_the_users_file_with_its_comments(paths: Paths) -> None:
    paths.settings_file.write_text("# mine\nserver:\n  port: 1  # low\n  host: '127.0.0.1'\nlimits:\n")
    settings = store_of(paths).save({"server.port": 2, "limits.queue_length": 5, "debug": True})
    assert (settings.server.port, settings.limits.queue_length, settings.debug) == (2, 5, True)
    assert settings.source("server.port") == str(paths.settings_file)
    text = paths.settings_file.read_text()
    assert text.startswith("# mine\nserver:\n  port: 2  # low\n  host: '127.0.0.1'\n")
    assert not paths.project_settings.exists()
    assert not paths.backend_config.exists()


@pytest.mark.skipif(os.name != "posix", reason="Windows has no permission bits")
def test_the_users_file_is_private(paths: Paths) -> None:
    assert store_of(paths).save({"server.api_key": "0123"}).server.api_key == "0123"
    assert stat.S_IMODE(paths.settings_file.stat().st_mode) == 0o600


def test_backend_keys_go_to_backend_config_and_unknown_ones_stay(paths: Paths) -> None:
    before = {
        "version": "9",
        "theirs": {"a": [1]},
        "backends": {"toy": {"metal_enabled": True, "parameters": {"context_size": 5}}, "other": {"enabled": True}},
    }
    paths.backend_config.write_text(json.dumps(before))
    settings = store_of(paths).save(
        {
            "backends.preferred_backend": "third",
            "backends.fallback_order": ["second-toy", "toy"],
            "backends.disabled": ["third"],
            "loaders.toy.context_size": 64,
            "loaders.third.dtype": "f16",
        }
    )
    assert settings.backends.preferred_backend == "third"
    assert settings.backends.order == ("second-toy", "toy", "third")
    assert [settings.backends.enabled(name) for name in TOYS] == [True, True, False]
    assert settings.backends.parameters("toy") == {"context_size": 64}
    data = json.loads(paths.backend_config.read_text())
    assert (data["version"], data["theirs"], data["fallback_order"]) == ("9", {"a": [1]}, ["second-toy", "toy"])
    assert data["backends"]["toy"] == {
        "metal_enabled": True,
        "parameters": {"context_size": 64},
        "enabled": True,
        "priority": 2,
    }
    assert data["backends"]["other"] == {"enabled": True}
    assert data["backends"]["third"] == {"dtype": "f16", "enabled": False}
    assert not paths.settings_file.exists()


@pytest.mark.parametrize(
    "changes",
    [
        {"debug": True, "server.port": "many"},
        {"debug": True, "server.prot": 1},
        {"backends.gpu_enabled": False, "loaders.toy.context_size": -1},
    ],
)
def test_nothing_is_written_when_something_is_wrong(paths: Paths, changes: dict[str, Any]) -> None:
    with pytest.raises(InvalidSetting):
        store_of(paths).save(changes)
    assert not paths.settings_file.exists()
    assert not paths.backend_config.exists()


def test_a_broken_file_is_not_overwritten(paths: Paths) -> None:
    store = store_of(paths)
    paths.backend_config.write_text("{")
    with pytest.raises(InvalidSetting, match="not valid JSON"):
        store.save({"backends.gpu_enabled": False})
    assert paths.backend_config.read_text() == "{"


def test_the_command_line_stays_in_force_and_the_save_waits_for_its_end(paths: Paths) -> None:
    saved = store_of(paths, command_line={"server.port": 9}).save({"server.port": 10})
    assert (saved.server.port, saved.source("server.port")) == (9, "the command line")
    assert store_of(paths).load().server.port == 10


def test_reset_lets_the_layers_below_show_through(paths: Paths) -> None:
    paths.project_settings.write_text("server:\n  port: 1\n")
    store = store_of(paths)
    changes = {"server.port": 2, "backends.disabled": ["toy"], "backends.fallback_order": ["third"]}
    store.save({**changes, "loaders.toy.dtype": "f16", "backends.gpu_enabled": False})
    settings = store.reset([*changes, "loaders.toy.dtype", "backends.gpu_enabled", "debug"])
    assert (settings.server.port, settings.source("server.port")) == (1, "settings.yaml")
    assert settings.backends.enabled("toy")
    assert settings.backends.order == tuple(TOYS)
    assert (settings.backends.parameters("toy"), settings.backends.gpu_enabled) == ({}, True)


def test_model_settings_are_per_path(paths: Paths, tmp_path: Path) -> None:
    first, second = tmp_path / "a.gguf", tmp_path / "b.gguf"
    store = ModelSettings(paths)
    assert store.get(first) == {}
    store.save(first, "toy", {"context_size": 7})
    store.save(second, "auto", {})
    assert ModelSettings(paths).get(first) == {"loader": "toy", "parameters": {"context_size": 7}}
    assert store.get(tmp_path / "x" / ".." / "a.gguf")["loader"] == "toy"
    store.forget(first)
    store.forget(first)
    assert (store.get(first), store.get(second)["loader"]) == ({}, "auto")


@pytest.mark.parametrize("text", ["{", "[]"])
def test_broken_model_settings_are_named_and_kept(paths: Paths, tmp_path: Path, text: str) -> None:
    paths.model_settings.write_text(text)
    with pytest.raises(InvalidSetting, match=r"model_settings\.json") as caught:
        ModelSettings(paths).save(tmp_path / "a.gguf", "toy", {})
    assert "Correct or remove" in caught.value.hint
    assert paths.model_settings.read_text() == text
