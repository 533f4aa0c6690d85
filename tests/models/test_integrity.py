"""Headers that are well formed and contradict themselves: named when the file is read, before any engine opens it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.builders.gguf import architecture_file, split_llama, tiny_llama_bpe, tiny_llama_spm, tiny_llamafile
from tests.builders.gguf_document import ARRAY, STRING, Document, parse
from webui.errors import CorruptFile
from webui.loaders import LOADERS
from webui.models.facts import ModelFacts
from webui.models.inspect import inspect_model

UINT16, UINT32, INT32, FLOAT32 = 2, 4, 5, 6
Edit = Callable[[Document], None]


def edited(path: Path, edit: Edit) -> ModelFacts:
    """What is read of a tiny llama after `edit`."""
    document = parse(tiny_llama_spm(path).read_bytes())
    edit(document)
    path.write_bytes(document.build())
    return inspect_model(path)


def put(key: str, value: object, kind: int = UINT32, element: int = 0) -> Edit:
    return lambda document: document.put(key, kind, value, element)


def tensor(document: Document, name: str) -> int:
    return next(at for at, one in enumerate(document.tensors) if one.name == name.encode())


def reshape(name: str, *shape: int) -> Edit:
    def edit(document: Document) -> None:
        document.tensors[tensor(document, name)].shape = list(shape)

    return edit


def lay_on_another(document: Document) -> None:
    document.tensors[3].offset = document.tensors[2].offset


def lay_askew(document: Document) -> None:
    document.tensors[3].offset += 8


def name_twice(document: Document) -> None:
    document.tensors[3].name = document.tensors[2].name


def lose_a_token(document: Document) -> None:
    entry = document.entry("tokenizer.ggml.tokens")
    assert entry is not None
    entry.value.pop()


CONTRADICTIONS: dict[str, tuple[Edit, str]] = {
    "overlapping tensors": (lay_on_another, "lie on each other"),
    "a tensor askew": (lay_askew, "between two places"),
    "two tensors of one name": (name_twice, "the same name"),
    "an empty tensor": (reshape("blk.0.attn_norm.weight", 0), "is empty"),
    "a narrow alignment": (put("general.alignment", 4), "alignment is 4"),
    "an alignment the tensors do not keep": (put("general.alignment", 4096), "between two places"),
    "scores missing": (put("tokenizer.ggml.scores", [0.0], ARRAY, FLOAT32), "scores has 1 entries"),
    "scores of another type": (put("tokenizer.ggml.scores", [0] * 1000, ARRAY, 0), "scores is no list"),
    "one score": (put("tokenizer.ggml.scores", 0.0, FLOAT32), "scores is no list"),
    "token types missing": (put("tokenizer.ggml.token_type", [], ARRAY, INT32), "token_type has 0 entries"),
    "token types as texts": (put("tokenizer.ggml.token_type", [b"1"] * 9, ARRAY, STRING), "token_type is no list"),
    "a vocabulary of numbers": (put("tokenizer.ggml.tokens", [1, 2], ARRAY, UINT32), "no list of texts"),
    "a vocabulary that is one text": (put("tokenizer.ggml.tokens", b"a", STRING), "no list of texts"),
    "a token too few": (lose_a_token, "token_embd.weight is 64 × "),
    "more experts used than there are": (put("llama.expert_used_count", 2), "2 of 0 experts"),
    "billions of blocks": (put("llama.block_count", 4_000_000_000), "block_count is 4,000,000,000"),
    "hundreds of blocks": (put("llama.block_count", 400), "400 blocks are said to be in it, and there are 2"),
    "a key of gigabytes": (put("llama.attention.key_length", 2**32 - 1), "key_length is 4,294,967,295"),
    "one layer of billions": (
        put("llama.attention.head_count", [4, 2**31], ARRAY, UINT32),
        "head_count is 2,147,483,648",
    ),
    "another width": (put("llama.embedding_length", 128), "and not 128 ×"),
    "no heads": (put("llama.attention.head_count", 0), "no heads"),
    "other heads for keys": (put("llama.attention.head_count_kv", 4), "attn_k.weight is 64 × 32 and not 64 × 64"),
    "another feed-forward width": (put("llama.feed_forward_length", 256), "ffn_up.weight is 64 × 128"),
    "a matrix lying on its side": (reshape("blk.1.ffn_up.weight", 128, 64), "blk.1.ffn_up.weight is 128 × 64"),
    "more turned than there is": (put("llama.rope.dimension_count", 32), "32 of the 16 numbers"),
}


@pytest.mark.parametrize("case", CONTRADICTIONS)
def test_contradictions_are_named(tmp_path: Path, case: str) -> None:
    edit, cause = CONTRADICTIONS[case]
    with pytest.raises(CorruptFile, match=r"m\.gguf is damaged") as caught:
        edited(tmp_path / "m.gguf", edit)
    assert cause in caught.value.cause


@pytest.mark.parametrize(
    "edit",
    [
        put("llama.attention.head_count_kv", [2, 2], ARRAY, UINT32),
        put("llama.block_count", 4),
        put("llama.rope.dimension_count", 8),
        put("tokenizer.ggml.scores", [0.0] * 5000, ARRAY, FLOAT32),
        put("llama.attention.head_count", b"four", STRING),
        put("split.count", 0, UINT16),
        put("llama.expert_count", 0),
    ],
)
def test_what_real_files_have_is_no_contradiction(tmp_path: Path, edit: Edit) -> None:
    """Values per layer, blocks left out, partial rotation, spare scores, what merging leaves behind."""
    assert edited(tmp_path / "m.gguf", edit).architecture == "llama"


def test_a_narrow_alignment_is_left_to_the_loaders_that_can(tmp_path: Path) -> None:
    facts = edited(tmp_path / "m.gguf", put("general.alignment", 16))
    assert LOADERS["ctransformers"].can_open(facts).ok
    verdict = LOADERS["xllamacpp"].can_open(facts)
    assert (verdict.ok, verdict.reason) == (
        False,
        "The file's tensors are aligned to 16 bytes, and llama.cpp needs 32.",
    )


def test_other_architectures_may_have_other_shapes(tmp_path: Path) -> None:
    document = parse(architecture_file(tmp_path / "m.gguf", "mamba").read_bytes())
    document.put("mamba.attention.head_count", UINT32, 0)
    document.put("mamba.embedding_length", UINT32, 64)
    (tmp_path / "m.gguf").write_bytes(document.build())
    assert inspect_model(tmp_path / "m.gguf").head_count == 0


def test_a_llamafile_is_checked_like_the_file_inside(tmp_path: Path) -> None:
    inside = tiny_llama_bpe(tmp_path / "m.gguf")
    document = parse(inside.read_bytes())
    document.put("llama.embedding_length", UINT32, 128)
    inside.write_bytes(document.build())
    with pytest.raises(CorruptFile, match="contradicts itself"):
        inspect_model(tiny_llamafile(tmp_path / "m.llamafile", inside))


def test_a_part_under_another_name_says_that_it_is_one(tmp_path: Path) -> None:
    first = split_llama(tmp_path)[0].rename(tmp_path / "model.gguf")
    with pytest.raises(CorruptFile, match="only a part of a model") as caught:
        inspect_model(first)
    assert "one of 3 files" in caught.value.cause


def test_parts_of_two_models_are_not_mixed(tmp_path: Path) -> None:
    first = split_llama(tmp_path)[0]
    document = parse(first.read_bytes())
    document.put("split.tensors.count", INT32, 99)
    first.write_bytes(document.build())
    with pytest.raises(CorruptFile, match="not those of one model") as caught:
        inspect_model(first)
    assert "21 tensors, and the first announces 99" in caught.value.cause


def test_labels_are_one_printable_line(tmp_path: Path) -> None:
    def rename(document: Document) -> None:
        document.put("general.name", STRING, b"\x1b[2JTiny\r\n" + b"x" * 900_000)
        document.put("general.architecture", STRING, "\u202egpj\0".encode())

    facts = edited(tmp_path / "m.gguf", rename)
    assert facts.name.startswith("[2JTiny xxx")
    assert facts.name.isprintable()
    assert len(facts.name) == 120
    assert facts.architecture == "gpj"
