"""What ctransformers says of files before it touches them, and the special tokens it would spell out."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tests.builders.gguf import tiny_llama_bpe, tiny_llama_spm
from webui.errors import CorruptFile
from webui.loaders.ctransformers import SPEC
from webui.loaders.special_tokens import SpecialTokens, read_special_tokens
from webui.models.facts import ModelFacts, ModelFormat
from webui.models.inspect import inspect_model

GOOD = ModelFacts(
    path=Path("m.gguf"),
    format=ModelFormat.GGUF,
    files=(Path("m.gguf"),),
    file_bytes=1,
    name="m",
    architecture="llama",
    tokenizer="llama",
    tensor_types={"Q4_K": 1, "F32": 1},
    byte_order="little",
)


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"tokenizer": "gpt2"}, "BPE"),
        ({"architecture": "qwen2"}, "qwen2"),
        ({"tensor_types": {"IQ4_XS": 1}}, "IQ4_XS"),
        ({"expert_count": 8}, "experts"),
        ({"files": (Path("a"), Path("b"))}, "several files"),
        ({"byte_order": "big"}, "little-endian"),
        ({"format": ModelFormat.TRANSFORMERS}, "transformers"),
    ],
)
def test_says_in_one_sentence_why_it_cannot(changes: dict[str, object], word: str) -> None:
    assert SPEC.can_open(GOOD).ok
    verdict = SPEC.can_open(replace(GOOD, **changes))
    assert not verdict.ok
    assert word in verdict.reason
    assert verdict.reason.count(".") == 1


def test_the_starter_model_is_refused_for_its_tokenizer(starter_model: Path) -> None:
    assert "BPE tokenizer" in SPEC.can_open(inspect_model(starter_model)).reason


def test_old_files_are_opened() -> None:
    assert SPEC.can_open(replace(GOOD, format=ModelFormat.GGML, architecture=None, tokenizer=None)).ok


def test_special_tokens_are_read_from_both_kinds_of_vocabulary(tmp_path: Path) -> None:
    sentencepiece = read_special_tokens(tiny_llama_spm(tmp_path / "s.gguf"))
    assert (sentencepiece.ids["<s>"], sentencepiece.ids["</s>"]) == (1, 2)
    byte_level = read_special_tokens(tiny_llama_bpe(tmp_path / "b.gguf"))
    assert byte_level.ids["<|im_end|>"] in byte_level.turn_ends


def test_a_text_is_cut_at_the_longest_special_token() -> None:
    special = SpecialTokens({"<a>": 1, "<a><b>": 2})
    assert list(special.cut("x<a><b>y<a>")) == ["x", 2, "y", 1]
    assert list(special.cut("")) == []
    assert list(SpecialTokens({}).cut("<a>")) == ["<a>"]


def test_a_vocabulary_that_points_outside_the_file_is_corrupt(tmp_path: Path) -> None:
    path = tiny_llama_spm(tmp_path / "s.gguf")
    data = bytearray(path.read_bytes())
    at = data.index(b"general.name")
    data[at - 8 : at] = (1 << 40).to_bytes(8, "little")
    path.write_bytes(data)
    with pytest.raises(CorruptFile):
        read_special_tokens(path)
