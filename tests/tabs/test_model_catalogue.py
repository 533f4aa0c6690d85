"""The rows of the catalogue: what they say, how they are found, and that they cannot be forged."""

from __future__ import annotations

from pathlib import Path

from webui.errors import CorruptFile
from webui.models.catalogue import BrokenModel, Entry
from webui.models.facts import ModelFacts, ModelFormat
from webui.tabs.model_catalogue import catalogue_html, entry_at, matching

EVIL = "<img src=x onerror=alert(1)>.gguf"


def model(name: str, **known: object) -> ModelFacts:
    path = Path("/models") / f"{name}.gguf"
    facts: dict[str, object] = {"file_bytes": 98_362_432, "quantization": "Q4_1", "architecture": "llama", **known}
    return ModelFacts(path=path, format=ModelFormat.GGUF, files=(path,), name=name, **facts)  # type: ignore[arg-type]


BROKEN = BrokenModel(Path("/models") / EVIL, CorruptFile(f"{EVIL} is cut short", cause="the last tensor is missing"))
ZEBRA = model("Zebra 7B", quantization="Q8_0")
ENTRIES: list[Entry] = [BROKEN, ZEBRA, model("apple 135M", parameter_count=134_515_008)]


def test_sound_models_come_first_by_name_and_broken_ones_last() -> None:
    assert [entry.path.stem for entry in matching(ENTRIES, "")] == [
        "apple 135M",
        "Zebra 7B",
        EVIL.removesuffix(".gguf"),
    ]


def test_every_word_of_the_search_must_occur() -> None:
    assert [entry.path.stem for entry in matching(ENTRIES, "LLAMA q8")] == ["Zebra 7B"]
    assert matching(ENTRIES, "apple q8") == []


def test_a_row_tells_models_apart() -> None:
    html = catalogue_html(ENTRIES, search="apple", chosen="", folder=None)
    for part in ("apple 135M", "93.8 MiB", "Q4_1", "135 M parameters", "1 of 3 models"):
        assert part in html


def test_a_broken_file_is_listed_with_its_reason_as_text() -> None:
    html = catalogue_html(ENTRIES, search="", chosen="", folder=None)
    assert "the last tensor is missing" in html
    assert "<img" not in html
    assert "&lt;img src=x onerror=alert(1)&gt;.gguf" in html


def test_the_chosen_row_is_marked_and_no_other() -> None:
    html = catalogue_html(ENTRIES, search="", chosen="/models/Zebra 7B.gguf", folder=None)
    assert html.count('aria-pressed="true"') == 1
    assert html.index("Zebra 7B.gguf") < html.index('aria-pressed="true"')


def test_an_empty_folder_and_an_empty_search_say_so() -> None:
    assert "No models in /tmp/m yet" in catalogue_html([], search="", chosen="", folder=Path("/tmp/m"))
    assert "No model matches" in catalogue_html(ENTRIES, search="nothing", chosen="", folder=None)


def test_only_listed_paths_are_entries() -> None:
    assert entry_at(ENTRIES, "/models/Zebra 7B.gguf") is ZEBRA
    for forged in ("/etc/passwd", "/models/../models/Zebra 7B.gguf", "", "Zebra 7B"):
        assert entry_at(ENTRIES, forged) is None
