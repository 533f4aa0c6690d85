"""backend_config.json: one message for each wrong key, strangers' keys kept, the last good copy in need."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as any_of

from tests.settings.test_settings_layers import load
from tests.settings.test_settings_store import store_of
from webui.errors import InvalidSetting
from webui.paths import Paths
from webui.settings import Settings, restore_last_good


@pytest.fixture
def paths(tmp_path: Path) -> Paths:
    project = tmp_path / "project"
    project.mkdir()
    return Paths(home=tmp_path / "home", project_root=project).ensure()


def with_file(paths: Paths, content: Any) -> Settings:
    paths.backend_config.write_text(content if isinstance(content, str) else json.dumps(content))
    return load(paths)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({"gpu_enable": True}, "gpu_enable in backend_config.json is not a setting; did you mean gpu_enabled?"),
        ({"theirs": 1}, "theirs in backend_config.json is not a setting"),
        ({"gpu_enabled": "maybe"}, "gpu_enabled is 'maybe' in backend_config.json, and must be true or false"),
        ({"preferred_backend": "tird"}, "names tird, which is not a backend; did you mean third?"),
        ({"fallback_order": ["toi"]}, "names toi, which is not a backend; did you mean toy?"),
        ({"fallback_order": 3}, "fallback_order is 3 in backend_config.json, and must be a list of names"),
        ({"backends": [1]}, "backends is [1] in backend_config.json, and must be an object with the names of backends"),
        ({"backends": {"toy": 3}}, "backends.toy is 3 in backend_config.json, and must be an object"),
        (
            {"backends": {"second_toy": {"enabled": False, "priority": 1, "context_size": 5, "dtype": "f16"}}},
            "backends.second_toy in backend_config.json is not a backend; did you mean backends.second-toy?",
        ),
        (
            {"backends": {"toy": {"contxt_size": 5}}},
            "backends.toy.contxt_size in backend_config.json is not a parameter of toy; did you mean "
            "backends.toy.context_size?",
        ),
        (
            {"backends": {"toy": {"context_size": 9000}}},
            "backends.toy.context_size is 9000 in backend_config.json, and must be a whole number from 0 to 8 192",
        ),
        ({"backends": {"toy": {"parameters": {"context_size": "x"}}}}, "backends.toy.context_size is 'x' in"),
        ({"backends": {"toy": {"torch_dtype": 3}}}, "backends.toy.torch_dtype is 3 in backend_config.json, and must"),
        ({"backends": {"toy": {"enabled": "no"}}}, "backends.toy.enabled is 'no' in backend_config.json, and must be"),
        ({"backends": {"toy": {"priority": True}}}, "backends.toy.priority is True in backend_config.json, and must"),
        ({"backends": {"toy": {"priority": 10**400}}}, "backends.toy.priority is 1000"),
        ({"backends": {"toy": {"parameters": []}}}, "backends.toy.parameters is [] in backend_config.json, and must"),
        ('{"gpu_enabled": true, "gpu_enabled": false}', "gpu_enabled stands twice in backend_config.json"),
        (" ", "backend_config.json is empty"),
        ('{"gpu_enabled": ' + "9" * 5000 + "}", "backend_config.json cannot be read"),
    ],
)
def test_each_wrong_key_has_one_message(paths: Paths, content: Any, said: str) -> None:
    (problem,) = with_file(paths, content).problems
    assert problem.message.startswith(said) or said in problem.message
    assert problem.hint


def test_several_wrong_keys_are_several_messages_and_the_rest_holds(paths: Paths) -> None:
    settings = with_file(
        paths,
        {
            "version": "1.1.0",
            "gpu_enabled": False,
            "fallback_enabled": 7,
            "extra": {},
            "backends": {"toy": {"context_size": 64, "dtype": 5}, "nobody": {"context_size": 1}},
        },
    )
    assert [problem.facts["key"] for problem in settings.problems] == [
        "extra",
        "backends.nobody",
        "backends.fallback_enabled",
        "loaders.toy.dtype",
    ]
    assert (settings.backends.gpu_enabled, settings.backends.fallback_enabled) == (False, True)
    assert settings.backends.parameters("toy") == {"context_size": 64}


def test_what_is_not_understood_is_kept_when_a_setting_is_saved(paths: Paths) -> None:
    content = {
        "version": "7",
        "extra": {"deep": [1, None]},
        "odd": "\ud800",
        "backends": {"toy": {"their_key": 1}, "nobody": {"x": 1}, "third": 5},
    }
    paths.backend_config.write_text(json.dumps(content))
    store_of(paths).save({"backends.gpu_enabled": False, "loaders.toy.context_size": 64})
    after = json.loads(paths.backend_config.read_text())
    assert after == {
        **content,
        "gpu_enabled": False,
        "backends": {"toy": {"their_key": 1, "context_size": 64}, "nobody": {"x": 1}, "third": 5},
    }
    with pytest.raises(InvalidSetting, match=r"backends\.third is 5"):
        store_of(paths).save({"loaders.third.dtype": "f16"})
    assert json.loads(paths.backend_config.read_text()) == after


names = any_of.sampled_from(["toy", "nobody", "context_size", "torch_dtype", "enabled", "priority", "parameters", "x"])
contents = any_of.recursive(
    any_of.none() | any_of.booleans() | any_of.integers() | any_of.floats() | any_of.text(max_size=5),
    lambda inner: (
        any_of.lists(inner, max_size=3) | any_of.dictionaries(names | any_of.text(max_size=4), inner, max_size=4)
    ),
    max_leaves=12,
)
top = any_of.sampled_from(["preferred_backend", "gpu_enabled", "fallback_order", "backends", "version", "y"])


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=any_of.dictionaries(top, contents, max_size=5))
def test_whatever_the_file_holds_the_app_starts_and_a_save_keeps_what_it_does_not_change(
    paths: Paths, content: dict[str, Any]
) -> None:
    paths.backend_config.write_text(json.dumps(content))
    read = load(paths)
    assert all(problem.message and problem.hint for problem in read.problems)
    store_of(paths).save({"backends.fallback_enabled": False})
    after = json.loads(paths.backend_config.read_text())
    assert not after.pop("fallback_enabled")
    assert json.dumps(after) == json.dumps(content), "NaN is not equal to itself, but written the same"


def test_a_name_of_the_shared_form_gives_way_to_the_saved_one(paths: Paths) -> None:
    paths.backend_config.write_text('{"backends": {"toy": {"dtype": "a", "parameters": {"torch_dtype": "b"}}}}')
    assert store_of(paths).save({"loaders.toy.dtype": "c"}).backends.parameters("toy") == {"dtype": "c"}
    paths.backend_config.write_text('{"backends": {"toy": {"parameters": {"torch_dtype": "b"}}}}')
    assert store_of(paths).reset(["loaders.toy.dtype"]).backends.parameters("toy") == {}


# --- the last good copy -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["{", "", "[]", "\x00" * 300, "{'a': 1}"])
def test_a_broken_file_gives_way_to_its_last_good_copy_and_is_kept(paths: Paths, text: str) -> None:
    store_of(paths).save({"loaders.toy.context_size": 64, "backends.gpu_enabled": False})
    paths.backend_config.write_text(text)
    settings = load(paths)
    assert settings.backends.parameters("toy") == {"context_size": 64}
    assert settings.source("loaders.toy.context_size") == "backend_config.json.last-good"
    (problem,) = settings.problems
    assert "backend_config.json.last-good of 20" in problem.message
    assert paths.backend_config.read_text() == text, "reading changes nothing"
    settings = store_of(paths).save({"loaders.toy.context_size": 65})
    assert (settings.problems, settings.backends.gpu_enabled) == ((), False)
    assert settings.backends.parameters("toy") == {"context_size": 65}
    assert (paths.home / "backend_config.json.broken").read_text() == text


def test_files_that_break_again_are_all_kept(paths: Paths) -> None:
    store = store_of(paths)
    store.save({"backends.gpu_enabled": False})
    for text in ("{1", "{2", "{1", "{3"):
        paths.backend_config.write_text(text)
        store.save({"backends.gpu_enabled": False})
    kept = sorted(paths.home.glob("backend_config.json.broken*"))
    assert [file.read_text() for file in kept] == ["{1", "{2", "{3"]


def test_an_edit_by_hand_becomes_the_last_good_copy_when_it_is_noticed(paths: Paths) -> None:
    store = store_of(paths)
    paths.backend_config.write_text('{"gpu_enabled": false}')
    paths.settings_file.write_text("server:\n  port: 5\n")
    store.remember_good()
    paths.backend_config.write_text("{")
    store.remember_good()
    assert not load(paths).backends.gpu_enabled
    assert (paths.home / "settings.yaml.last-good").read_text() == "server:\n  port: 5\n"


def test_a_broken_copy_is_no_help_and_nothing_is_written(paths: Paths) -> None:
    store = store_of(paths)
    store.save({"backends.gpu_enabled": False})
    paths.backend_config.write_text("{")
    (paths.home / "backend_config.json.last-good").write_text("{")
    (problem,) = load(paths).problems
    assert "not valid JSON" in problem.message
    with pytest.raises(InvalidSetting, match="not valid JSON"):
        store.save({"backends.gpu_enabled": True})
    assert paths.backend_config.read_text() == "{"


def test_a_copy_that_cannot_be_written_does_not_keep_a_setting_from_being_saved(paths: Paths) -> None:
    (paths.home / "backend_config.json.last-good").mkdir()
    assert not store_of(paths).save({"backends.gpu_enabled": False}).backends.gpu_enabled
    assert json.loads(paths.backend_config.read_text()) == {"gpu_enabled": False}


def test_restore_brings_both_files_back_and_keeps_the_broken_ones(paths: Paths) -> None:
    store = store_of(paths)
    store.save({"backends.gpu_enabled": False, "server.port": 5})
    assert restore_last_good(paths) == {}
    paths.backend_config.write_text("{")
    paths.settings_file.write_text("server: [")
    restored = restore_last_good(paths)
    assert [file.name for file in restored] == ["settings.yaml", "backend_config.json"]
    assert [copy.read_text() for copy in restored.values()] == ["server: [", "{"]
    settings = load(paths)
    assert (settings.server.port, settings.backends.gpu_enabled, settings.problems) == (5, False, ())


def test_a_file_of_another_encoding_or_of_great_size_is_broken_too(paths: Paths) -> None:
    store_of(paths).save({"backends.gpu_enabled": False})
    for content in ('{"gpu_enabled": true}'.encode("utf-16"), b" " * (17 << 20)):
        paths.backend_config.write_bytes(content)
        settings = load(paths)
        assert (settings.backends.gpu_enabled, len(settings.problems)) == (False, 1)
    paths.backend_config.write_bytes(b"\xef\xbb\xbf" + b'{"gpu_enabled": true}')
    assert (load(paths).backends.gpu_enabled, load(paths).problems) == (True, ())
