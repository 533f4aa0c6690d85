"""Which devices an installed engine was built for, read from the files of its package.

Importing an engine to ask it would pull it into the app's own process; what the engine itself says when asked is
`webui.setup.probe`'s business. An engine this file does not know gives an empty answer: unknown.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from importlib import metadata
from pathlib import Path

from webui.hardware.facts import HardwareFacts

VENDORS = {
    "cuda": ("nvidia",),
    "rocm": ("amd",),
    "vulkan": ("nvidia", "amd", "intel"),
    "xpu": ("intel",),
    "metal": ("apple",),
    "mps": ("apple",),
}
"""Whose GPUs a device kind runs on."""

_GGML_LIBRARIES = {"cuda": "cuda", "hip": "rocm", "vulkan": "vulkan", "sycl": "xpu", "metal": "metal"}


def built_devices(name: str) -> tuple[str, ...]:
    """The device kinds the installed build of backend `name` can use at all; empty where that cannot be told."""
    look = _LOOKS.get(name)
    return look() if look is not None else ()


def usable_devices(built: tuple[str, ...], hardware: HardwareFacts | None) -> tuple[str, ...]:
    """The part of `built` that this machine has. Without facts of the machine nothing is left out."""
    if hardware is None:
        return built
    vendors = {gpu.vendor for gpu in hardware.gpus}
    return tuple(device for device in built if device not in VENDORS or vendors & set(VENDORS[device]))


def _files(distribution: str) -> list[Path]:
    try:
        found = metadata.distribution(distribution)
    except metadata.PackageNotFoundError:
        return []
    return [Path(str(found.locate_file(file))) for file in found.files or ()]


def _llama_cpp_python() -> tuple[str, ...]:
    names = " ".join(file.name.lower() for file in _files("llama-cpp-python") if "lib" in file.name.lower())
    if not names:
        return ()
    kinds = [kind for part, kind in _GGML_LIBRARIES.items() if f"ggml-{part}" in names]
    return ("cpu", *kinds)


def _xllamacpp() -> tuple[str, ...]:
    version = metadata.version("xllamacpp") if _files("xllamacpp") else ""
    if not version:
        return ()
    label = version.partition("+")[2]
    kinds = [kind for prefix, kind in (("cu", "cuda"), ("rocm", "rocm"), ("vulkan", "vulkan")) if prefix in label]
    return ("cpu", *kinds, *(("metal",) if sys.platform == "darwin" else ()))


def _ctransformers() -> tuple[str, ...]:
    files = _files("ctransformers")
    if not files:
        return ()
    has_cuda_build = any("cuda" in file.parts and file.exists() for file in files)
    has_cuda_libraries = bool(_files("nvidia-cublas-cu12")) and bool(_files("nvidia-cuda-runtime-cu12"))
    return ("cpu", "cuda") if has_cuda_build and has_cuda_libraries else ("cpu",)


def _torch() -> tuple[str, ...]:
    """torch writes what it was built with into `torch/version.py`."""
    version = next((file for file in _files("torch") if file.parts[-2:] == ("torch", "version.py")), None)
    if version is None:
        return ()
    text = version.read_text("utf-8")
    kinds = [
        kind
        for field, kind in (("cuda", "cuda"), ("hip", "rocm"), ("xpu", "xpu"))
        if re.search(rf"^{field}\b[^=\n]*=\s*['\"]", text, re.MULTILINE)
    ]
    return ("cpu", *kinds, *(("mps",) if sys.platform == "darwin" else ()))


def _llamafile() -> tuple[str, ...]:
    return ("cpu",)  # the executable looks for GPUs itself when it starts


_LOOKS: dict[str, Callable[[], tuple[str, ...]]] = {
    "ctransformers": _ctransformers,
    "transformers": _torch,
    "llamafile": _llamafile,
    "xllamacpp": _xllamacpp,
    "llama-cpp-python": _llama_cpp_python,
}
