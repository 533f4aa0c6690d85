"""Stop strings and split characters: what is shown when, however the text is cut."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from webui.loaders.stopping import StopFilter, Utf8Pieces


def run(stops: list[str], pieces: list[str]) -> tuple[list[str], str | None]:
    stopping = StopFilter(stops)
    shown = [stopping.feed(piece) for piece in pieces]
    return [*shown, stopping.flush()], stopping.stopped


@pytest.mark.parametrize(
    ("stops", "pieces", "shown", "stopped"),
    [
        ([], ["a", "b"], ["a", "b", ""], None),
        (["END"], ["one E", "ND two"], ["one ", "", ""], "END"),
        (["END"], ["one E", "N", "X"], ["one ", "", "ENX", ""], None),
        (["END"], ["one EN"], ["one ", "EN"], None),
        (["END"], ["EEN", "D"], ["E", "", ""], "END"),
        (["aab"], ["aa", "ab"], ["", "a", ""], "aab"),
        (["abcd", "bc"], ["abcd"], ["a", ""], "bc"),
        (["cd", "abcd"], ["abcd"], ["", ""], "abcd"),
        (["\n\n"], ["x\n", "\ny"], ["x", "", ""], "\n\n"),
        (["é"], ["caf", "é!"], ["caf", "", ""], "é"),
        (["", "x"], ["abc"], ["abc", ""], None),
    ],
)
def test_what_is_shown(stops: list[str], pieces: list[str], shown: list[str], stopped: str | None) -> None:
    assert run(stops, pieces) == (shown, stopped)


def test_nothing_is_shown_after_the_stop() -> None:
    stopping = StopFilter(["x"])
    assert stopping.feed("ax") == "a"
    assert stopping.feed("more") == ""
    assert stopping.flush() == ""


words = st.text(alphabet="abc\n", max_size=24)


@given(text=words, stops=st.lists(st.text(alphabet="abc\n", min_size=1, max_size=4), max_size=3), data=st.data())
def test_the_cut_does_not_matter(text: str, stops: list[str], data: st.DataObject) -> None:
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=5)))
    pieces = [text[start:end] for start, end in zip([0, *cuts], [*cuts, len(text)], strict=True)]
    whole, whole_stop = run(stops, [text])
    parts, part_stop = run(stops, pieces)
    assert ("".join(parts), part_stop) == ("".join(whole), whole_stop)
    shown = "".join(whole)
    assert text.startswith(shown)
    assert not any(stop in shown for stop in stops)
    assert (shown == text) == (whole_stop is None)


@given(text=st.text(max_size=20), data=st.data())
def test_characters_survive_any_cut(text: str, data: st.DataObject) -> None:
    raw = text.encode()
    cuts = sorted(data.draw(st.lists(st.integers(0, len(raw)), max_size=8)))
    decoder = Utf8Pieces()
    pieces = [decoder.feed(raw[start:end]) for start, end in zip([0, *cuts], [*cuts, len(raw)], strict=True)]
    assert "".join(pieces) + decoder.flush() == text


def test_broken_bytes_become_replacement_characters() -> None:
    decoder = Utf8Pieces()
    assert decoder.feed(b"a\xffb") == "a\ufffdb"
    assert decoder.feed("é".encode()[:1]) == ""
    assert decoder.flush() == "\ufffd"
    assert decoder.feed(b"c") == "c"
