"""llama.cpp's log, read: devices in use, from lines that it really prints."""

from __future__ import annotations

import pytest

from webui.loaders.llama_log import read_device


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
