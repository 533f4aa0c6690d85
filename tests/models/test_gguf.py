"""The header reader: agreement with the `gguf` package, all versions, and files that lie."""

from __future__ import annotations

import random
import struct
from pathlib import Path
from typing import Any

import gguf
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.builders import gguf as builders
from tests.builders.raw_gguf import ARRAY, STRING, UINT32, RawGguf, tiny_raw
from webui.errors import AppError, CorruptFile, UnsupportedFormat
from webui.models.ggml_types import FILE_TYPES, TENSOR_TYPES, quantization_name
from webui.models.gguf import GgufHeader, read_header
from webui.models.gguf_facts import gguf_facts
from webui.models.inspect import inspect_model

MUTATIONS = 1000


def header_of(path: Path, **options: Any) -> GgufHeader:
    with path.open("rb") as file:
        return read_header(file, path.stat().st_size, label=path.name, **options)


def assert_agrees(path: Path, *, swapped: bool = False) -> None:
    """Everything our reader reports is what `gguf.GGUFReader` reports."""
    ours, oracle = header_of(path), gguf.GGUFReader(path)
    assert ours.data_offset == oracle.data_offset
    theirs = {name: field for name, field in oracle.fields.items() if not name.startswith("GGUF.")}
    assert set(ours.metadata) | set(ours.lengths) == set(theirs)
    for key, value in ours.metadata.items():
        assert value == theirs[key].contents(), key
    for key, count in ours.lengths.items():
        assert count == len(theirs[key].data), key
    assert [(t.name, t.shape, t.type, t.bytes, t.elements) for t in ours.tensors] == [
        (t.name, tuple(int(size) for size in t.shape), t.tensor_type.name, int(t.n_bytes), int(t.n_elements))
        for t in oracle.tensors
    ]
    assert [ours.data_offset + t.offset for t in ours.tensors] == [t.data_offset for t in oracle.tensors]


@pytest.mark.parametrize("quantization", sorted(builders.FILE_TYPES))
@pytest.mark.parametrize("kind", ["spm", "bpe"])
def test_agrees_with_the_gguf_package(tmp_path: Path, kind: str, quantization: str) -> None:
    make = builders.tiny_llama_spm if kind == "spm" else builders.tiny_llama_bpe
    path = make(tmp_path / "m.gguf", quantization=quantization)
    assert_agrees(path)
    assert inspect_model(path).quantization == quantization


def test_agrees_on_big_endian_files(tmp_path: Path) -> None:
    path = builders.tiny_llama_spm(tmp_path / "m.gguf", endianess=gguf.GGUFEndian.BIG)
    assert_agrees(path)
    assert inspect_model(path).byte_order == "big"


def test_agrees_on_the_starter_model(starter_model: Path) -> None:
    assert_agrees(starter_model)
    facts = inspect_model(starter_model)
    assert (facts.architecture, facts.quantization, facts.tokenizer) == ("llama", "Q4_1", "gpt2")
    assert (facts.vocabulary_size, facts.context_length, facts.block_count) == (49_152, 8192, 30)
    assert (facts.head_count, facts.head_count_kv, facts.embedding_length) == (9, 3, 576)
    assert facts.parameter_count == 134_515_008
    assert (facts.bos_token, facts.eos_token) == ("<|im_start|>", "<|im_end|>")
    assert facts.chat_template is not None
    assert "im_start" in facts.chat_template
    assert facts.file_bytes == starter_model.stat().st_size


@pytest.mark.parametrize(
    ("architecture", "options"),
    [
        ("falcon", {}),
        ("gpt2", {}),
        ("qwen2", {}),
        ("gemma2", {"tokenizer": "llama"}),
        ("qwen2moe", {"experts": 8}),
        ("llama", {"quantization": "Q4_K"}),
        ("llama", {"quantization": "IQ4_XS"}),
        ("gpt-oss", {"quantization": "MXFP4", "experts": 32}),
    ],
)
def test_other_architectures(tmp_path: Path, architecture: str, options: dict[str, Any]) -> None:
    path = builders.architecture_file(tmp_path / "m.gguf", architecture, **options)
    assert_agrees(path)
    facts = inspect_model(path)
    assert facts.architecture == architecture
    assert facts.expert_count == options.get("experts")
    assert facts.quantization == options.get("quantization", "F16")
    assert facts.block_count == 2


def test_a_large_vocabulary_is_walked_and_not_built(tmp_path: Path) -> None:
    path = builders.large_vocabulary(tmp_path / "m.gguf")
    header = header_of(path)
    assert header.lengths["tokenizer.ggml.tokens"] == header.lengths["tokenizer.ggml.merges"] == 150_000
    assert "tokenizer.ggml.tokens" not in header.metadata
    facts = inspect_model(path)
    assert (facts.bos_token, facts.eos_token) == ("token-149998", "token-149999")


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("version", [1, 2, 3])
def test_every_version_in_both_byte_orders(tmp_path: Path, version: int, order: str) -> None:
    facts = inspect_model(tiny_raw(version, order).write(tmp_path / "m.gguf"))
    assert (facts.gguf_version, facts.byte_order) == (version, "little" if order == "<" else "big")
    assert (facts.name, facts.block_count, facts.context_length) == ("Raw", 2, 128)
    assert (facts.parameter_count, facts.tensor_bytes, facts.tensor_types) == (64, 256, {"F32": 256})
    assert (facts.bos_token, facts.eos_token, facts.vocabulary_size) == ("<s>", "</s>", 4)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("version", [1, 3])
@given(data=st.data())
@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_strings_of_any_length_are_skipped_and_found(
    tmp_path: Path, version: int, order: str, data: st.DataObject
) -> None:
    """Across runs, refills of the buffer and long strings, where the compiled pattern must hand over and come back."""
    count = data.draw(st.integers(1, 5000))
    seed = data.draw(st.integers(0, 2**32))
    longest = data.draw(st.sampled_from([3, 255, 256, 400, 70_000]))
    draw = random.Random(seed)
    sizes = [draw.randrange(longest if draw.random() < 0.001 else min(longest, 20)) for _ in range(count)]
    strings: list[str | bytes] = [draw.randbytes(size).replace(b"\xff", b"") for size in sizes]
    wanted = data.draw(st.integers(0, count - 1))
    strings[wanted] = f"token {wanted}"
    raw = RawGguf(version, order).add("general.architecture", STRING, "llama")
    raw.add("tokenizer.ggml.eos_token_id", UINT32, wanted).add_strings("tokenizer.ggml.tokens", strings)
    raw.add("general.name", STRING, "behind the array")
    facts = inspect_model(raw.write(tmp_path / "m.gguf"))
    assert (facts.name, facts.vocabulary_size) == ("behind the array", count)
    assert facts.eos_token == f"token {wanted}"


def test_a_set_of_files_is_one_model(tmp_path: Path) -> None:
    parts = builders.split_llama(tmp_path)
    whole = inspect_model(builders.tiny_llama_bpe(tmp_path / "whole.gguf"))
    for part in parts:
        facts = inspect_model(part)
        assert facts.path == parts[0]
        assert facts.files == tuple(parts)
        assert facts.parameter_count == whole.parameter_count
        assert facts.tensor_bytes == whole.tensor_bytes
        assert facts.file_bytes == sum(part.stat().st_size for part in parts)


def test_a_set_with_parts_missing_names_them(tmp_path: Path) -> None:
    first, second, third = builders.split_llama(tmp_path)
    second.unlink()
    for part in (first, third):
        with pytest.raises(CorruptFile, match="1 of the 3 parts") as caught:
            inspect_model(part)
        assert second.name in caught.value.cause


def test_a_set_in_the_wrong_order_is_refused(tmp_path: Path) -> None:
    first, second, _ = builders.split_llama(tmp_path)
    contents = first.read_bytes(), second.read_bytes()
    first.write_bytes(contents[1])
    second.write_bytes(contents[0])
    with pytest.raises(CorruptFile, match="does not belong to this set"):
        inspect_model(first)


def test_impossible_part_numbers_are_refused(tmp_path: Path) -> None:
    path = tiny_raw().write(tmp_path / "m-00003-of-00002.gguf")
    with pytest.raises(CorruptFile, match="cannot be"):
        inspect_model(path)


def test_a_truncated_file_is_refused_with_the_numbers(tmp_path: Path) -> None:
    path = builders.tiny_llama_spm(tmp_path / "m.gguf")
    whole = path.read_bytes()
    path.write_bytes(whole[:-1000])
    with pytest.raises(CorruptFile, match="incomplete") as caught:
        inspect_model(path)
    assert f"{len(whole) - 1000:,}" in caught.value.message
    assert caught.value.facts["file_bytes"] == len(whole) - 1000
    assert len(whole) - 64 <= caught.value.facts["needed_bytes"] <= len(whole)


def _huge(raw: RawGguf, kind: int, count: int) -> bytes:
    return raw.pack("I", kind) + raw.pack(raw.wide, count)


HOSTILE: dict[str, bytes] = {
    "only the magic": b"GGUF",
    "no counts": b"GGUF\x03\x00\x00\x00\x01",
    "keys without end": tiny_raw().build(key_count=2**63),
    "tensors without end": tiny_raw().build(tensor_count=2**63),
    "more keys than there are": tiny_raw().build(key_count=5000),
    "long key": b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + struct.pack("<Q", 2**62) + b"x" * 64,
    "long string": tiny_raw().add_raw("x", STRING, struct.pack("<Q", 2**63)).build(),
    "long array": tiny_raw().add_raw("x", ARRAY, _huge(RawGguf(), UINT32, 2**62)).build(),
    "long string array": tiny_raw().add_raw("x", ARRAY, _huge(RawGguf(), STRING, 2**60)).build(),
    "unknown type": tiny_raw().add_raw("x", 99, b"").build(),
    "array of unknown type": tiny_raw().add_raw("x", ARRAY, _huge(RawGguf(), 99, 4)).build(),
    "nested too deeply": tiny_raw().add_raw("x", ARRAY, _huge(RawGguf(), ARRAY, 1) * 50).build(),
    "nested too often": tiny_raw().add_raw("x", ARRAY, _huge(RawGguf(), ARRAY, 2**40)).build(),
    "a key twice": tiny_raw().add("general.name", STRING, "again").build(),
    "odd alignment": tiny_raw().add("general.alignment", UINT32, 33).build(),
    "no alignment": tiny_raw().add("general.alignment", UINT32, 0).build(),
    "text as alignment": tiny_raw().add("general.alignment", STRING, "32").build(),
    "too many dimensions": RawGguf().add_tensor("x", (1,) * 5, 0, 0).build(),
    "a tensor beyond the file": RawGguf().add_tensor("x", (1 << 40, 1 << 40, 1 << 40, 1 << 40), 0, 0).build(),
    "a tensor at the end of the world": RawGguf().add_tensor("x", (32,), 0, 2**64 - 32).build(),
    "half a block": RawGguf().add_tensor("x", (33,), 2, 0).build() + bytes(1000),
    "damaged type": RawGguf().add_tensor("x", (32,), 2**31, 0).build() + bytes(1000),
}


@pytest.mark.parametrize("case", sorted(HOSTILE))
def test_hostile_headers_are_named_corrupt(tmp_path: Path, case: str) -> None:
    path = tmp_path / "m.gguf"
    path.write_bytes(HOSTILE[case])
    with pytest.raises((CorruptFile, UnsupportedFormat) if case == "only the magic" else CorruptFile) as caught:
        inspect_model(path)
    assert "m.gguf" in caught.value.message
    assert len(str(caught.value.to_dict())) < 1000


@pytest.mark.parametrize("version", [0, 4, 1 << 20])
def test_unknown_versions_are_named(tmp_path: Path, version: int) -> None:
    path = tmp_path / "m.gguf"
    path.write_bytes(b"GGUF" + struct.pack("<IQQ", version, 0, 0))
    with pytest.raises(UnsupportedFormat, match="version"):
        inspect_model(path)


def test_a_tensor_type_newer_than_the_table_is_passed_on(tmp_path: Path) -> None:
    raw = RawGguf().add("general.architecture", STRING, "llama")
    raw.add_tensor("new", (64,), 77, 0, bytes(128)).add_tensor("old", (32,), 0, 128, bytes(128))
    facts = inspect_model(raw.write(tmp_path / "m.gguf"))
    assert facts.tensor_types == {"TYPE_77": 128, "F32": 128}


def test_values_of_unexpected_types_are_unknown(tmp_path: Path) -> None:
    raw = RawGguf().add("general.architecture", STRING, "llama").add("llama.block_count", STRING, "many")
    raw.add("llama.context_length", 7, True).add("general.name", UINT32, 3).add("tokenizer.chat_template", UINT32, 1)
    raw.add_raw("llama.attention.head_count", ARRAY, raw.pack("IQ3I", UINT32, 3, 4, 8, 2))
    facts = inspect_model(raw.write(tmp_path / "m.gguf"))
    assert (facts.block_count, facts.context_length, facts.chat_template) == (None, None, None)
    assert facts.name == "m"
    assert facts.head_count == 8


@pytest.mark.parametrize("seed", range(4))
def test_mutated_headers_never_crash(tmp_path: Path, seed: int) -> None:
    """Bytes are flipped, lengths overwritten, pieces cut out and doubled: the answer is facts or an `AppError`."""
    draw = random.Random(seed)
    order = "<" if seed % 2 else ">"
    sources = [tiny_raw(version, order).build() for version in (1, 2, 3)]
    sources.append(builders.tiny_llama_bpe(tmp_path / "b.gguf", quantization="Q4_0").read_bytes())
    path = tmp_path / "mutated.gguf"
    outcomes = set()
    for _ in range(MUTATIONS // 4):
        path.write_bytes(mutate(draw.choice(sources), draw))
        try:
            outcomes.add(type(inspect_model(path)).__name__)
        except AppError as error:
            outcomes.add(type(error).__name__)
    assert "CorruptFile" in outcomes


def mutate(source: bytes, draw: random.Random) -> bytes:
    """A few random injuries, most of them in the first kilobytes, where the header is."""
    data = bytearray(source)
    for _ in range(draw.randint(1, 6)):
        if len(data) < 8:
            break
        at = draw.randrange(min(len(data), draw.choice([64, 1024, 16_384])))
        injury = draw.randrange(5)
        if injury == 0:
            data[at] ^= 1 << draw.randrange(8)
        elif injury == 1:
            data[at : at + 8] = draw.choice([bytes(8), b"\xff" * 8, struct.pack("<Q", 2 ** draw.randrange(64))])
        elif injury == 2:
            data[at : at + draw.randrange(64)] = b""
        elif injury == 3:
            data[at:at] = data[at : at + draw.randrange(256)]
        else:
            data = data[: max(at, 8)]
    return bytes(data)


def test_tables_agree_with_the_gguf_package() -> None:
    for kind in gguf.GGMLQuantizationType:
        block, size = gguf.GGML_QUANT_SIZES[kind]
        assert TENSOR_TYPES[kind.value] == (kind.name, block, size)
    for file_type in gguf.LlamaFileType:
        if file_type is not gguf.LlamaFileType.GUESSED:
            assert FILE_TYPES[file_type.value] == file_type.name.removeprefix("MOSTLY_").removeprefix("ALL_")


@pytest.mark.parametrize(
    ("file_type", "types", "name"),
    [
        (15, {"Q4_K": 900, "Q6_K": 100, "F32": 1}, "Q4_K_M"),
        (15 | 1024, {"Q4_K": 900, "Q6_K": 100}, "Q4_K_M"),
        (None, {"Q4_K": 900, "Q6_K": 100}, "Q4_K"),
        (999, {"Q8_0": 1}, "Q8_0"),
        (1, {"Q4_0": 900, "F16": 100}, "Q4_0"),  # a converter's slip
        (1, {"F16": 900, "F32": 100}, "F16"),
        (None, {}, None),
    ],
)
def test_quantization_name(file_type: int | None, types: dict[str, int], name: str | None) -> None:
    assert quantization_name(file_type, types) == name


def test_facts_of_a_file_do_not_depend_on_where_one_starts(tmp_path: Path) -> None:
    path = builders.tiny_llama_spm(tmp_path / "m.gguf")
    assert gguf_facts(path) == inspect_model(path) == inspect_model(tmp_path)
