"""The way back, and what stands in it."""

from __future__ import annotations

import errno
import json
import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.migration.conftest import NOW, Laid_, picture
from tests.migration.corpus.layout import Case
from tests.migration.killing import EVERYTHING, state
from webui import files
from webui.chat.conversations import ConversationStore
from webui.errors import InvalidSetting, NotFound, StorageFailed
from webui.loaders import LOADERS
from webui.migration import backup as backups
from webui.migration.backup import State
from webui.migration.carrying import carry
from webui.migration.undoing import ChangedSince, recover, undo

Lay = Callable[[Case], Laid_]


def test_the_backup_holds_every_older_file_as_it_was(laid: Lay) -> None:
    home = laid(EVERYTHING)
    source = home.paths.home / "config.json"
    source.chmod(0o640)
    os.utime(source, ns=(1, 1_600_000_000_123_456_789))
    backup = home.carry().backup
    kept = dict(backup.sources)
    assert set(kept) == {str(document.file) for document in home.survey().documents} | {str(home.paths.backend_config)}
    copy = backup.folder / kept[str(source)].name
    assert copy.read_bytes() == source.read_bytes()
    assert stat.S_IMODE(copy.stat().st_mode) == 0o640
    assert copy.stat().st_mtime_ns == 1_600_000_000_123_456_789
    assert stat.S_IMODE(backup.folder.stat().st_mode) == 0o700


def test_permissions_and_times_come_back(laid: Lay) -> None:
    home = laid(EVERYTHING)
    home.paths.settings_file.chmod(0o604)
    os.utime(home.paths.settings_file, ns=(1, 1_600_000_000_000_000_001))
    before = picture(home.root)
    home.carry()
    undo(home.paths)
    assert picture(home.root) == before


def test_nothing_is_undone_over_what_was_changed_since_unless_insisted(laid: Lay) -> None:
    home = laid(EVERYTHING)
    before = picture(home.root)
    home.carry()
    home.paths.settings_file.write_text("debug: false\n")
    with pytest.raises(ChangedSince, match=r"settings\.yaml"):
        undo(home.paths)
    assert home.paths.settings_file.read_text() == "debug: false\n"
    undone = undo(home.paths, force=True)
    assert picture(home.root) == before
    assert (undone.folder / "discarded" / "settings.yaml").read_text() == "debug: false\n"
    with pytest.raises(NotFound):
        undo(home.paths)


def test_a_file_that_was_deleted_since_comes_back_if_that_is_insisted_on(laid: Lay) -> None:
    home = laid(EVERYTHING)
    before = picture(home.root)
    home.carry()
    home.paths.backend_config.unlink()
    with pytest.raises(ChangedSince, match=r"backend_config\.json"):
        undo(home.paths)
    undo(home.paths, force=True)
    assert picture(home.root) == before


def test_conversations_that_were_gone_on_with_are_not_taken_away(laid: Lay) -> None:
    home = laid(EVERYTHING)
    home.carry()
    store = ConversationStore(home.paths.conversations)
    chat = store.list("tensor")[0]
    store.append(chat.id, "user", "And a vector?")
    store.close()
    with pytest.raises(ChangedSince, match="conversation"):
        undo(home.paths)


def test_with_the_app_running_only_what_came_over_is_taken_out(laid: Lay) -> None:
    home = laid(EVERYTHING)
    store = ConversationStore(home.paths.conversations)
    own = store.create(title="My own")
    home.carry()
    assert {chat.title for chat in store.list()} == {"My own", "Tensors", "two"}
    undo(home.paths)
    assert [chat.id for chat in store.list()] == [own.id]
    store.close()


def test_of_several_migrations_the_latest_is_undone_first(laid: Lay) -> None:
    home = laid(EVERYTHING)
    first = home.carry().backup
    (home.paths.home / "settings.json").write_text(json.dumps({"min_p": 0.33, "seed": 5}))
    middle = picture(home.root)
    (home.paths.home / "app_config.json").write_text(json.dumps({"max_load_time": 77}))
    second = home.carry().backup
    assert second.name != first.name
    assert undo(home.paths).name == second.name
    assert {name: facts for name, facts in picture(home.root).items() if "app_config" not in name} == middle
    assert undo(home.paths).name == first.name


def test_a_full_disk_changes_nothing(laid: Lay, monkeypatch: pytest.MonkeyPatch) -> None:
    home = laid(EVERYTHING)
    before, looked = picture(home.root), state(home)
    found = home.survey()
    replace, count, full_at = Path.replace, 0, 0

    def full(self: Path, target: Path) -> Path:
        nonlocal count
        count += 1
        if count == full_at:
            raise OSError(errno.ENOSPC, "No space left on device")
        return replace(self, target)

    def carry_over() -> None:
        carry(home.paths, found.plan, found.documents, LOADERS, home.settings(), NOW)

    monkeypatch.setattr(files.Path, "replace", full)
    carry_over()
    writes = count
    undo(home.paths)
    for attempt in (1, writes // 3, writes - 4, writes - 2, writes):
        count, full_at = 0, attempt
        with pytest.raises(StorageFailed, match="nothing was changed"):
            carry_over()
        full_at = 0
        assert state(home) == looked
        assert picture(home.root) == before


def test_a_file_changed_while_it_was_prepared_is_not_written_over(laid: Lay, monkeypatch: pytest.MonkeyPatch) -> None:
    home = laid(EVERYTHING)
    put = backups.put

    def meddle(path: Path, *arguments: object, **options: object) -> None:
        put(path, *arguments, **options)  # type: ignore[arg-type]
        if path == home.paths.settings_file:
            home.paths.backend_config.write_text("{}")

    monkeypatch.setattr(backups, "put", meddle)
    content = home.paths.settings_file.read_bytes()
    with pytest.raises(InvalidSetting, match="changed by somebody"):
        home.carry()
    assert home.paths.backend_config.read_text() == "{}"
    assert home.paths.settings_file.read_bytes() == content


def test_a_damaged_copy_is_noticed_and_nothing_is_put_back(laid: Lay) -> None:
    home = laid(EVERYTHING)
    backup = home.carry().backup
    after = home.paths.backend_config.read_bytes()
    (backup.folder / "before" / "backend_config.json").write_bytes(b"{}")
    with pytest.raises(StorageFailed, match="not what was copied"):
        undo(home.paths)
    assert home.paths.backend_config.read_bytes() == after


def test_a_manifest_that_cannot_be_read_keeps_nobody_from_starting(laid: Lay) -> None:
    home = laid(EVERYTHING)
    backup = home.carry().backup
    (backup.folder / "manifest.json").write_text("{")
    assert recover(home.paths) == []
    assert [one for one in backups.all_backups(home.paths) if one.state is State.DONE] == []


def test_the_log_tells_every_value_and_quotes_nobody(laid: Lay) -> None:
    home = laid(EVERYTHING)
    plan = home.survey().plan
    home.carry()
    text = home.paths.migration_log.read_text()
    assert len(text.splitlines()) == len(plan.lines) + 1
    assert "backends.preferred_backend = llamafile" in text
    assert "Answer in one paragraph" not in text
    assert "Tensors" not in text
