"""The layers: which wins, where a value came from, and what a wrong one does in each place."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import pytest
from pydantic import Field

from webui.errors import InvalidSetting
from webui.loaders.contract import Loader, LoaderSpec, Verdict
from webui.loaders.parameters import Control, Parameters
from webui.models.facts import ModelFormat
from webui.paths import Paths
from webui.settings import Settings

SECRET = "hunter2-and-more"


class ToyParameters(Parameters):
    context_size: Annotated[int, Field(ge=0, le=8192), Control("Context", "Toy context.", unit="tokens")] = 512
    dtype: Annotated[str, Control("Type", "Toy type.")] = "auto"


def toy(name: str) -> LoaderSpec:
    return LoaderSpec(
        name=name,
        title=name,
        summary="",
        parameters=ToyParameters,
        loader=Loader,
        formats=frozenset({ModelFormat.GGUF}),
        devices=("cpu",),
        samplers=frozenset(),
        can_open=lambda facts: Verdict(True, ""),
    )


TOYS = {"toy": toy("toy"), "second-toy": toy("second-toy"), "third": toy("third")}


@pytest.fixture
def paths(tmp_path: Path) -> Paths:
    project = tmp_path / "project"
    project.mkdir()
    return Paths(home=tmp_path / "home", project_root=project).ensure()


def load(paths: Paths, **arguments: Any) -> Settings:
    arguments = {"environment": {}, "loaders": TOYS, **arguments}
    return Settings.load(paths, **arguments)


def test_built_in_values_are_the_declared_defaults(paths: Paths) -> None:
    settings = load(paths)
    assert (settings.server.host, settings.server.port, settings.server.api_key) == ("127.0.0.1", 7860, "")
    assert settings.backends.preferred_backend == "auto"
    assert settings.backends.order == ("toy", "second-toy", "third")
    assert settings.backends.enabled("toy")
    assert settings.models.directory is None
    assert settings.limits.queue_length == 32
    assert settings.chat.default_preset == "balanced"
    assert settings.debug is False
    assert settings.source("server.port") == "built-in"
    assert settings.problems == ()


def test_each_layer_wins_over_those_before_it(paths: Paths) -> None:
    paths.project_settings.write_text("server:\n  port: 1\n")
    assert (load(paths).server.port, load(paths).source("server.port")) == (1, "settings.yaml")
    paths.settings_file.write_text("server:\n  port: 2\n")
    assert (load(paths).server.port, load(paths).source("server.port")) == (2, str(paths.settings_file))
    settings = load(paths, environment={"GGUF_SERVER_PORT": "3"})
    assert (settings.server.port, settings.source("server.port")) == (3, "GGUF_SERVER_PORT")
    settings = load(paths, environment={"GGUF_SERVER_PORT": "3"}, command_line={"server.port": 4})
    assert (settings.server.port, settings.source("server.port")) == (4, "the command line")


def test_backend_config_stands_between_the_files_and_the_environment(paths: Paths) -> None:
    paths.settings_file.write_text(
        "backends:\n  preferred_backend: third\nloaders:\n  toy:\n    context_size: 16\n    dtype: f16\n"
    )
    entry = {"enabled": False, "priority": 2, "context_size": 32}
    paths.backend_config.write_text(
        json.dumps(
            {
                "preferred_backend": "second-toy",
                "gpu_enabled": False,
                "fallback_enabled": False,
                "backends": {"toy": entry, "third": {"priority": 1, "parameters": {"torch_dtype": "bf16"}}},
            }
        )
    )
    settings = load(paths)
    assert settings.problems == ()
    assert settings.backends.preferred_backend == "second-toy"
    assert (settings.backends.gpu_enabled, settings.backends.fallback_enabled) == (False, False)
    assert settings.backends.order == ("third", "toy", "second-toy")
    assert not settings.backends.enabled("toy")
    assert settings.backends.parameters("toy") == {"context_size": 32, "dtype": "f16"}
    assert settings.backends.parameters("third") == {"dtype": "bf16"}
    assert settings.backends.parameters("second-toy") == {}
    assert settings.source("loaders.toy.context_size") == "backend_config.json"
    forced = load(paths, environment={"GGUF_BACKEND": "toy", "GGUF_GPU_ENABLED": "true", "GGUF_DEBUG": "1"})
    assert (forced.backends.preferred_backend, forced.backends.gpu_enabled, forced.debug) == ("toy", True, True)
    assert forced.source("backends.preferred_backend") == "GGUF_BACKEND"


def test_an_explicit_order_goes_before_priorities(paths: Paths) -> None:
    config = {"fallback_order": ["second-toy"], "backends": {"third": {"priority": 1}}}
    paths.backend_config.write_text(json.dumps(config))
    assert load(paths).backends.order == ("second-toy", "toy", "third")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "limits:\n  queue_length: 0\n",
            "limits.queue_length is 0 in settings.yaml, and must be a whole number from 1",
        ),
        ("limits:\n  queue_length: true\n", "limits.queue_length is True"),
        ("limits:\n  queue_lenght: 3\n", "did you mean limits.queue_length?"),
        ("loaders:\n  toy:\n    metal_enabled: true\n", "loaders.toy.metal_enabled in settings.yaml is not a setting"),
        ("limit:\n  queue_length: 3\n", "limit in settings.yaml is not a setting"),
        ("queue_length: 3\n", "did you mean limits.queue_length?"),
        ("limits: 3\n", "limits in settings.yaml must be a section"),
        ("loaders: 3\n", "loaders in settings.yaml must be a section"),
        ("loaders:\n  toy: 3\n", "loaders.toy in settings.yaml must be a section"),
        ("loaders:\n  toy:\n    context_size: 9000\n", "must be a whole number from 0 to 8 192 (tokens)"),
        ("loaders:\n  toy:\n    context: 9\n", "loaders.toy.context in settings.yaml is not a setting"),
        ("loaders:\n  tooy:\n    context_size: 9\n", "did you mean loaders.toy.context_size?"),
        ("backends:\n  preferred_backend: tird\n", "names tird, which is not a backend; did you mean third?"),
        ("backends:\n  disabled: [nobody]\n", "names nobody, which is not a backend"),
        ("debug: perhaps\n", "debug is 'perhaps' in settings.yaml, and must be true or false"),
    ],
)
def test_a_wrong_value_in_a_file_is_reported_and_left_aside(paths: Paths, text: str, message: str) -> None:
    paths.project_settings.write_text(text)
    settings = load(paths)
    assert len(settings.problems) == 1
    assert message in settings.problems[0].message
    assert settings.limits.queue_length == 32
    assert settings.backends.preferred_backend == "auto"
    assert settings.backends.parameters("toy") == {}


def test_a_file_that_is_not_yaml_stops_the_start_and_names_the_place(paths: Paths) -> None:
    paths.settings_file.write_text("server:\n  port: [1\n")
    with pytest.raises(InvalidSetting, match=r"not valid YAML.* in line 3, column 1"):
        load(paths)
    paths.settings_file.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InvalidSetting, match="cannot be read"):
        load(paths)
    paths.settings_file.write_text("[" * 10_000)
    with pytest.raises(InvalidSetting, match="nested too deeply"):
        load(paths)
    paths.settings_file.write_text("server:\n  port: 1\nserver:\n  port: 2\n")
    with pytest.raises(InvalidSetting, match="duplicate key"):
        load(paths)
    paths.settings_file.write_text("- a\n- b\n")
    with pytest.raises(InvalidSetting, match="must hold sections"):
        load(paths)


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "[]",
        "[" * 100_000,
        '{"backends": 3}',
        '{"backends": {"toy": 3}}',
        '{"backends": {"toy": {"priority": NaN}}}',
        '{"backends": {"toy": {"enabled": "no"}}}',
        '{"backends": {"toy": {"metal_enabled": true}}}',
        '{"gpu_enable": true}',
    ],
)
def test_a_broken_backend_config_is_reported(paths: Paths, text: str) -> None:
    paths.backend_config.write_text(text)
    settings = load(paths)
    assert len(settings.problems) == 1
    assert "backend_config.json" in settings.problems[0].message


def test_a_wrong_value_of_a_protecting_setting_stops_the_start(paths: Paths) -> None:
    paths.settings_file.write_text("server:\n  auth: nocolon\n")
    with pytest.raises(InvalidSetting, match=r"server\.auth"):
        load(paths)
    paths.settings_file.write_text("server:\n  api_key: 0123\n")
    with pytest.raises(InvalidSetting, match=r"server\.api_key") as caught:
        load(paths)
    assert "quotes" in caught.value.hint


def test_an_empty_key_counts_as_not_set(paths: Paths) -> None:
    paths.settings_file.write_text("server:\n  port:\n  auth:\nmodels:\nloaders:\n  toy:\n")
    settings = load(paths, environment={"GGUF_SERVER_PORT": " "})
    assert (settings.server.port, settings.problems) == (7860, ())


@pytest.mark.parametrize(
    "arguments",
    [
        {"command_line": {"server.port": "many"}},
        {"command_line": {"server.prot": 1}},
        {"command_line": {"backends.preferred_backend": "nobody"}},
        {"environment": {"GGUF_GPU_ENABLED": "perhaps"}},
        {"environment": {"GGUF_BACKEND": "nobody"}},
        {"environment": {"GGUF_LOADERS_SECOND_TOY_CONTEXT_SIZE": "9999"}},
    ],
)
def test_the_environment_and_the_command_line_refuse(paths: Paths, arguments: dict[str, Any]) -> None:
    with pytest.raises(InvalidSetting):
        load(paths, **arguments)


def test_the_environment_gives_lists_loader_parameters_and_near_names(paths: Paths) -> None:
    settings = load(
        paths,
        environment={
            "GGUF_BACKENDS_DISABLED": "toy, third",
            "GGUF_LOADERS_SECOND_TOY_CONTEXT_SIZE": "64",
            "GGUF_SERVR_PORT": "1",
            "GGUF_HOME": "/somewhere",
        },
    )
    assert [settings.backends.enabled(name) for name in settings.backends.order] == [False, True, False]
    assert settings.backends.parameters("second-toy") == {"context_size": 64}
    assert [problem.message for problem in settings.problems] == [
        "the environment variable GGUF_SERVR_PORT is not known; did you mean GGUF_SERVER_PORT?"
    ]


def test_loaders_of_extensions_are_checked_once_they_are_known(paths: Paths) -> None:
    paths.project_settings.write_text("loaders:\n  toy:\n    context_size: 99999\n  third:\n    context_size: 7\n")
    early = load(paths, loaders=None, environment={"GGUF_BACKEND": "third"})
    assert early.problems == ()
    late = early.with_loaders(TOYS)
    assert late.backends.parameters("third") == {"context_size": 7}
    assert len(late.problems) == 1
    with pytest.raises(InvalidSetting, match="names third"):
        early.with_loaders({"toy": TOYS["toy"]})


def test_paths_are_taken_from_the_place_that_names_them(paths: Paths, tmp_path: Path) -> None:
    paths.settings_file.write_text("models:\n  directory: here\n")
    assert load(paths).models.directory == paths.home / "here"
    started_in = tmp_path / "shell"
    settings = load(paths, command_line={"models.directory": "here"}, started_in=started_in)
    assert settings.models.directory == started_in / "here"
    settings = load(paths, environment={"GGUF_MODELS_DIRECTORY": "~/m"})
    assert settings.models.directory == Path.home() / "m"


def test_secrets_are_in_no_repr_message_or_listing(paths: Paths) -> None:
    given = {"GGUF_SERVER_API_KEY": SECRET, "GGUF_SERVER_AUTH": f"me:{SECRET}"}
    settings = load(paths, environment=given)
    assert (settings.server.api_key, settings.server.auth) == (SECRET, f"me:{SECRET}")
    assert SECRET not in repr(settings)
    assert SECRET not in str(settings)
    assert SECRET not in str(settings.shown())
    assert settings.shown()["server.api_key"] == "********"
    with pytest.raises(InvalidSetting) as caught:
        load(paths, environment={"GGUF_SERVER_AUTH": SECRET})
    assert SECRET not in str(caught.value.to_dict())


def test_settings_are_frozen(paths: Paths) -> None:
    settings = load(paths)
    with pytest.raises(AttributeError):
        settings.debug = True  # type: ignore[misc]
    with pytest.raises(ValueError, match="frozen"):
        settings.server.port = 1


def test_an_undeclared_key_is_an_error(paths: Paths) -> None:
    settings = load(paths)
    assert settings.value("server.port") == 7860
    for ask in (settings.value, settings.source, settings.declaration):
        with pytest.raises(InvalidSetting, match=r"did you mean server\.port"):
            ask("server.prt")


def test_text_of_the_wrong_form_is_told_its_form_and_not_that_it_must_be_text(paths: Paths) -> None:
    paths.settings_file.write_text("server:\n  auth: a-password-alone\n")
    with pytest.raises(InvalidSetting) as caught:
        load(paths)
    assert "user:password" in caught.value.hint
    assert "a-password-alone" not in f"{caught.value.message} {caught.value.cause} {caught.value.hint}"
