"""llama.cpp's log, read: reasons of failures and devices in use, from lines that it really prints."""

from __future__ import annotations

import pytest

from webui.errors import (
    AppError,
    CorruptFile,
    DeviceOutOfMemory,
    EngineRefused,
    HostOutOfMemory,
    InvalidSetting,
    UnsupportedArchitecture,
    UnsupportedFormat,
    UnsupportedQuantization,
    UnsupportedTokenizer,
)
from webui.loaders.llama_log import explain_failure, read_device


@pytest.mark.parametrize(
    ("line", "kind"),
    [
        (
            "llama_model_load: error loading model: unknown model architecture: 'future'",
            UnsupportedArchitecture,
        ),
        ("llama_model_load: error loading model: unknown pre-tokenizer type: 'new'", UnsupportedTokenizer),
        ("llama_model_load: error loading model: unknown tokenizer: 'odd'", UnsupportedTokenizer),
        ("gguf_init_from_reader: tensor 'x' has invalid ggml type 99. should be in [0, 43)", UnsupportedQuantization),
        (
            "gguf_init_from_reader: GGUFv1 is no longer supported, please use a more up-to-date version",
            UnsupportedFormat,
        ),
        ("gguf_init_from_reader: invalid magic characters: 'hell', expected 'GGUF'", UnsupportedFormat),
        (
            "llama_model_load: error loading model: tensor 'blk.16.ffn_down.weight' data is not within the file "
            "bounds, model is corrupted or incomplete",
            CorruptFile,
        ),
        (
            "ggml_backend_cuda_buffer_type_alloc_buffer: allocating 900.00 MiB on device 0: cudaMalloc failed",
            DeviceOutOfMemory,
        ),
        ("llama_model_load: error loading model: unable to allocate CUDA0 buffer", DeviceOutOfMemory),
        ("llama_model_load: error loading model: unable to allocate CPU buffer", HostOutOfMemory),
        ("ggml_aligned_malloc: insufficient memory (attempted to allocate 900.00 MB)", HostOutOfMemory),
        ("llama_init_from_model: quantized V cache was requested, but this requires Flash Attention", InvalidSetting),
        ("something nobody has seen before", EngineRefused),
    ],
)
def test_a_line_of_the_log_names_the_error(line: str, kind: type[AppError]) -> None:
    lines = ["llama_model_loader: loaded meta data\n", "....", line + "\n", "llama_model_load_from_file_impl: failed\n"]
    error = explain_failure(lines, "load the model")
    assert type(error) is kind
    assert line in error.evidence
    assert "...." not in error.evidence


def test_the_name_the_engine_does_not_know_is_told() -> None:
    error = explain_failure(["unknown model architecture: 'future'"], "load the model")
    assert "future" in error.message


def test_no_gpu_in_the_log_is_the_cpu() -> None:
    assert read_device(["load_tensors: CPU_Mapped model buffer size = 92.10 MiB"]).kind == "cpu"


@pytest.mark.parametrize(
    ("lines", "text", "kind", "layers"),
    [
        (
            [
                "using device CUDA0 (NVIDIA H200) (0000:01:00.0) - 143000 MiB free",
                "load_tensors: offloaded 31/31 layers to GPU",
            ],
            "NVIDIA H200, 31/31 layers",
            "cuda",
            31,
        ),
        (
            [
                "using device Vulkan0 (AMD Radeon RX 7900 XTX (RADV NAVI31)) (0000:03:00.0) - 24000 MiB free",
                "load_tensors: offloaded 12/33 layers to GPU",
            ],
            "AMD Radeon RX 7900 XTX (RADV NAVI31), 12/33 layers",
            "vulkan",
            12,
        ),
        (
            [
                "using device CUDA0 (NVIDIA A100) (0000:01:00.0) - 80000 MiB free",
                "using device CUDA1 (NVIDIA A100) (0000:02:00.0) - 80000 MiB free",
                "load_tensors: offloaded 33/33 layers to GPU",
            ],
            "2 × NVIDIA A100, 33/33 layers",
            "cuda",
            33,
        ),
        (
            [
                "using device CUDA0 (NVIDIA H200) (0000:01:00.0) - 143000 MiB free",
                "load_tensors: offloaded 0/31 layers to GPU",
            ],
            "CPU",
            "cpu",
            0,
        ),
    ],
)
def test_devices_and_layers_are_read(lines: list[str], text: str, kind: str, layers: int) -> None:
    report = read_device(lines)
    assert (report.text, report.kind, report.layers) == (text, kind, layers)
