"""Atomic writing: the old file or the new one, never a piece."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from webui.files import write_atomically

posix = pytest.mark.skipif(os.name != "posix", reason="Windows has no permission bits")


def test_writes_text_and_bytes_and_makes_the_folder(tmp_path: Path) -> None:
    target = tmp_path / "new" / "folder" / "note.txt"
    write_atomically(target, "grüße\n")
    assert target.read_bytes() == "grüße\n".encode()
    write_atomically(target, b"\x00\xff")
    assert target.read_bytes() == b"\x00\xff"
    assert list(target.parent.iterdir()) == [target]


def test_a_failed_write_keeps_the_old_file_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "note.txt"
    target.write_text("old")

    def full_disk(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full_disk)
    with pytest.raises(OSError, match="No space left"):
        write_atomically(target, "new")
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_a_folder_in_the_way_is_refused(tmp_path: Path) -> None:
    target = tmp_path / "note"
    target.mkdir()
    with pytest.raises(OSError):
        write_atomically(target, "new")
    assert list(tmp_path.iterdir()) == [target]


@posix
def test_permissions_are_kept_and_secrets_are_private(tmp_path: Path) -> None:
    script = tmp_path / "script"
    script.write_text("old")
    script.chmod(0o755)
    write_atomically(script, "new")
    assert stat.S_IMODE(script.stat().st_mode) == 0o755
    write_atomically(script, "secret", private=True)
    assert stat.S_IMODE(script.stat().st_mode) == 0o600


@posix
def test_a_link_stays_a_link(tmp_path: Path) -> None:
    (tmp_path / "real").write_text("old")
    link = tmp_path / "link"
    link.symlink_to("real")
    write_atomically(link, "new")
    assert link.is_symlink()
    assert (tmp_path / "real").read_text() == "new"
