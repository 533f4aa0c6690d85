"""Everything that may lie in a models folder: recognised, described, or refused in one sentence."""

from __future__ import annotations

import json
import os
import struct
import sys
import zipfile
from pathlib import Path

import pytest

from tests.builders.gguf import SPM_CHAT, tiny_llama_bpe, tiny_llama_spm, tiny_llamafile
from tests.builders.transformers_dir import tiny_llama_dir
from tests.builders.vocabulary import CHATML
from webui.errors import CorruptFile, ModelNotFound, UnsupportedFormat
from webui.models.facts import ModelFormat
from webui.models.inspect import inspect_model, model_id


def edit(path: Path, **changes: object) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


# --- transformers directories -------------------------------------------------------------------------------------


def test_a_transformers_directory(tmp_path: Path) -> None:
    folder = tiny_llama_dir(tmp_path / "tiny-llama")
    facts = inspect_model(folder)
    assert (facts.format, facts.name, facts.architecture) == (ModelFormat.TRANSFORMERS, "tiny-llama", "llama")
    assert (facts.block_count, facts.head_count, facts.head_count_kv, facts.embedding_length) == (2, 4, 2, 64)
    assert (facts.context_length, facts.quantization) == (2048, "F32")
    assert (facts.bos_token, facts.eos_token, facts.chat_template) == ("<|im_start|>", "<|im_end|>", CHATML)
    same = inspect_model(tiny_llama_bpe(tmp_path / "m.gguf"))
    assert facts.parameter_count == same.parameter_count
    assert facts.vocabulary_size == same.vocabulary_size
    assert facts.tensor_bytes == 4 * (facts.parameter_count or 0)
    assert model_id(facts) == "tiny-llama"


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_a_file_of_the_directory_stands_for_it(tmp_path: Path, name: str) -> None:
    folder = tiny_llama_dir(tmp_path / "m")
    assert inspect_model(folder / name) == inspect_model(folder)


def test_a_separate_template_wins(tmp_path: Path) -> None:
    folder = tiny_llama_dir(tmp_path / "m")
    (folder / "chat_template.jinja").write_text("{{ messages }}")
    assert inspect_model(folder).chat_template == "{{ messages }}"


def test_named_templates_and_token_objects(tmp_path: Path) -> None:
    folder = tiny_llama_dir(tmp_path / "m", chat_template=None)
    templates = [{"name": "tool_use", "template": "tools"}, {"name": "default", "template": "plain"}]
    edit(folder / "tokenizer_config.json", chat_template=templates, bos_token={"content": "<s>", "lstrip": False})
    facts = inspect_model(folder)
    assert (facts.chat_template, facts.bos_token) == ("plain", "<s>")


def test_sizes_of_the_language_model_within_a_larger_one(tmp_path: Path) -> None:
    folder = tiny_llama_dir(tmp_path / "m")
    edit(folder / "config.json", text_config={"num_hidden_layers": 40, "hidden_size": 5120})
    facts = inspect_model(folder)
    assert (facts.block_count, facts.embedding_length, facts.architecture) == (40, 5120, "llama")


def test_packed_weights_have_no_known_count(tmp_path: Path) -> None:
    folder = tiny_llama_dir(tmp_path / "m")
    edit(folder / "config.json", quantization_config={"quant_method": "gptq", "bits": 4})
    facts = inspect_model(folder)
    assert (facts.quantization, facts.parameter_count) == ("gptq 4-bit", None)


def test_an_index_names_the_weights_and_all_must_be_there(tmp_path: Path) -> None:
    folder = tiny_llama_dir(tmp_path / "m")
    (folder / "model.safetensors").rename(folder / "model-00001-of-00002.safetensors")
    names = [f"model-{part:05d}-of-00002.safetensors" for part in (1, 2)]
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"a": names[0], "b": names[1]}}))
    with pytest.raises(CorruptFile, match="1 of the 2 weight files") as caught:
        inspect_model(folder)
    assert names[1] in caught.value.cause
    index.write_text(json.dumps({"weight_map": {"a": names[0]}}))
    assert inspect_model(folder).files == (folder / names[0],)
    index.write_text(json.dumps({"weight_map": {"a": "../../secret"}}))
    with pytest.raises(CorruptFile, match="outside"):
        inspect_model(folder)


def test_pickled_weights_are_described_as_far_as_known(tmp_path: Path) -> None:
    folder = tiny_llama_dir(tmp_path / "m")
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    facts = inspect_model(folder)
    assert (facts.parameter_count, facts.tensor_bytes, facts.block_count) == (None, None, 2)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\x00" * 4, "ends in the middle"),
        (struct.pack("<Q", 1 << 60) + b"{}", "ends in the middle"),
        (struct.pack("<Q", 2) + b"[]", "no JSON object"),
        (struct.pack("<Q", 2) + b"{]", "not valid JSON"),
        (struct.pack("<Q", 200_000) + b"[" * 200_000, "not valid JSON"),
        (struct.pack("<Q", 9) + b'{"a":{} }', "cannot be read"),
        (
            struct.pack("<Q", 57) + b'{"a":{"dtype":"F32","shape":[-1],"data_offsets":[0,4]}}  ' + bytes(4),
            "cannot be read",
        ),
        (struct.pack("<Q", 57) + b'{"a":{"dtype":"F32","shape":[64],"data_offsets":[0,256]}}', "incomplete"),
    ],
)
def test_broken_safetensors(tmp_path: Path, content: bytes, message: str) -> None:
    folder = tiny_llama_dir(tmp_path / "m")
    (folder / "model.safetensors").write_bytes(content)
    with pytest.raises(CorruptFile, match=message):
        inspect_model(folder)


def test_a_configuration_without_weights(tmp_path: Path) -> None:
    folder = tiny_llama_dir(tmp_path / "m")
    (folder / "model.safetensors").unlink()
    with pytest.raises(UnsupportedFormat, match="no weights"):
        inspect_model(folder)
    tiny_llama_spm(folder / "model.gguf")  # as folders of GGUF files have one, for their architecture
    assert inspect_model(folder).format is ModelFormat.GGUF


# --- llamafiles ---------------------------------------------------------------------------------------------------


def test_a_llamafile_with_weights(tmp_path: Path) -> None:
    inside = inspect_model(tiny_llama_spm(tmp_path / "m.gguf"))
    path = tiny_llamafile(tmp_path / "tiny.llamafile", tmp_path / "m.gguf")
    facts = inspect_model(path)
    assert (facts.format, facts.path, facts.file_bytes) == (ModelFormat.LLAMAFILE, path, path.stat().st_size)
    assert (facts.name, facts.parameter_count, facts.tensor_bytes) == (
        inside.name,
        inside.parameter_count,
        inside.tensor_bytes,
    )
    assert (facts.eos_token, facts.chat_template) == ("</s>", SPM_CHAT)
    assert model_id(facts) == "tiny"


def test_the_arguments_say_which_file_is_the_model(tmp_path: Path) -> None:
    small = tiny_llama_spm(tmp_path / "small.gguf", quantization="Q4_0")
    path = tiny_llamafile(tmp_path / "m.llamafile", small)
    with zipfile.ZipFile(path, "a") as archive:
        archive.write(tiny_llama_bpe(tmp_path / "large.gguf", quantization="F32"), "large.gguf")
    assert inspect_model(path).quantization == "Q4_0"
    path = tiny_llamafile(tmp_path / "n.llamafile", small, arguments="--port\n1\n")
    with zipfile.ZipFile(path, "a") as archive:
        archive.write(tmp_path / "large.gguf", "large.gguf")
    assert inspect_model(path).quantization == "F32"


def test_a_program_without_a_model(tmp_path: Path) -> None:
    path = tmp_path / "llamafile"
    path.write_bytes(b"MZqFpD='\n" + bytes(1000))
    with pytest.raises(UnsupportedFormat, match="without a model"):
        inspect_model(path)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("readme.txt", "hello")
    with pytest.raises(UnsupportedFormat, match="without a model"):
        inspect_model(path)


def test_a_compressed_model_inside(tmp_path: Path) -> None:
    path = tmp_path / "m.llamafile"
    path.write_bytes(b"MZqFpD='\n")
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.write(tiny_llama_spm(tmp_path / "m.gguf"), "m.gguf")
    with pytest.raises(UnsupportedFormat, match="compressed"):
        inspect_model(path)


def test_a_damaged_model_inside(tmp_path: Path) -> None:
    (tmp_path / "m.gguf").write_bytes(b"GGUF\x03")
    path = tiny_llamafile(tmp_path / "m.llamafile", tmp_path / "m.gguf")
    with pytest.raises((CorruptFile, UnsupportedFormat), match=r"m\.gguf in m\.llamafile"):
        inspect_model(path)


@pytest.mark.parametrize("offset", [0xFFFFFFF0, 0x7FFFFFFF])
def test_an_archive_whose_directory_points_to_nowhere(tmp_path: Path, offset: int) -> None:
    path = tiny_llamafile(tmp_path / "m.llamafile", tiny_llama_spm(tmp_path / "m.gguf"))
    data = path.read_bytes()
    end = data.rindex(b"PK\x05\x06")
    path.write_bytes(data[: end + 16] + struct.pack("<I", offset) + data[end + 20 :])
    with pytest.raises((CorruptFile, UnsupportedFormat)) as caught:
        inspect_model(path)
    assert "m.llamafile" in caught.value.message


def test_arguments_that_cannot_be_unpacked(tmp_path: Path) -> None:
    """Damage to one member's bytes or flags must not show as anything but a damaged llamafile."""
    path = tmp_path / "m.llamafile"
    path.write_bytes(b"MZqFpD='\n")
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(".args", "-m\nm.gguf\n" * 50)
        archive.write(tiny_llama_spm(tmp_path / "m.gguf"), "m.gguf", zipfile.ZIP_STORED)
    data = bytearray(path.read_bytes())
    start = data.index(b".args") + len(".args")
    data[start : start + 8] = b"\xff" * 8
    path.write_bytes(data)
    with pytest.raises(UnsupportedFormat, match="without a model"):
        inspect_model(path)


# --- formats before GGUF ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("magic", "kind"), [(b"tjgg", "ggjt"), (b"fmgg", "ggmf")])
def test_llama_before_gguf(tmp_path: Path, magic: bytes, kind: str) -> None:
    path = tmp_path / "old.bin"
    path.write_bytes(magic + struct.pack("<8I", 3, 32_000, 4096, 256, 32, 32, 128, 2002) + bytes(100))
    facts = inspect_model(path)
    assert (facts.format, facts.architecture, facts.tokenizer) == (ModelFormat.GGML, "llama", "llama")
    assert (facts.vocabulary_size, facts.embedding_length, facts.head_count, facts.block_count) == (
        32_000,
        4096,
        32,
        32,
    )
    assert facts.quantization == "Q4_0"
    assert facts.metadata["ggml.container"] == kind


def test_impossible_sizes_before_gguf(tmp_path: Path) -> None:
    path = tmp_path / "old.bin"
    path.write_bytes(b"tjgg" + struct.pack("<8I", 3, 0xFFFFFFFF, 4096, 256, 32, 32, 128, 2))
    with pytest.raises(CorruptFile, match="impossible sizes"):
        inspect_model(path)
    path.write_bytes(b"tjgg\x01")
    with pytest.raises(CorruptFile, match="inside its header"):
        inspect_model(path)


def test_the_oldest_files_take_their_architecture_from_beside(tmp_path: Path) -> None:
    path = tmp_path / "ggml-model.bin"
    path.write_bytes(b"lmgg" + bytes(64))
    assert inspect_model(path).architecture is None
    (tmp_path / "config.json").write_text('{"model_type": "gptj"}')
    assert inspect_model(path).architecture == "gptj"


# --- what is no model ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "error", "message"),
    [
        (b"", CorruptFile, "is empty"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", CorruptFile, "Git LFS pointer"),
        (b"<!DOCTYPE html>\n<html>", CorruptFile, "web page"),
        (bytes(1000), CorruptFile, "zeros"),
        (b"PK\x03\x04 a pickled checkpoint", UnsupportedFormat, "no known model format"),
        (b"\xff" * 10, UnsupportedFormat, "no known model format"),
    ],
)
def test_things_people_end_up_with(tmp_path: Path, content: bytes, error: type[Exception], message: str) -> None:
    path = tmp_path / "m.gguf"
    path.write_bytes(content)
    with pytest.raises(error, match=message):
        inspect_model(path)


def test_nothing_there(tmp_path: Path) -> None:
    tiny_llama_spm(tmp_path / "tiny-llama.gguf")
    with pytest.raises(ModelNotFound, match="does not exist") as caught:
        inspect_model(tmp_path / "tiny-lama.gguf")
    assert "tiny-llama.gguf" in caught.value.hint
    with pytest.raises(ModelNotFound) as caught:
        inspect_model(tmp_path / "nowhere" / "m.gguf")
    assert "nowhere" in caught.value.cause


def test_a_folder_that_is_no_model(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedFormat, match="folder"):
        inspect_model(tmp_path)
    tiny_llama_spm(tmp_path / "a.gguf")
    assert inspect_model(tmp_path).path == tmp_path / "a.gguf"
    tiny_llama_spm(tmp_path / "b.gguf")
    with pytest.raises(UnsupportedFormat, match="folder") as caught:
        inspect_model(tmp_path)
    assert "2 GGUF models" in caught.value.cause


def test_a_file_that_may_not_be_read(tmp_path: Path) -> None:
    path = tiny_llama_spm(tmp_path / "m.gguf")
    path.chmod(0)
    if os.access(path, os.R_OK):  # the superuser and Windows read it all the same
        assert sys.platform == "win32" or os.geteuid() == 0
        assert inspect_model(path).name
    else:
        with pytest.raises(ModelNotFound, match="cannot be read"):
            inspect_model(path)
