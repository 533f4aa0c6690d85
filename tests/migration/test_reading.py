"""Files as programs, people and disks leave them: one sentence each for what cannot be read."""

from __future__ import annotations

from pathlib import Path

import pytest

from webui.migration.reading import Document, Leaf, parse, read, without_extras

FILE = Path("config.json")


def content(text: str | bytes) -> Document:
    return parse(FILE, text.encode() if isinstance(text, str) else text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('{"a": 1,}', {"a": 1}),
        ('{"a": [1, 2, ], /* b */ "c": 3} // end', {"a": [1, 2], "c": 3}),
        ('# top\n{"a": "x // y # z /* w */,}"}', {"a": "x // y # z /* w */,}"}),
        ('{"a": "\\"//", "b": 1,\n}', {"a": '"//', "b": 1}),
        ('\ufeff{"a": 1}', {"a": 1}),
        ('{"a": 1} /* open', {"a": 1}),
    ],
)
def test_comments_and_commas_too_many_are_read(text: str, expected: object) -> None:
    assert content(text).content == expected


def test_places_stay_what_they_are() -> None:
    text = '{\n  // one\n  "a": 1,\n  "b" 2\n}'
    assert len(without_extras(text)) == len(text)
    assert content(text).problem == ("It is not valid JSON: expecting ':' delimiter in line 4, column 7, near \"b\" 2.")


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        (b"", "empty"),
        (b"\xff\x00\x80", "not UTF-8 text (byte 1, line 1)"),
        (b'{\n"a": "\xe4"}', "not UTF-8 text (byte 9, line 2)"),
        (b"[" * 100_000, "nested too deeply"),
        (b'{"a": ' + b"9" * 5000 + b"}", "cannot be read as JSON"),
        (b"{'a': 1}", "line 1, column 2"),
    ],
)
def test_what_cannot_be_read_is_said_in_one_sentence(raw: bytes, said: str) -> None:
    document = content(raw)
    assert said in document.problem
    assert document.problem.endswith(".") and "\n" not in document.problem
    assert list(document.leaves()) == []


def test_values_of_the_same_name_are_all_there() -> None:
    document = content('{"a": 1, "a": {"b": 2, "b": 3}, "a": 4}')
    assert document.content == {"a": 4}
    assert set(document.repeated) == {Leaf(("a",), 1), Leaf(("a", "b"), 2), Leaf(("a", "b"), 3)}


def test_a_file_one_may_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "config.json"
    file.write_text("{}")

    def refused(self: Path) -> bytes:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "read_bytes", refused)
    assert read(file).problem == "You are not permitted to read this file."


def test_files_that_are_none(tmp_path: Path) -> None:
    link = tmp_path / "link.json"
    link.symlink_to("gone.json")
    assert read(link).problem == "This link to gone.json leads nowhere."
    assert read(tmp_path).problem == "This is a folder."
    assert read(tmp_path / "none.json").problem == "This file is not there."
