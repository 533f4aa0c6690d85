"""Headers of any architecture that llama.cpp knows, grown by asking it: each tensor it misses is given to it.

The engine says in its log which tensor it wants next and in which shape, so a list of hyperparameters becomes a header
that it accepts. The file is sparse: it has the extents of its tensors, all zero, and takes next to no disk.

Run as a program, it grows one header and prints what the engine plans to allocate for it: `python -m
tests.builders.grown FOLDER < case.json`. A process of its own for each, because some headers crash the engine.
"""

from __future__ import annotations

import ctypes
import json
import os
import re
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import gguf
import numpy as np

from tests.builders.vocabulary import printable_bytes

Value = int | float | bool | list[int]

BASE: dict[str, Value] = {
    "context_length": 32768,
    "embedding_length": 512,
    "block_count": 4,
    "feed_forward_length": 1024,
    "attention.head_count": 8,
    "attention.head_count_kv": 4,
    "attention.layer_norm_rms_epsilon": 1e-5,
}
_EXPERTS: dict[str, Value] = {"expert_count": 8, "expert_used_count": 2, "expert_feed_forward_length": 256}
_STATES: dict[str, Value] = {"ssm.conv_kernel": 4, "ssm.inner_size": 1024, "ssm.state_size": 16}
_NO_HEADS: dict[str, Value] = {"feed_forward_length": 0, "attention.head_count": 0, "attention.head_count_kv": 0}
ARCHITECTURES: dict[str, dict[str, Value]] = {
    "llama": {},
    "qwen3": {},
    "qwen3moe": _EXPERTS,
    "gemma2": {"attention.sliding_window": 512, "attention.key_length": 64, "attention.value_length": 64},
    "gemma3": {"attention.sliding_window": 512},
    "gpt-oss": {"attention.sliding_window": 128, **_EXPERTS},
    "cohere2": {
        "attention.sliding_window": 512,
        "attention.layer_norm_epsilon": 1e-5,
        "logit_scale": 1.0,
        "rope.dimension_count": 64,
    },
    "llama4": {**_EXPERTS, "expert_used_count": 1, "interleave_moe_layer_step": 1, "rope.dimension_count": 64},
    "olmo2": {"attention.sliding_window": 512},
    "exaone4": {"attention.sliding_window": 512},
    "smallthinker": {"attention.sliding_window": 512, "expert_gating_func": 2, **_EXPERTS},
    "deepseek2": {
        "attention.head_count_kv": 1,
        "attention.q_lora_rank": 0,
        "attention.kv_lora_rank": 128,
        "attention.key_length": 192,
        "attention.value_length": 128,
        "attention.key_length_mla": 96,
        "attention.value_length_mla": 64,
        "rope.dimension_count": 64,
        "leading_dense_block_count": 1,
        "expert_shared_count": 1,
        "expert_weights_scale": 1.0,
        **_EXPERTS,
    },
    "mamba": {**_STATES, "ssm.time_step_rank": 32, **_NO_HEADS},
    "mamba2": {**_STATES, "ssm.state_size": 128, "ssm.time_step_rank": 16, "ssm.group_count": 1, **_NO_HEADS},
    "jamba": {**_STATES, "ssm.time_step_rank": 32, "attention.head_count_kv": [0, 4, 0, 0], "expert_count": 0},
    "lfm2": {"shortconv.l_cache": 3, "attention.head_count_kv": [0, 0, 4, 0]},
    "rwkv7": {
        "wkv.head_size": 64,
        "attention.layer_norm_epsilon": 1e-5,
        "attention.decay_lora_rank": 32,
        "attention.iclr_lora_rank": 32,
        "attention.value_residual_mix_lora_rank": 32,
        "attention.gate_lora_rank": 32,
        "attention.head_count": 0,
        "attention.head_count_kv": 0,
    },
}
"""What each needs beside or instead of `BASE`."""

_UNLIKE = frozenset({"deepseek2", "jamba", "lfm2"})
"""Architectures whose layers differ in what they hold."""
_SMALL = re.compile(r"norm|ssm|bias|shortconv\.conv|time_mix|_inp")
_SHAPE = re.compile(r"tensor '(\S+)' has wrong shape; expected\s+([\d, ]+), got")
_MISSING = re.compile(r"(?:check_tensor_dims: tensor|missing tensor) '(\S+?)'")
_CACHE = re.compile(r"(?:llama_kv_cache|llama_memory_recurrent): size =\s+([\d.]+) MiB")
_COMPUTE = re.compile(r"compute buffer size =\s+([\d.]+) MiB")
MOST_TENSORS = 600
MIB = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Planned:
    """What the engine would allocate, in bytes, to the hundredth of a MiB that its log tells."""

    cache: float
    compute: float


def plans(
    folder: Path,
    architecture: str,
    runs: list[dict[str, Any]],
    *,
    vocabulary: int = 1000,
    quantization: str = "F16",
    **values: Value,
) -> tuple[Path, list[Planned]]:
    """Grow a header and ask the engine for its plan under each of `runs` (fields of its context parameters)."""
    case = {
        "architecture": architecture,
        "values": {**BASE, **ARCHITECTURES[architecture], **values},
        "runs": runs,
        "vocabulary": vocabulary,
        "quantization": quantization,
    }
    done = subprocess.run(
        [sys.executable, "-m", "tests.builders.grown", str(folder)],
        input=json.dumps(case),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"{architecture}: {done.returncode} {done.stderr[-2000:]}"
    return folder / f"{architecture}.gguf", [Planned(*found) for found in json.loads(done.stdout)]


def write(
    path: Path,
    architecture: str,
    values: Mapping[str, Value],
    tensors: Mapping[str, tuple[int, ...]],
    vocabulary: int = 1000,
    quantization: str = "F16",
) -> None:
    """The file with `tensors` (name → shape, fastest dimension first) in `quantization`, small ones as F32.

    Its vocabulary begins with the bytes, so that it tokenises any text.
    """
    writer = gguf.GGUFWriter(path, architecture)
    for name, value in values.items():
        _add(writer, f"{architecture}.{name}", value)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("default")
    tokens = ["<|begin|>", "<|end|>", *printable_bytes()]
    tokens += [f"t{number}" for number in range(vocabulary - len(tokens))]
    writer.add_token_list(tokens)
    writer.add_token_types([3, 3, *[1] * (len(tokens) - 2)])
    writer.add_token_merges(["t h", *(f"t {number}" for number in range(len(tokens) - 1))])
    writer.add_bos_token_id(0)
    writer.add_eos_token_id(1)
    for name, shape in sorted(tensors.items(), key=_in_order):
        small = len(shape) == 1 or _SMALL.search(name)
        kind = gguf.GGMLQuantizationType["F32" if small else quantization]
        block, size = gguf.GGML_QUANT_SIZES[kind]
        rows = (*reversed(shape[1:]), shape[0] // block * size)
        writer.add_tensor_info(name, rows, np.dtype(np.uint8), prod(rows), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    sizes = [info.nbytes for part in writer.tensors for info in part.values()]
    assert writer.fout is not None
    begin = _aligned(writer.fout[0].tell())
    writer.close()
    os.truncate(path, begin + sum(_aligned(size) for size in sizes))


def grow(
    path: Path, architecture: str, values: Mapping[str, Value], vocabulary: int = 1000, quantization: str = "F16"
) -> None:
    """Write a header at `path` that the engine accepts; fails with the engine's own words where it cannot be grown."""
    width, blocks = values["embedding_length"], values["block_count"]
    assert isinstance(width, int) and isinstance(blocks, int)
    tensors: dict[str, tuple[int, ...]] = {"token_embd.weight": (width, vocabulary)}
    for _ in range(MOST_TENSORS):
        write(path, architecture, values, tensors, vocabulary, quantization)
        log = dry_run(path, n_ctx=512)
        if log.loaded:
            return
        if found := _SHAPE.search(log.text):
            shape = tuple(int(size) for size in found[2].split(","))
            while len(shape) > 1 and shape[-1] == 1:
                shape = shape[:-1]
            tensors |= dict.fromkeys(_alike(found[1], architecture, blocks), shape)
        elif (missing := _MISSING.search(log.text)) and missing[1] not in tensors:
            tensors[missing[1]] = (1,)
        else:
            break
    raise AssertionError(log.text[-1500:])


@dataclass(frozen=True, slots=True)
class Log:
    """What the engine said; `loaded` is whether it took the file."""

    loaded: bool
    text: str


def dry_run(path: Path, **context: Any) -> Log:
    """Let the engine plan a load without doing it. `context` are fields of its context parameters."""
    from llama_cpp import llama_cpp as engine

    lines: list[str] = []
    receive = engine.llama_log_callback(lambda _level, text, _data: lines.append(text.decode(errors="replace")))
    engine.llama_log_set(receive, ctypes.c_void_p(0))
    wanted = engine.llama_model_default_params()
    wanted.no_alloc, wanted.load_mode, wanted.n_gpu_layers, wanted.use_extra_bufts = True, 0, 0, False
    model = engine.llama_model_load_from_file(str(path).encode(), wanted)
    if model:
        asked = engine.llama_context_default_params()
        for name, value in context.items():
            setattr(asked, name, value)
        made = engine.llama_init_from_model(model, asked)
        assert made, "".join(lines[-20:])
        engine.llama_free(made)
        engine.llama_model_free(model)
    engine.llama_log_set(engine.llama_log_callback(), ctypes.c_void_p(0))
    return Log(bool(model), "".join(lines))


def _alike(name: str, architecture: str, blocks: int) -> list[str]:
    """The tensor and its like in the blocks after it."""
    found = re.match(r"blk\.(\d+)\.(.*)", name)
    if found is None or architecture in _UNLIKE:
        return [name]
    return [f"blk.{block}.{found[2]}" for block in range(int(found[1]), blocks)]


def _add(writer: gguf.GGUFWriter, key: str, value: Value) -> None:
    if isinstance(value, bool):
        writer.add_bool(key, value)
    elif isinstance(value, int):
        writer.add_uint32(key, value)
    elif isinstance(value, float):
        writer.add_float32(key, value)
    else:
        writer.add_array(key, value)


def _in_order(tensor: tuple[str, Any]) -> tuple[int, str]:
    """As converters write tensors: the embedding, block by block, the output."""
    found = re.match(r"blk\.(\d+)\.", tensor[0])
    if found:
        return int(found[1]), tensor[0]
    return (1 << 30 if tensor[0].startswith("output") else -1), tensor[0]


def _aligned(size: int) -> int:
    return -(-size // 32) * 32


def main() -> None:
    case = json.load(sys.stdin)
    path = Path(sys.argv[1]) / f"{case['architecture']}.gguf"
    grow(path, case["architecture"], case["values"], case["vocabulary"], case["quantization"])
    found = []
    for run in case["runs"]:
        text = dry_run(path, **run).text
        cache, compute = _CACHE.findall(text), _COMPUTE.findall(text)
        found.append([sum(map(float, cache)) * MIB, sum(map(float, compute)) * MIB])
    print(json.dumps(found))


if __name__ == "__main__":
    main()
