"""Command lines for each generation, from the help their programs print; no program is started for a reply here."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.fakes import executable
from webui.loaders.llama_server import Dialect
from webui.loaders.llamafile_flags import DRAFT_ROWS, ROWS, CommandLine, server_arguments
from webui.loaders.llamafile_parameters import LlamafileParameters
from webui.loaders.llamafile_program import Program, probe

V1, V2, V10, SERVER = "0.9 v1", "0.9 v2", "0.10", "llama-server"


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Program]:
    folder = tmp_path_factory.mktemp("programs")
    old = executable(folder, "llamafile-0.9.3", "old_llamafile")
    return {
        V1: probe(old),
        V2: probe(old, prefer_v2=True),
        V10: probe(executable(folder, "llamafile-0.10.0", "llama_server", "--as-llamafile", "0.10.0")),
        SERVER: probe(executable(folder, "llama-server", "llama_server")),
    }


def test_what_the_programs_are(programs: dict[str, Program]) -> None:
    assert {name: (program.version, program.is_llamafile, program.dialect) for name, program in programs.items()} == {
        V1: ("0.9.3", True, Dialect.V1),
        V2: ("0.9.3", True, Dialect.V2),
        V10: ("0.10.0", True, Dialect.UPSTREAM),
        SERVER: ("6543", False, Dialect.UPSTREAM),
    }


def test_flags_are_read_from_each_form_of_help(programs: dict[str, Program]) -> None:
    assert programs[V2].has("--slots") and not programs[V2].has("--port")
    assert programs[V1].has("--port") and programs[V1].has("-tb") and not programs[V1].has("-default")
    for flag in ("-ngl", "--n-gpu-layers", "--no-kv-unified", "--no-warmup", "-ot", "--api-key"):
        assert programs[SERVER].has(flag), flag
    assert programs[SERVER].takes_value("--flash-attn")
    assert not programs[V1].takes_value("--flash-attn")


def line(program: Program, model: str | None = "m.gguf", **parameters: Any) -> CommandLine:
    wanted = LlamafileParameters.parse({"threads": 3, "context_size": 1000, **parameters})
    return server_arguments(program, wanted, model=model, port=1234, trained_context=8000)


def test_whole_lines(programs: dict[str, Program]) -> None:
    assert line(programs[V1]).arguments == (
        *("--server", "--host", "127.0.0.1", "--port", "1234", "--nobrowser", "-m", "m.gguf", "-c", "1000"),
        *("--parallel", "1", "--threads", "3", "--n-gpu-layers", "999", "--batch-size", "512"),
    )
    assert line(programs[V2], model=None).arguments == (
        *("--server", "--v2", "-l", "127.0.0.1:1234", "--ctx-size", "1000", "--slots", "1", "--threads", "3"),
        *("--n-gpu-layers", "999"),
    )
    assert line(programs[V10]).arguments == (
        *("--server", "--host", "127.0.0.1", "--port", "1234", "--no-ui", "-m", "m.gguf", "-c", "1000"),
        *("--parallel", "4", "--kv-unified", "--threads", "3", "--batch-size", "512", "--cache-ram", "1024"),
    )
    assert line(programs[SERVER]).arguments == line(programs[V10]).arguments[1:]


@pytest.mark.parametrize(
    ("program", "parameters", "words"),
    [
        (SERVER, {"gpu_layers": 7}, ("--n-gpu-layers", "7")),
        (SERVER, {"fit_to_memory": False}, ("--fit", "off")),
        (SERVER, {"fit_to_memory": False}, ("--n-gpu-layers", "999")),
        (SERVER, {"flash_attention": "off"}, ("--flash-attn", "off")),
        (V1, {"flash_attention": "on"}, ("--flash-attn",)),
        (SERVER, {"use_mmap": False}, ("--load-mode", "none")),
        (SERVER, {"use_mlock": True}, ("--load-mode", "mmap+mlock")),
        (V1, {"use_mmap": False}, ("--no-mmap",)),
        (V1, {"use_mlock": True}, ("--mlock",)),
        (SERVER, {"shared_cache": False, "slots": 3}, ("-c", "3000")),
        (SERVER, {"shared_cache": False, "slots": 3}, ("--no-kv-unified",)),
        (SERVER, {"context_size": 0}, ("-c", "0")),
        (V1, {"context_size": 0, "slots": 2}, ("-c", "16000")),
        (V1, {"slots": 2}, ("-c", "2000")),
        (V2, {"slots": 2}, ("--ctx-size", "1000")),
        (SERVER, {"lora": "a.gguf"}, ("--lora", "a.gguf")),
        (SERVER, {"lora": "a.gguf", "lora_scale": 0.5}, ("--lora-scaled", "a.gguf:0.5")),
        (V1, {"gpu": "nvidia"}, ("--gpu", "nvidia")),
        (V1, {"rope_scaling": "yarn", "rope_freq_base": 10000.0}, ("--rope-freq-base", "10000")),
        (SERVER, {"warmup": False, "cpu_repacking": "off"}, ("--no-warmup",)),
    ],
)
def test_words(programs: dict[str, Program], program: str, parameters: dict[str, Any], words: tuple[str, ...]) -> None:
    made = line(programs[program], **parameters)
    joined = " ".join(made.arguments)
    assert f" {' '.join(words)} " in f" {joined} "
    assert made.notes == ()


@pytest.mark.parametrize(
    ("program", "parameters", "named"),
    [
        (V2, {"flash_attention": "on"}, "flash_attention"),
        (V1, {"lora": "a.gguf", "lora_scale": 0.5}, "lora"),
        (V1, {"cache_type_k": "q8_0"}, "cache_type_k"),
        (SERVER, {"gpu": "nvidia"}, "gpu"),
        (SERVER, {"draft_model": "d.gguf"}, "draft_model"),
    ],
)
def test_what_cannot_be_said_is_said_so(
    programs: dict[str, Program], program: str, parameters: dict[str, Any], named: str
) -> None:
    made = line(programs[program], **parameters)
    assert len(made.notes) == 1
    assert named in made.notes[0]


def test_every_common_parameter_has_a_row() -> None:
    elsewhere = {"context_size", "gpu_layers", "threads", "slots", "shared_cache", "flash_attention"}
    elsewhere |= {"use_mmap", "use_mlock", "lora", "lora_scale", "control_vector", "control_vector_scale"}
    elsewhere |= {"executable", "generation"}
    rows = {row.parameter for row in (*ROWS, *DRAFT_ROWS)}
    assert rows | elsewhere == set(LlamafileParameters.model_fields)
    assert not rows & elsewhere


def test_a_program_that_lists_everything_gets_everything(tmp_path: Path) -> None:
    flags = frozenset(flag for row in (*ROWS, *DRAFT_ROWS) for flag in row.flags)
    flags |= {"--parallel", "--kv-unified", "--lora-scaled", "--control-vector-scaled", "--load-mode", "--flash-attn"}
    program = Program(tmp_path / "all", ("all",), "1", True, Dialect.UPSTREAM, flags, "--flash-attn [on|off|auto]")
    wanted: dict[str, Any] = {
        "draft_model": "d.gguf",
        "lora": "l.gguf",
        "lora_scale": 2,
        "control_vector": "v.gguf",
        "control_vector_scale": -1,
        "flash_attention": "on",
        "cpu_mask": "0xFF",
        "priority": "high",
        "expert_layers_on_cpu": 4,
        "offload_kv_cache": False,
        "numa": "isolate",
    }
    made = line(program, **wanted)
    assert made.notes == ()
    said = " ".join(made.arguments)
    for words in (
        "--model-draft d.gguf",
        "--spec-draft-n-max 8",
        "--spec-draft-ngl 999",
        "--lora-scaled l.gguf:2",
        "--control-vector-scaled v.gguf:-1",
        "--flash-attn on",
        "--cpu-mask ff",
        "--prio 2",
        "--n-cpu-moe 4",
        "--no-kv-offload",
        "--numa isolate",
    ):
        assert words in said
