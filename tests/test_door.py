"""The first start, as a person meets it: real processes, a real virtual environment, a package index on loopback."""

from __future__ import annotations

import ast
import json
import os
import runpy
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.builders.package_index import PackageIndex
from tests.builders.wheels import build_wheel
from tests.door import ROOT, Door, answer, make_door

CLOSED_INDEX = "http://127.0.0.1:1/simple"
"""Nothing listens there: what a machine without a network looks like to pip."""
PATIENCE = 60.0
posix_only = pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")


@pytest.fixture
def index(tmp_path: Path) -> Iterator[PackageIndex]:
    wheels = tmp_path / "wheels"
    build_wheel(wheels, "tiny-page")
    build_wheel(wheels, "tiny-engine")
    build_wheel(wheels, "tiny-engine", "2.0")
    with PackageIndex(wheels) as running:
        yield running


@pytest.fixture
def door(tmp_path: Path, index: PackageIndex) -> Door:
    return make_door(tmp_path / "app", index.url)


def test_the_first_start_sets_up_and_the_second_needs_no_network(door: Door, index: PackageIndex) -> None:
    first = door.run("models", "--json")
    said = answer(first)
    assert first.returncode == 0
    assert Path(said["prefix"]) == door.root / ".venv"
    assert said["arguments"] == ["models", "--json"]
    assert said["versions"] == {"tiny-page": "1.0", "tiny-engine": "1.0"}
    assert "First start" in first.stderr
    assert "100%" in first.stderr
    assert "Successfully installed" in (door.root / ".venv" / "setup.log").read_text()

    fetched = len(index.served)
    second = door.run("--fail", PIP_INDEX_URL=CLOSED_INDEX)
    assert answer(second)["prefix"] == said["prefix"]
    assert second.returncode == 7
    assert second.stderr == ""
    assert len(index.served) == fetched


def test_changed_pins_are_installed_by_the_next_start(door: Door) -> None:
    answer(door.run())
    door.requirements.write_text(door.requirements.read_text().replace("tiny-engine==1.0", "tiny-engine==2.0"))
    changed = door.run()
    assert answer(changed)["versions"]["tiny-engine"] == "2.0"
    assert "pinned packages have changed" in changed.stderr


@posix_only
@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupted_set_up_continues(door: Door, index: PackageIndex, number: int, status: int) -> None:
    index.gate.clear()
    process = door.start()
    assert index.waiting.wait(PATIENCE)
    process.send_signal(number)
    _, errors = process.communicate()
    assert process.returncode == status
    assert "Traceback" not in errors
    index.gate.set()
    again = door.run()
    assert again.returncode == 0
    assert "did not finish; it goes on now" in again.stderr
    assert answer(again)["versions"] == {"tiny-page": "1.0", "tiny-engine": "1.0"}


@posix_only
def test_a_killed_set_up_continues(door: Door, index: PackageIndex) -> None:
    index.gate.clear()
    process = door.start()
    assert index.waiting.wait(PATIENCE)
    process.kill()
    process.communicate()
    index.gate.set()
    again = door.run()
    assert again.returncode == 0
    assert "did not finish" in again.stderr
    assert answer(again)["versions"]["tiny-page"] == "1.0"


def test_two_starts_at_once_set_up_once(door: Door, index: PackageIndex) -> None:
    index.gate.clear()
    first = door.start()
    assert index.waiting.wait(PATIENCE)
    second = door.start()
    assert second.stderr is not None
    assert "waiting for it" in second.stderr.readline()
    index.gate.set()
    for process in (first, second):
        output, errors = process.communicate()
        assert process.returncode == 0, errors
        assert json.loads(output)["versions"]["tiny-page"] == "1.0"
    assert sorted(index.served) == sorted(set(index.served))


def test_without_a_network_one_sentence_says_so(door: Door) -> None:
    failed = door.run(PIP_INDEX_URL=CLOSED_INDEX)
    assert failed.returncode == 1
    assert "Error: Installing failed: the package index cannot be reached." in failed.stderr
    assert "Hint: Check the network connection" in failed.stderr
    assert "Traceback" not in failed.stderr
    assert failed.stdout == ""
    assert answer(door.run())["versions"]["tiny-page"] == "1.0"


def test_a_version_the_index_lacks_is_named(door: Door) -> None:
    door.requirements.write_text("tiny-page==9.9\n")
    failed = door.run()
    assert failed.returncode == 1
    assert "Installing tiny-page==9.9 failed: the package index has no suitable version" in failed.stderr


def test_help_before_the_set_up_installs_nothing(door: Door, index: PackageIndex) -> None:
    shown = door.run("--help")
    assert shown.returncode == 0
    assert "--no-setup" in shown.stdout
    assert not (door.root / ".venv").exists()
    assert index.served == []


def test_help_after_the_set_up_is_the_commands_own(door: Door) -> None:
    answer(door.run())
    assert answer(door.run("--help"))["arguments"] == ["--help"]


def test_no_setup_uses_the_running_python(door: Door) -> None:
    (door.root / "webui" / "cli.py").write_text("import sys\n\ndef main():\n    print(sys.prefix, *sys.argv[1:])\n")
    done = door.run("--no-setup", "doctor")
    assert done.stdout.split() == [sys.prefix, "doctor"]
    assert not (door.root / ".venv").exists()


def test_no_setup_names_the_missing_package(door: Door) -> None:
    (door.root / "webui" / "cli.py").write_text("import tiny_page\n")
    failed = door.run("--no-setup")
    assert failed.returncode == 1
    assert "This Python lacks the package 'tiny_page'" in failed.stderr
    assert "pip install -r requirements.txt" in failed.stderr


@posix_only
def test_an_environment_whose_python_is_gone_is_made_anew(door: Door) -> None:
    answer(door.run())
    python = door.root / ".venv" / "bin" / "python"
    python.unlink()
    python.symlink_to(door.root / "gone")
    again = door.run()
    assert "made anew" in again.stderr
    assert answer(again)["versions"]["tiny-page"] == "1.0"


def test_a_folder_of_somebody_elses_is_not_touched(door: Door) -> None:
    theirs = door.root / ".venv"
    theirs.mkdir()
    (theirs / "notes.txt").write_text("mine")
    failed = door.run()
    assert failed.returncode == 1
    assert "is no Python environment" in failed.stderr
    assert (theirs / "notes.txt").read_text() == "mine"


def test_a_python_without_ensurepip_gets_the_name_of_the_package(door: Door, tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text("import sys\nsys.modules['ensurepip'] = None\n")
    failed = door.run(PYTHONPATH=str(tmp_path))
    assert failed.returncode == 1
    assert "cannot make a virtual environment: its ensurepip module is missing" in failed.stderr
    if sys.platform == "linux":
        assert f"python3.{sys.version_info.minor}-venv" in failed.stderr


@pytest.mark.parametrize("door_wide_open", [["--share"], ["--host", "0.0.0.0"], ["--share", "--auth", "a:b"]])
def test_a_page_for_everybody_is_refused_without_login_and_key(door_wide_open: list[str]) -> None:
    command = [sys.executable, str(ROOT / "app.py"), "--no-setup", *door_wide_open]
    refused = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    assert refused.returncode in (1, 2)
    assert refused.stderr.startswith("Error: ")
    assert "--api-key" in refused.stderr
    assert "Traceback" not in refused.stderr


def test_any_python_3_can_read_the_door_and_is_told_what_it_needs(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ast.parse((ROOT / "app.py").read_text(), feature_version=(3, 4))
    monkeypatch.setattr(sys, "version_info", (3, 9, 1))
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(ROOT / "app.py"), run_name="__main__")
    assert ended.value.code == 1
    assert "needs Python 3.11 or newer, and this is Python 3.9" in capsys.readouterr().err


def test_the_set_up_imports_only_the_standard_library() -> None:
    program = (
        "import sys; sys.path.insert(0, sys.argv[1]); import webui.setup.bootstrap\n"
        "print(*sorted({name.partition('.')[0] for name in sys.modules} - set(sys.stdlib_module_names)))"
    )
    done = subprocess.run([sys.executable, "-I", "-S", "-c", program, str(ROOT)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert set(done.stdout.split()) <= {"__main__", "webui", "_distutils_hack"}


@pytest.mark.skipif(shutil.which("bash") is None, reason="a shell script")
def test_ci_runs_what_the_readme_says(tmp_path: Path) -> None:
    shutil.copytree(ROOT / ".ci", tmp_path / ".ci")
    (tmp_path / "app.py").write_text("import sys\nprint('started with', *sys.argv[1:])\nsys.exit(3)\n")
    done = subprocess.run(["bash", str(tmp_path / ".ci" / "run")], capture_output=True, text=True, env=dict(os.environ))
    assert done.stdout == "started with test\n"
    assert done.returncode == 3
