"""The list of models: what is found, what is remembered, what a person may call a model."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.builders.gguf import architecture_file, split_llama, tiny_llama_bpe, tiny_llama_spm, tiny_llamafile
from tests.builders.transformers_dir import tiny_llama_dir
from webui.errors import CorruptFile, ModelNotFound
from webui.models import catalogue as module
from webui.models.catalogue import BrokenModel, Catalogue, name_of
from webui.models.facts import ModelFacts, ModelFormat
from webui.models.inspect import model_id


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """One model of every kind, and things that are none."""
    folder = tmp_path / "models"
    (folder / "publisher" / "repository").mkdir(parents=True)
    tiny_llama_spm(folder / "alpha.gguf")
    split_llama(folder / "publisher" / "repository", name="beta")
    tiny_llama_dir(folder / "publisher" / "gamma")
    tiny_llamafile(folder / "delta.llamafile", folder / "alpha.gguf")
    (folder / "old.bin").write_bytes(b"lmgg" + bytes(64))
    (folder / "broken.gguf").write_bytes(b"GGUF\x03\x00\x00\x00")
    (folder / "training_args.bin").write_bytes(b"PK\x03\x04")
    (folder / "readme.md").write_text("hello")
    (folder / "half.gguf.part").write_bytes(b"GGUF")
    (folder / ".hidden").mkdir()
    tiny_llama_spm(folder / ".hidden" / "secret.gguf")
    architecture_file(folder / "mmproj.gguf", "clip")
    return folder


def make(folder: Path) -> Catalogue:
    return Catalogue([folder], folder.parent / "cache" / "catalogue.json")


def test_every_kind_of_model_is_listed_once(folder: Path) -> None:
    entries = make(folder).entries()
    assert [name_of(entry) for entry in entries] == ["alpha", "beta", "broken", "delta", "gamma", "old"]
    formats = {name_of(entry): entry.format for entry in entries if isinstance(entry, ModelFacts)}
    assert formats == {
        "alpha": ModelFormat.GGUF,
        "beta": ModelFormat.GGUF,
        "delta": ModelFormat.LLAMAFILE,
        "gamma": ModelFormat.TRANSFORMERS,
        "old": ModelFormat.GGML,
    }


def test_a_broken_file_stays_in_the_list_with_its_reason(folder: Path) -> None:
    catalogue = make(folder)
    (broken,) = [entry for entry in catalogue.entries() if isinstance(entry, BrokenModel)]
    assert isinstance(broken.error, CorruptFile)
    with pytest.raises(CorruptFile):
        catalogue.find("broken")


def test_facts_are_remembered_until_the_file_changes(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = make(folder).entries()
    opened: list[str] = []
    real = module.inspect_model

    def watched(path: Path) -> ModelFacts:
        opened.append(path.name)
        return real(path)

    monkeypatch.setattr(module, "inspect_model", watched)
    again = make(folder)
    assert [name_of(entry) for entry in again.entries()] == [name_of(entry) for entry in before]
    assert [entry for entry in again.entries() if isinstance(entry, ModelFacts)] == [
        entry for entry in before if isinstance(entry, ModelFacts)
    ]
    assert opened == []
    tiny_llama_bpe(folder / "alpha.gguf", quantization="Q8_0")
    (folder / "publisher" / "gamma" / "chat_template.jinja").write_text("x")
    again.refresh()
    assert sorted(opened) == ["alpha.gguf", "gamma"]
    alpha = again.find("alpha")
    assert alpha.quantization == "Q8_0"


def test_new_and_removed_models_are_seen_after_a_refresh(folder: Path) -> None:
    catalogue = make(folder)
    catalogue.entries()
    (folder / "alpha.gguf").rename(folder / "omega.gguf")
    names = [name_of(entry) for entry in catalogue.refresh()]
    assert "alpha" not in names
    assert "omega" in names


def test_find_looks_again_before_it_gives_up(folder: Path) -> None:
    catalogue = make(folder)
    catalogue.entries()
    tiny_llama_spm(folder / "publisher" / "late.gguf")
    assert catalogue.find("late").path.name == "late.gguf"


@pytest.mark.parametrize(
    "damage", ["", "{", "[]", '{"version": 1, "entries": {"x": 3}}', '{"version": 0, "entries": {}}']
)
def test_a_damaged_memory_is_read_anew(folder: Path, damage: str) -> None:
    catalogue = make(folder)
    expected = [name_of(entry) for entry in catalogue.entries()]
    cache = folder.parent / "cache" / "catalogue.json"
    assert json.loads(cache.read_text())["entries"]
    cache.write_text(damage)
    assert [name_of(entry) for entry in make(folder).entries()] == expected


@pytest.mark.parametrize(
    "name",
    ["alpha", "ALPHA", "alpha.gguf", "beta", "beta-00001-of-00003.gguf", "beta-00002-of-00003.gguf", "gamma", "delta"],
)
def test_models_are_found_by_what_people_call_them(folder: Path, name: str) -> None:
    facts = make(folder).find(name)
    assert name.lower().startswith(model_id(facts))


def test_models_are_found_by_path(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    catalogue = make(folder)
    alpha = folder / "alpha.gguf"
    assert catalogue.find(alpha).path == alpha
    assert catalogue.find("publisher/gamma").path == folder / "publisher" / "gamma"
    monkeypatch.chdir(folder / "publisher")
    assert catalogue.find("../alpha.gguf").name == "Tiny Llama"


@pytest.mark.parametrize("name", ["", "alpa", "x" * 5000, "/nowhere/m.gguf", "~nobody-of-that-name/m.gguf", "a\0b"])
def test_what_is_not_there_is_said_with_the_nearest(folder: Path, name: str) -> None:
    with pytest.raises(ModelNotFound) as caught:
        make(folder).find(name)
    if name == "alpa":
        assert "alpha" in caught.value.hint


def test_a_set_with_parts_missing_is_listed_once_as_broken(folder: Path) -> None:
    (folder / "publisher" / "repository" / "beta-00001-of-00003.gguf").unlink()
    entries = [entry for entry in make(folder).entries() if name_of(entry) == "beta"]
    assert len(entries) == 1
    assert isinstance(entries[0], BrokenModel)


def test_a_completed_set_is_read_anew(folder: Path) -> None:
    last = folder / "publisher" / "repository" / "beta-00003-of-00003.gguf"
    content = last.read_bytes()
    last.unlink()
    catalogue = make(folder)
    assert any(isinstance(entry, BrokenModel) and name_of(entry) == "beta" for entry in catalogue.entries())
    last.write_bytes(content)
    catalogue.refresh()
    assert catalogue.find("beta").file_bytes


def test_links_in_a_circle_end(folder: Path) -> None:
    try:
        (folder / "publisher" / "again").symlink_to(folder, target_is_directory=True)
    except OSError:  # Windows asks for a privilege; without links there is no circle
        return
    assert [name_of(entry) for entry in make(folder).entries()].count("alpha") == 1


def test_a_missing_folder_is_an_empty_one(tmp_path: Path) -> None:
    catalogue = make(tmp_path / "none")
    assert catalogue.entries() == ()
    with pytest.raises(ModelNotFound) as caught:
        catalogue.find("anything")
    assert "Put a GGUF file" in caught.value.hint
