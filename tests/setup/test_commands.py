"""The command `setup`: what it prints, its exit status, and that ending it ends what it started."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from tests.builders.package_index import PackageIndex
from tests.builders.wheels import build_wheel
from tests.setup.test_backends import machine
from webui.cli.application import main
from webui.errors import NotFound
from webui.loaders import LOADERS
from webui.paths import PROJECT_ROOT
from webui.setup.commands import Asked, run_setup
from webui.setup.installing import Installer

INSTALLER = Installer(machine)
INSTALL = """
import sys
from pathlib import Path
from tests.setup.driver import hardware
from tests.setup.tiny_backend import SPEC
from webui.setup import backends
from webui.setup.commands import run_setup
from webui.setup.installing import Installer

backends.REQUIREMENTS = Path(sys.argv[1])
sys.exit(run_setup(["tiny"], Installer(hardware, {"tiny": SPEC})))
"""


def test_check_reports_and_changes_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_setup(["all"], INSTALLER, asked=Asked.CHECK, as_json=True) == 0
    report = {state["name"]: state for state in json.loads(capsys.readouterr().out)}
    assert list(report) == list(LOADERS)
    assert report["xllamacpp"]["installed"]
    assert report["xllamacpp"]["error"] is None
    assert (report["xllamacpp"]["faults"], report["xllamacpp"]["next"]) == ([], None)
    assert report["transformers"]["suits"] == "the processor"


def test_without_names_the_state_is_a_table(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_setup([], INSTALLER) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == list(LOADERS)


def test_a_plan_as_json_and_in_words(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_setup(["all"], INSTALLER, asked=Asked.PLAN, as_json=True) == 0
    plans = {plan["name"]: plan for plan in json.loads(capsys.readouterr().out)}
    assert list(plans) == [name for name, spec in LOADERS.items() if spec.distributions]
    assert plans["xllamacpp"]["action"] == "nothing"
    assert run_setup(["xllamacpp"], INSTALLER, asked=Asked.PLAN) == 0
    assert capsys.readouterr().out.startswith("xllamacpp is installed as it should be.\nBuild: for the processor")


def test_rolling_back_without_a_version_from_before(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_setup(["xllamacpp"], INSTALLER, asked=Asked.ROLL_BACK) == 1
    assert "No earlier version of xllamacpp is kept." in capsys.readouterr().err


@pytest.mark.parametrize("words", [["--check", "--plan"], ["--repair"], ["--rollback"]])
def test_switches_that_cannot_be_meant(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["setup", *words]) == 2
    assert capsys.readouterr().err.startswith("Error: ")


def test_an_unknown_backend_is_named() -> None:
    with pytest.raises(NotFound, match="no backend called nothing"):
        run_setup(["nothing"], INSTALLER, asked=Asked.CHECK)


def test_one_that_fails_gives_a_status_and_its_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_setup(["llamafile"], INSTALLER, asked=Asked.REPAIR, as_json=True) == 1
    said = capsys.readouterr()
    assert json.loads(said.out)[0]["error"]["code"] == "setup_failed"
    assert said.err.startswith("Error: ")


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_ending_the_command_ends_pip(tmp_path: Path, number: int) -> None:
    build_wheel(tmp_path / "wheels", "tiny-engine")
    (tmp_path / "tiny.txt").write_text("tiny-engine==1.0\n")
    with PackageIndex(tmp_path / "wheels") as index:
        index.gate.clear()
        command = subprocess.Popen(
            [sys.executable, "-c", INSTALL, str(tmp_path)],
            cwd=PROJECT_ROOT,
            stderr=subprocess.PIPE,
            env={**os.environ, "PIP_CONFIG_FILE": os.devnull, "PIP_NO_CACHE_DIR": "1", "PIP_INDEX_URL": index.url},
        )
        assert index.waiting.wait(60)
        pip = psutil.Process(command.pid).children(recursive=True)
        assert pip
        command.send_signal(number)
        command.communicate()
        gone, alive = psutil.wait_procs(pip, timeout=20)
        assert not alive
        assert len(gone) == len(pip)
