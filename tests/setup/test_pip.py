"""Running pip: progress, cancelling, and that nothing it started stays behind."""

from __future__ import annotations

import os
import sys
import threading
from pathlib import Path

import psutil
import pytest

from tests.builders.package_index import PackageIndex
from tests.builders.wheels import build_wheel
from webui.errors import Cancelled, SetupFailed
from webui.setup.pip import PipRun


@pytest.fixture(autouse=True)
def own_pip_configuration(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_CACHE_DIR", "1")


def test_the_share_only_grows_and_ends_at_one(tmp_path: Path) -> None:
    names = [f"tiny-{number}" for number in range(4)]
    for name in names:
        build_wheel(tmp_path / "wheels", name)
    steps: list[tuple[str, float]] = []
    lines: list[str] = []
    target = str(tmp_path / "target")
    with PackageIndex(tmp_path / "wheels") as index:
        run = PipRun(
            sys.executable, ["install", "--index-url", index.url, "--target", target, *names], expected=len(names)
        )
        run.run(lambda text, share: steps.append((text, share or 0.0)), lines.append)
    shares = [share for _, share in steps]
    assert shares == sorted(shares)
    assert shares[0] == 0.0
    assert shares[-1] == 1.0
    assert {"finding tiny-0", "installing 4 packages", "installed"} <= {text for text, _ in steps}
    assert any(text.startswith("fetching tiny_3 (") for text, _ in steps)
    assert any(line.startswith("Successfully installed") for line in lines)


def test_cancelling_ends_pip(tmp_path: Path) -> None:
    build_wheel(tmp_path / "wheels", "tiny")
    with PackageIndex(tmp_path / "wheels") as index:
        index.gate.clear()
        run = PipRun(sys.executable, ["download", "--index-url", index.url, "--dest", str(tmp_path / "to"), "tiny"])
        errors: list[BaseException] = []

        def work() -> None:
            try:
                run.run(lambda text, share: None)
            except Cancelled as error:
                errors.append(error)

        thread = threading.Thread(target=work)
        thread.start()
        assert index.waiting.wait(60)
        run.cancel()
        thread.join(60)
    assert isinstance(errors[0], Cancelled)
    assert not [child for child in psutil.Process().children() if "pip" in child.cmdline()]


def test_a_python_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(SetupFailed, match="could not be started"):
        PipRun(tmp_path / "python", ["--version"]).run(lambda text, share: None)
