"""Figures, words and escaping."""

from __future__ import annotations

from pathlib import Path

import pytest

from webui.errors import CorruptFile, EngineCrashed
from webui.models.facts import ModelFacts, ModelFormat
from webui.tabs import present

EVIL = "<img src=x onerror=\"alert('x')\">"


@pytest.mark.parametrize(
    ("count", "shown"),
    [
        (None, "unknown"),
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.00 KiB"),
        (98_362_432, "93.8 MiB"),
        (139 * 1024**3, "139 GiB"),
        (5 * 1024**5, "5120 TiB"),
    ],
)
def test_sizes_are_binary_with_three_figures(count: int | None, shown: str) -> None:
    assert present.size(count) == shown


@pytest.mark.parametrize(
    ("count", "shown"),
    [(None, "unknown"), (0, "0"), (999, "999"), (134_515_008, "135 M"), (7_241_732_096, "7.24 B"), (49_152, "49.2 K")],
)
def test_quantities(count: int | None, shown: str) -> None:
    assert present.quantity(count) == shown


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (None, "unknown"),
        (0.0124, "12 ms"),
        (3.44, "3.4 s"),
        (59.96, "60.0 s"),
        (125, "2 min 5 s"),
        (3725, "1 h 2 min"),
    ],
)
def test_durations(seconds: float | None, shown: str) -> None:
    assert present.duration(seconds) == shown


def test_unknown_figures_are_called_unknown() -> None:
    assert {
        present.number(None),
        present.speed(None),
        present.percent(None),
        present.date(None),
        present.clock(None),
    } == {"unknown"}


def test_plural_and_speed() -> None:
    assert (present.plural(1, "layer"), present.plural(2048, "layer"), present.plural(0, "entry", "entries")) == (
        "1 layer",
        "2,048 layers",
        "0 entries",
    )
    assert present.speed(41.26) == "41.3 tokens/s"


def test_control_characters_do_not_reach_the_page() -> None:
    assert present.escape("a\x00b\x1b[31mc\nd\te") == "ab[31mc\nd\te"


@pytest.mark.parametrize(
    "html",
    [
        present.facts_html([(EVIL, EVIL)]),
        present.verdict_html("problem", EVIL),
        present.list_html([EVIL]),
        present.empty_html(EVIL),
        present.log_html([EVIL]),
        present.evidence_html([EVIL], title=EVIL),
        present.failure_html(CorruptFile(EVIL, cause=EVIL, hint=EVIL, evidence=[EVIL]), title=EVIL),
        present.progress_html(EVIL, 0.5, 1),
    ],
)
def test_nothing_from_outside_becomes_markup(html: str) -> None:
    assert "<img" not in html
    assert "&lt;img" in html


def test_a_failure_says_what_why_and_what_to_do() -> None:
    html = present.failure_html(EngineCrashed("The engine died", cause="signal 9", evidence=["last line"]))
    for part in ("The engine died", "Why: signal 9", "What to do: Load the model again", "last line", "<details"):
        assert part in html


def test_a_failure_without_cause_or_evidence_has_no_empty_parts() -> None:
    html = present.failure_html(CorruptFile("Too short"))
    assert "Why:" not in html
    assert "<details" not in html


def test_progress_is_bounded_and_unknown_shares_are_marked() -> None:
    assert 'style="width:100%"' in present.progress_html("reading", 7.0, None)
    assert "unknown" in present.progress_html("reading", None, 2)


def test_facts_of_a_model_name_the_unknown_as_unknown() -> None:
    facts = ModelFacts(path=Path("m.gguf"), format=ModelFormat.GGUF, files=(Path("m.gguf"),), file_bytes=2048, name="m")
    rows = dict(present.model_rows(facts))
    assert rows["Size"] == "2.00 KiB"
    assert rows["Context"] == rows["Quantisation"] == "unknown"


def test_same_values() -> None:
    assert present.same(None, "")
    assert present.same(1, 1.0)
    assert not present.same(True, 1)
    assert not present.same(0, "")


def test_a_path_is_written_from_home(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/ada")
    assert present.place(Path("/home/ada/models/big.gguf")) == "~/models/big.gguf"
    assert present.place(Path("/home/adam/big.gguf")) == "/home/adam/big.gguf"
    monkeypatch.setenv("HOME", "/")
    assert present.place(Path("/models/big.gguf")) == "/models/big.gguf"
