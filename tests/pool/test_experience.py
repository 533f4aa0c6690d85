"""What was learnt about a file holds as long as file, machine and engine are the same, and not longer."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from webui.models.facts import ModelFacts, ModelFormat
from webui.planning.recovery import Known
from webui.pool import experience as experience_module
from webui.pool.experience import Experience

WORKED = Known("toy", {"gpu_layers": -1}, {"gpu_layers": 12}, True, host_available=8 << 30, at=2.0)
FAILED = Known("toy", {"gpu_layers": -1}, {"gpu_layers": -1}, False, "device_out_of_memory", "Full.", at=1.0)
VERSIONS = {"toy": "1.0", "other": "2.0"}


def model(folder: Path, name: str = "model") -> ModelFacts:
    files = tuple(folder / f"{name}-{part}.gguf" for part in (1, 2))
    for file in files:
        file.write_bytes(b"weights")
    return ModelFacts(files[0], ModelFormat.GGUF, files, 14, name)


def opened(folder: Path, machine: str = "this one") -> Experience:
    return Experience(folder / "experience.json", lambda: machine)


def test_what_was_learnt_is_there_after_a_restart(tmp_path: Path) -> None:
    facts = model(tmp_path)
    first = opened(tmp_path)
    for known in (FAILED, WORKED):
        first.remember(facts, "1.0", known)
    assert first.recall(facts, VERSIONS) == opened(tmp_path).recall(facts, VERSIONS) == (FAILED, WORKED)
    assert opened(tmp_path).recall(model(tmp_path, "another"), VERSIONS) == ()


def _touch(facts: ModelFacts) -> None:
    os.utime(facts.files[1], ns=(1, 1))


def _grow(facts: ModelFacts) -> None:
    status = facts.files[1].stat()
    facts.files[1].write_bytes(b"other weights")
    os.utime(facts.files[1], ns=(status.st_atime_ns, status.st_mtime_ns))


def _remove(facts: ModelFacts) -> None:
    facts.files[1].unlink()


@pytest.mark.parametrize("change", [_touch, _grow, _remove])
def test_a_changed_file_is_another_file(tmp_path: Path, change: Callable[[ModelFacts], None]) -> None:
    facts = model(tmp_path)
    opened(tmp_path).remember(facts, "1.0", WORKED)
    change(facts)
    assert opened(tmp_path).recall(facts, VERSIONS) == ()


def test_a_changed_machine_or_engine_forgets_for_good(tmp_path: Path) -> None:
    facts = model(tmp_path)
    opened(tmp_path).remember(facts, "1.0", WORKED)
    assert opened(tmp_path, "with a new GPU").recall(facts, VERSIONS) == ()
    assert opened(tmp_path).recall(facts, VERSIONS) == ()
    opened(tmp_path).remember(facts, "1.0", WORKED)
    opened(tmp_path).remember(facts, "2.0", replace(WORKED, loader="other"))
    assert [known.loader for known in opened(tmp_path).recall(facts, {"toy": "1.1", "other": "2.0"})] == ["other"]
    assert [known.loader for known in opened(tmp_path).recall(facts, VERSIONS)] == ["other"]


def test_a_loader_that_is_not_asked_about_keeps_its_entries(tmp_path: Path) -> None:
    facts = model(tmp_path)
    opened(tmp_path).remember(facts, "1.0", WORKED)
    assert opened(tmp_path).recall(facts, {"other": "2.0"}) == ()
    assert opened(tmp_path).recall(facts, VERSIONS) == (WORKED,)


def test_the_same_attempt_is_kept_once_as_it_last_ended(tmp_path: Path) -> None:
    facts = model(tmp_path)
    kept = opened(tmp_path)
    later = replace(FAILED, worked=True, code="", message="", at=9.0)
    for known in (FAILED, WORKED, later):
        kept.remember(facts, "1.0", known)
    assert kept.recall(facts, VERSIONS) == (WORKED, later)


def test_forget(tmp_path: Path) -> None:
    one, two = model(tmp_path, "one"), model(tmp_path, "two")
    kept = opened(tmp_path)
    kept.remember(one, "1.0", WORKED)
    kept.remember(two, "1.0", WORKED)
    kept.forget(one)
    assert opened(tmp_path).recall(one, VERSIONS) == ()
    assert opened(tmp_path).recall(two, VERSIONS) == (WORKED,)


def test_it_is_bounded_in_files_and_attempts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(experience_module, "MOST_FILES", 3)
    monkeypatch.setattr(experience_module, "MOST_PER_LOADER", 4)
    kept = opened(tmp_path)
    facts = [model(tmp_path, f"model{number}") for number in range(5)]
    for one in facts:
        for layers in range(6):
            kept.remember(one, "1.0", replace(WORKED, parameters={"gpu_layers": layers}))
    assert [len(opened(tmp_path).recall(one, VERSIONS)) for one in facts] == [0, 0, 4, 4, 4]
    assert opened(tmp_path).recall(facts[-1], VERSIONS)[-1].parameters == {"gpu_layers": 5}


def test_two_apps_with_one_home_keep_both(tmp_path: Path) -> None:
    one, two = model(tmp_path, "one"), model(tmp_path, "two")
    first, second = opened(tmp_path), opened(tmp_path)
    first.remember(one, "1.0", WORKED)
    second.remember(two, "1.0", WORKED)
    assert first.recall(two, VERSIONS) == (WORKED,)
    assert opened(tmp_path).recall(one, VERSIONS) == (WORKED,)


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{",
        "[]",
        "[" * 100_000,
        '{"version": 99, "files": {}}',
        '{"version": 1, "files": {"a": [1, {"known": {}}]}}',
    ],
)
def test_a_file_that_cannot_be_used_is_begun_anew(tmp_path: Path, content: str) -> None:
    facts = model(tmp_path)
    (tmp_path / "experience.json").write_text(content)
    kept = opened(tmp_path)
    assert kept.recall(facts, VERSIONS) == ()
    kept.remember(facts, "1.0", WORKED)
    assert opened(tmp_path).recall(facts, VERSIONS) == (WORKED,)
    assert json.loads((tmp_path / "experience.json").read_text())["version"] == 1


def test_where_nothing_can_be_written_it_is_said_once_and_memory_serves(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "a file").write_text("")
    facts = model(tmp_path)
    kept = Experience(tmp_path / "a file" / "experience.json", lambda: "this one")
    with caplog.at_level(logging.WARNING):
        for known in (FAILED, WORKED):
            kept.remember(facts, "1.0", known)
    assert kept.recall(facts, VERSIONS) == (FAILED, WORKED)
    assert caplog.text.count("not kept on disk") == 1


def test_in_memory_alone(tmp_path: Path) -> None:
    facts = model(tmp_path)
    kept = Experience(None, lambda: "this one")
    kept.remember(facts, None, WORKED)
    assert kept.recall(facts, {"toy": None}) == (WORKED,)
    assert kept.recall(facts, {"toy": "1.0"}) == ()


def test_the_machine_is_asked_once_and_only_when_needed(tmp_path: Path) -> None:
    asked: list[int] = []

    def machine() -> str:
        asked.append(1)
        return "this one"

    kept = Experience(tmp_path / "experience.json", machine)
    facts = model(tmp_path)
    assert kept.recall(facts, VERSIONS) == ()
    assert asked == []
    kept.remember(facts, "1.0", WORKED)
    assert kept.recall(facts, VERSIONS) == (WORKED,)
    assert asked == [1]


def test_a_path_that_is_no_text_is_remembered_like_any_other(tmp_path: Path) -> None:
    facts = model(tmp_path, os.fsdecode(b"caf\xe9"))
    opened(tmp_path).remember(facts, "1.0", FAILED)
    assert opened(tmp_path).recall(facts, VERSIONS) == (FAILED,)
