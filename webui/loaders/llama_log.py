"""Reading llama.cpp's own log: why it failed, and where it put the model.

The engine's functions return only "no"; the reason and the device stand in its log. The lines are the same whether
llama.cpp is called through its Python binding or runs as a server, so every loader built on it can use this module.
Pure functions over lines; who collects the lines is up to the loader.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

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

_DEVICE_KINDS = (
    ("CUDA", "cuda"),
    ("ROCm", "rocm"),
    ("Vulkan", "vulkan"),
    ("Metal", "metal"),
    ("MTL", "metal"),
    ("SYCL", "xpu"),
)
_USING_DEVICE = re.compile(r"using device (?P<id>\S+) \((?P<name>.*?)\)(?: \([^)]*\))? - ")
_OFFLOADED = re.compile(r"offloaded (?P<done>\d+)/(?P<all>\d+) layers to GPU")


@dataclass(frozen=True, slots=True)
class DeviceReport:
    """Where the weights are. `layers` counts those on a GPU; `text` is for a person."""

    text: str
    kind: str
    layers: int


def read_device(lines: Iterable[str]) -> DeviceReport:
    """The devices that the log of a load names; the CPU when it names none or nothing was offloaded to them."""
    devices: list[tuple[str, str]] = []
    done = total = 0
    for line in lines:
        if found := _USING_DEVICE.search(line):
            devices.append((found["id"], found["name"]))
        elif found := _OFFLOADED.search(line):
            done, total = int(found["done"]), int(found["all"])
    if not devices or not done:
        return DeviceReport("CPU", "cpu", 0)
    kind = next((kind for prefix, kind in _DEVICE_KINDS if devices[0][0].startswith(prefix)), "other")
    names = " + ".join(dict.fromkeys(name for _, name in devices))
    count = f"{len(devices)} × {names}" if len(devices) > 1 and " + " not in names else names
    return DeviceReport(f"{count}, {done}/{total} layers", kind, done)


_QUOTED = r"'(?P<what>[^']*)'"
_REASONS: tuple[tuple[re.Pattern[str], type[AppError], str], ...] = (
    (
        re.compile(rf"(?:unknown|unsupported) model architecture: {_QUOTED}"),
        UnsupportedArchitecture,
        "This version of the engine does not know the architecture {what}.",
    ),
    (
        re.compile(rf"unknown (?:pre-)?tokenizer(?: type)?: {_QUOTED}"),
        UnsupportedTokenizer,
        "This version of the engine does not know the tokenizer {what}.",
    ),
    (re.compile(r"unsupported vocab type"), UnsupportedTokenizer, "The engine does not know the file's vocabulary."),
    (
        re.compile(r"tensor '[^']*' has invalid ggml type (?P<what>-?\d+)"),
        UnsupportedQuantization,
        "The file holds tensors in a type ({what}) that this version of the engine does not know.",
    ),
    (
        re.compile(r"GGUFv1 is no longer supported|(?P<what>mismatch between the host and model endianness)"),
        UnsupportedFormat,
        "The engine no longer reads this form of GGUF file.",
    ),
    (re.compile(r"invalid magic characters"), UnsupportedFormat, "The file is not a GGUF file."),
    (
        re.compile(
            r"is not within the file bounds|corrupted or incomplete|corrupted model|duplicated? tensor"
            r"|invalid GGUF type"
            r"|failed to read (?:magic|tensor info)|wrong number of tensors|missing tensor|has wrong shape"
        ),
        CorruptFile,
        "The file is damaged or incomplete.",
    ),
    (
        re.compile(r"quantized V cache|V cache quantization"),
        InvalidSetting,
        "A quantised value cache needs flash attention.",
    ),
    (
        re.compile(
            r"(?:CUDA|ROCm|Vulkan|HIP|Metal)\S* error: out of memory|cudaMalloc failed|ErrorOutOfDeviceMemory"
            r"|unable to allocate (?:CUDA|ROCm|Vulkan|Metal|MTL|SYCL)|allocating [\d.]+ MiB on device [1-9]"
            r"|failed to allocate (?:CUDA|ROCm|Vulkan|Metal|MTL|SYCL)"
        ),
        DeviceOutOfMemory,
        "The GPU's memory does not suffice for this model and context.",
    ),
    (
        re.compile(
            r"failed to allocate|unable to allocate|bad_alloc|insufficient memory|Cannot allocate memory"
            r"|failed to mmap|not enough memory"
        ),
        HostOutOfMemory,
        "The machine's memory does not suffice for this model and context.",
    ),
)


def explain_failure(lines: Sequence[str], doing: str) -> AppError:
    """The error that the log of a failed step proves; `EngineRefused` where no line says a known reason.

    `doing` completes "The engine could not …" and becomes the cause.
    """
    evidence = [line.rstrip() for line in lines if line.strip(" .\r\n")]
    for pattern, kind, message in _REASONS:
        for line in evidence:
            if found := pattern.search(line):
                what = found.groupdict().get("what") or ""
                return kind(message.format(what=what), cause=f"The engine could not {doing}.", evidence=evidence)
    return EngineRefused(f"The engine could not {doing}.", evidence=evidence)
