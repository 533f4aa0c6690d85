"""Weights that are no numbers, in every type, and checksums that do not agree."""

from __future__ import annotations

import hashlib
import io
import struct
from pathlib import Path

import pytest

from tests.builders.gguf import split_llama, tiny_llama_bpe
from webui.errors import CorruptFile
from webui.models.ggml_types import TENSOR_TYPES
from webui.models.gguf import GgufHeader, TensorInfo, read_header
from webui.models.inspect import inspect_model
from webui.models.soundness import SAMPLE_BYTES, SAMPLES, SCALES, WHOLE_BYTES, check_soundness, damage_in, known_digest

BYTES = {kind.name: kind.bytes for kind in TENSOR_TYPES.values()}
NOT_A_NUMBER = {
    "f2": b"\x00\x7e",
    "f4": b"\x00\x00\xc0\x7f",
    "f8": b"\0\0\0\0\0\0\xf8\x7f",
    "bf16": b"\xc0\x7f",
    "e8m0": b"\xff",
}


def one_tensor(kind: str, size: int, order: str = "little") -> GgufHeader:
    return GgufHeader(3, order, {}, {}, {}, (TensorInfo("blk.0.w", (1,), kind, 0, size),), 0)


@pytest.mark.parametrize("kind", sorted(SCALES))
def test_a_scale_that_is_no_number_is_found_in_every_type(kind: str) -> None:
    places, block = SCALES[kind], BYTES[kind]
    sound = bytes(block * 64)
    assert damage_in(one_tensor(kind, len(sound)), io.BytesIO(sound)) == ""
    for offset in places.offsets:
        bad = bytearray(sound)
        value = NOT_A_NUMBER[places.kind]
        bad[block * 40 + offset : block * 40 + offset + len(value)] = value
        assert damage_in(one_tensor(kind, len(bad)), io.BytesIO(bad)) == "blk.0.w"


def test_bytes_of_quantised_weights_themselves_are_no_damage() -> None:
    """Any byte may stand beside the scales."""
    block = b"\x00\x3c" + b"\xff\x7e" * 8
    assert len(block) == BYTES["Q4_0"]
    assert damage_in(one_tensor("Q4_0", len(block) * 100), io.BytesIO(block * 100)) == ""


def test_numbers_are_read_in_the_files_byte_order() -> None:
    big = struct.pack(">f", 1.0) * 8
    assert damage_in(one_tensor("F32", len(big), "big"), io.BytesIO(big)) == ""
    assert damage_in(one_tensor("F32", 4, "big"), io.BytesIO(struct.pack(">f", float("inf")))) == "blk.0.w"


def test_large_tensors_are_sampled_at_both_ends_and_between() -> None:
    size = WHOLE_BYTES * 4
    for place in (0, size - 4):
        data = bytearray(size)
        data[place : place + 4] = NOT_A_NUMBER["f4"]
        assert damage_in(one_tensor("F32", size), io.BytesIO(data)) == "blk.0.w"

    class Counting(io.BytesIO):
        taken = 0

        def read(self, count: int | None = -1) -> bytes:  # type: ignore[override]
            data = super().read(count)
            self.taken += len(data)
            return data

    file = Counting(bytes(size))
    damage_in(one_tensor("F32", size), file)
    assert file.taken == SAMPLE_BYTES * SAMPLES


def test_a_model_with_a_damaged_weight_is_refused(tmp_path: Path) -> None:
    file = tiny_llama_bpe(tmp_path / "m.gguf")
    assert check_soundness(inspect_model(file), {}) == "samples of all weights are in order"
    spoil(file)
    with pytest.raises(CorruptFile, match=r"weights in .* are no numbers"):
        check_soundness(inspect_model(file), {})


def test_every_part_of_a_set_is_looked_into(tmp_path: Path) -> None:
    parts = split_llama(tmp_path)
    shares: list[float] = []
    check_soundness(inspect_model(parts[0]), {}, lambda name, share: shares.append(share))
    assert shares == sorted(shares)
    assert shares[-1] == 1.0
    spoil(parts[-1])
    with pytest.raises(CorruptFile, match=parts[-1].name):
        check_soundness(inspect_model(parts[0]), {})


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("m.gguf.sha256", "{digest}"),
        ("m.gguf.sha256", "{digest}  m.gguf"),
        ("SHA256SUMS", "0000  other.gguf\n{digest} *m.gguf"),
        ("sha256sums.txt", "{digest}  ./m.gguf"),
    ],
)
def test_checksums_beside_the_file_are_compared(tmp_path: Path, name: str, line: str) -> None:
    file = tiny_llama_bpe(tmp_path / "m.gguf")
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    (tmp_path / name).write_text(line.format(digest=digest))
    assert check_soundness(inspect_model(file), {}) == "its checksum is the published one"
    (tmp_path / name).write_text(line.format(digest="0" * 64))
    with pytest.raises(CorruptFile, match="not the file that was published"):
        check_soundness(inspect_model(file), {})


def test_a_checksum_of_another_file_does_not_count(tmp_path: Path) -> None:
    file = tiny_llama_bpe(tmp_path / "m.gguf")
    (tmp_path / "SHA256SUMS").write_text(f"{'0' * 64}  big-m.gguf\n")
    assert known_digest(file, {}) is None
    assert known_digest(file, {"m.gguf": "1" * 64}) == "1" * 64
    with pytest.raises(CorruptFile):
        check_soundness(inspect_model(file), {"m.gguf": "1" * 64})


def spoil(file: Path) -> None:
    """Write "not a number" into the first plain float tensor."""
    with file.open("r+b") as opened:
        header = read_header(opened, file.stat().st_size, label=file.name)
        tensor = next(one for one in header.tensors if one.type in ("F32", "F16"))
        opened.seek(header.data_offset + tensor.offset)
        opened.write(NOT_A_NUMBER["f4"] if tensor.type == "F32" else NOT_A_NUMBER["f2"])
