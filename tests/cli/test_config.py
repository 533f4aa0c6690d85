"""`config`: reading, changing, checking, exporting and importing settings from a terminal."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from webui.cli import main
from webui.cli.ending import FAILED, WRONG_USAGE
from webui.paths import Paths


@pytest.fixture
def paths() -> Paths:
    return Paths.from_environment().ensure()


def run(capsys: pytest.CaptureFixture[str], *arguments: str, status: int = 0) -> str:
    assert main(["config", *arguments]) == status
    captured = capsys.readouterr()
    assert "Traceback" not in captured.err
    return captured.out if status == 0 else captured.out + captured.err


def test_without_a_word_it_lists_what_was_changed(paths: Paths, capsys: pytest.CaptureFixture[str]) -> None:
    assert "Every setting has its default." in run(capsys)
    run(capsys, "set", "limits.queue_length", "7")
    lines = run(capsys).splitlines()
    assert len(lines) == 2
    assert lines[1].split() == ["limits.queue_length", "7", str(paths.settings_file), "next", "load"]


def test_set_get_show_and_reset(paths: Paths, capsys: pytest.CaptureFixture[str]) -> None:
    said = run(capsys, "set", "loaders.xllamacpp.context_size", "2048")
    assert said == (
        "loaders.xllamacpp.context_size is 2048 (backend_config.json); it holds from the next load of a model.\n"
    )
    assert run(capsys, "get", "loaders.xllamacpp.context_size") == "2048\n"
    report = json.loads(run(capsys, "show", "loaders.xllamacpp.context_size", "--json"))
    assert (report["value"], report["source"], report["saved"]) == (2048, "backend_config.json", True)
    assert "whole number" in run(capsys, "show", "loaders.xllamacpp.context_size")
    run(capsys, "set", "loaders.xllamacpp.gpu_layers", "-1")
    assert run(capsys, "get", "loaders.xllamacpp.gpu_layers") == "-1\n"
    run(capsys, "set", "backends.disabled", "ctransformers, llamafile")
    assert json.loads(run(capsys, "get", "backends.disabled", "--json")) == ["ctransformers", "llamafile"]
    run(capsys, "reset", "loaders.xllamacpp.context_size", "loaders.xllamacpp.gpu_layers", "backends.disabled")
    assert "Every setting has its default." in run(capsys)


def test_words_find_settings(paths: Paths, capsys: pytest.CaptureFixture[str]) -> None:
    found = json.loads(run(capsys, "list", "queue", "limits", "--json"))
    assert [one["key"] for one in found] == ["limits.queue_length"]
    assert "No setting contains that." in run(capsys, "list", "qqqq")
    assert len(json.loads(run(capsys, "list", "--all", "--json"))) > 100


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (["set", "limits.queue_lenght", "7"], FAILED, "did you mean limits.queue_length?"),
        (["set", "limits.queue_length", "many"], FAILED, "must be a whole number from 1 to 10 000"),
        (["get", "nothing.at.all"], FAILED, "is not a setting"),
        (["reset"], WRONG_USAGE, "give --all"),
        (["reset", "limits.queue_length", "--all"], WRONG_USAGE, "give --all"),
        (["frobnicate"], WRONG_USAGE, "frobnicate"),
        (["import", "/no/such.zip"], WRONG_USAGE, "There is no file"),
    ],
)
def test_what_is_wrong_is_one_sentence(
    arguments: list[str], status: int, said: str, paths: Paths, capsys: pytest.CaptureFixture[str]
) -> None:
    assert said in run(capsys, *arguments, status=status)
    assert not paths.settings_file.exists()


def test_check_names_each_wrong_key(paths: Paths, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(capsys, "check") == "All settings are understood.\n"
    paths.backend_config.write_text('{"gpu_enable": true, "backends": {"xllamacpp": {"threads": "all"}}}')
    said = run(capsys, "check", status=1)
    assert "did you mean gpu_enabled?" in said
    assert "backends.xllamacpp.threads is 'all' in backend_config.json, and must be a whole number" in said
    assert len(json.loads(run(capsys, "check", "--json", status=1))) == 2
    paths.settings_file.write_text("server: [")
    assert "not valid YAML" in run(capsys, "check", status=1)


def test_restore_mends_a_broken_file(paths: Paths, capsys: pytest.CaptureFixture[str]) -> None:
    run(capsys, "set", "server.port", "7001")
    assert "Nothing to restore" in run(capsys, "restore")
    paths.settings_file.write_text("server: [")
    assert "settings.yaml.broken" in run(capsys, "restore")
    assert run(capsys, "get", "server.port") == "7001\n"


def test_path_names_the_files(paths: Paths, capsys: pytest.CaptureFixture[str]) -> None:
    assert json.loads(run(capsys, "path", "--json"))["backends"] == str(paths.backend_config)
    assert "not there" in run(capsys, "path")


def test_a_secret_is_set_and_never_shown(paths: Paths, capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in (["set", "server.api_key", "hunter2"], ["get", "server.api_key"], ["list"], ["list", "hunter2"]):
        assert "hunter2" not in run(capsys, *arguments)
    assert "hunter2" in paths.settings_file.read_text()


def test_everything_is_reset_only_when_it_is_confirmed_and_a_backup_stays(
    paths: Paths, capsys: pytest.CaptureFixture[str]
) -> None:
    run(capsys, "set", "server.port", "7001")
    run(capsys, "set", "backends.gpu_enabled", "false")
    assert "--yes" in run(capsys, "reset", "--all", status=WRONG_USAGE)
    assert run(capsys, "get", "server.port") == "7001\n"
    run(capsys, "reset", "--all", "--yes")
    assert "Every setting has its default." in run(capsys)
    (backup,) = paths.backups.iterdir()
    run(capsys, "import", str(backup), "--yes")
    assert (run(capsys, "get", "server.port"), run(capsys, "get", "backends.gpu_enabled")) == ("7001\n", "false\n")


def test_export_and_import(
    paths: Paths, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "mine.zip"
    run(capsys, "set", "limits.queue_length", "9")
    run(capsys, "set", "server.api_key", "hunter2")
    assert "left out, as it is a secret: server.api_key" in run(capsys, "export", str(file))
    assert "--force" in run(capsys, "export", str(file), status=WRONG_USAGE)
    monkeypatch.setenv("GGUF_HOME", str(tmp_path / "another"))
    shown = run(capsys, "import", str(file), "--dry-run")
    assert "limits.queue_length  32    9" in shown and "Nothing was changed." in shown
    assert "--yes" in run(capsys, "import", str(file), status=WRONG_USAGE)
    run(capsys, "import", str(file), "--yes")
    assert run(capsys, "get", "limits.queue_length") == "9\n"
    assert run(capsys, "get", "server.api_key") == "\n"
    assert "would" not in run(capsys, "import", str(file), "--yes")
    file.write_bytes(b"no zip")
    assert "not a whole export" in run(capsys, "import", str(file), status=FAILED)
