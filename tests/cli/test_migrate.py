"""`migrate`: plan, doing, undoing, and what is written where."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from webui.cli import main
from webui.cli.ending import FAILED, WRONG_USAGE
from webui.paths import Paths

FLAT = {"n_ctx": 8192, "use_gpu": False, "window_size": [1, 2]}


@pytest.fixture
def older() -> Path:
    file = Paths.from_environment().ensure().home / "config.json"
    file.write_text(json.dumps(FLAT))
    return file


def shown(capsys: pytest.CaptureFixture[str], *arguments: str, status: int = 0) -> str:
    assert main(["migrate", *arguments]) == status
    said = capsys.readouterr()
    return said.err if status else said.out


def test_without_older_files_there_is_nothing_to_do(capsys: pytest.CaptureFixture[str]) -> None:
    assert shown(capsys) == "No older files were found.\nNothing to do.\n"


def test_a_dry_run_shows_every_value_and_changes_nothing(older: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = shown(capsys, "--dry-run")
    assert f"1. {older} (settings of the app)" in out
    assert "use_gpu = false → backends.gpu_enabled = false" in out
    assert "window_size = [1, 2] · a page in a browser has no window of its own" in out
    assert out.endswith("3 values: 2 carried over, 0 already so, 1 not carried over.\nNothing was changed.\n")
    assert not Paths.from_environment().backups.exists()


def test_done_then_nothing_to_do_then_undone(older: Path, capsys: pytest.CaptureFixture[str]) -> None:
    paths = Paths.from_environment()
    assert "Undo it with: python3 app.py migrate --rollback" in shown(capsys)
    assert json.loads(paths.backend_config.read_text())["gpu_enabled"] is False
    assert shown(capsys).endswith("Nothing to do.\n")
    assert "is undone: every file is as it was before." in shown(capsys, "--rollback")
    assert not paths.backend_config.exists()
    assert "There is no migration to undo" in shown(capsys, "--rollback", status=FAILED)


def test_as_json(older: Path, capsys: pytest.CaptureFixture[str]) -> None:
    planned = json.loads(shown(capsys, "--json", "--dry-run"))
    assert planned["result"] == "planned"
    done = json.loads(shown(capsys, "--json"))
    assert (done["result"], done["lines"]) == ("done", planned["lines"])
    assert Path(done["backup"]).is_dir()
    assert json.loads(shown(capsys, "--json"))["result"] == "nothing to do"
    assert json.loads(shown(capsys, "--rollback", "--json"))["result"] == "undone"


def test_files_that_are_named_go_first(older: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = tmp_path / "elsewhere.txt"
    other.write_text('{"n_ctx": 16384}')
    out = json.loads(shown(capsys, "--json", "--dry-run", str(other)))
    assert [source["file"] for source in out["sources"]] == [str(other), str(older)]
    assert "n_ctx in elsewhere.txt goes before it with 16384" in out["lines"][1]["reason"]


def test_a_changed_file_is_not_undone_without_force(older: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shown(capsys)
    Paths.from_environment().backend_config.write_text("{}")
    said = shown(capsys, "--rollback", status=FAILED)
    assert "backend_config.json" in said and "--force" in said
    shown(capsys, "--rollback", "--force")
    assert not Paths.from_environment().backend_config.exists()


@pytest.mark.parametrize("arguments", [["--rollback", "--dry-run"], ["--force"], ["nowhere.json"]])
def test_wrong_usage(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert shown(capsys, *arguments, status=WRONG_USAGE)
