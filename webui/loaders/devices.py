"""What each engine itself can compute on: asked of the engine, in a process of its own.

    python -m webui.loaders.devices LOADER      prints one line of JSON

A GPU that is there and that no engine here was built for is the commonest disappointment, and only the engines know.
`ask` imports them and is for the child process alone; `webui.setup.abilities` starts it, bounds it and keeps answers.
"""

from __future__ import annotations

import ctypes
import importlib
import importlib.util
import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from webui.errors import AppError
from webui.loaders.cuda_driver import nvidia_gpus
from webui.loaders.llama_log import device_kind
from webui.loaders.llamafile_program import find_program, probe

MIB = 1 << 20
LIST_SECONDS = 30.0
GPU_TYPES = (1, 2)
"""ggml's numbers for GPUs and for GPUs that share the machine's memory; others are the processor and its helpers."""
_LISTED = re.compile(r"^\s+(?P<id>\S+): (?P<name>.+) \((?P<total>\d+) MiB, (?P<free>\d+) MiB free\)")


@dataclass(frozen=True, slots=True)
class EngineDevice:
    """A GPU as the engine sees it. `name` is the engine's own ("CUDA0"); the free memory is that of the asking."""

    kind: str
    name: str
    description: str
    memory_total: int | None = None
    memory_free: int | None = None


@dataclass(frozen=True, slots=True)
class Ability:
    """What one loader's engine can use here besides the processor.

    `reason` says in one sentence why it sees no GPU, and is empty where it sees one. `told` is false where the engine
    could not be asked: then no device does not mean that there is none. `installed` is false where there is no engine.
    """

    loader: str
    devices: tuple[EngineDevice, ...] = ()
    reason: str = ""
    told: bool = True
    installed: bool = True

    @property
    def kinds(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(device.kind for device in self.devices))

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Ability:
        return cls(**{**data, "devices": tuple(EngineDevice(**device) for device in data["devices"])})


def ask(loader: str) -> Ability:
    """The engine's answer. Imports it: only in a process of its own. An engine unknown to this file tells nothing."""
    question = _QUESTIONS.get(loader)
    if question is None:
        return Ability(loader, reason="this backend does not say what it can use", told=False)
    return question(loader)


def _xllamacpp(loader: str) -> Ability:
    engine = importlib.import_module("xllamacpp")
    found = [
        EngineDevice(
            device_kind(told["name"]), told["name"], told["description"], told["memory_total"], told["memory_free"]
        )
        for told in engine.get_device_info()
        if int(told["type"]) in GPU_TYPES
    ]
    return Ability(loader, tuple(found), "" if found else "this build sees no GPU")


def _llama_cpp_python(loader: str) -> Ability:
    """The package has no call for it; its ggml library has."""
    engine = importlib.import_module("llama_cpp")
    if not engine.llama_supports_gpu_offload():
        return Ability(loader, reason="it was compiled for the processor only")
    found = tuple(_ggml_devices(importlib.import_module("llama_cpp._ggml").libggml))
    return Ability(loader, found, "" if found else "it was compiled for GPUs and sees none")


def _ggml_devices(ggml: Any) -> Iterable[EngineDevice]:
    pointer, text, size = ctypes.c_void_p, ctypes.c_char_p, ctypes.c_size_t
    ggml.ggml_backend_dev_count.restype = size
    ggml.ggml_backend_dev_get.argtypes, ggml.ggml_backend_dev_get.restype = [size], pointer
    for name, result in (("name", text), ("description", text), ("type", ctypes.c_int)):
        call = getattr(ggml, f"ggml_backend_dev_{name}")
        call.argtypes, call.restype = [pointer], result
    ggml.ggml_backend_dev_memory.argtypes = [pointer, ctypes.POINTER(size), ctypes.POINTER(size)]
    ggml.ggml_backend_dev_memory.restype = None
    for index in range(ggml.ggml_backend_dev_count()):
        device = ggml.ggml_backend_dev_get(index)
        if ggml.ggml_backend_dev_type(device) not in GPU_TYPES:
            continue
        free, total = size(), size()
        ggml.ggml_backend_dev_memory(device, ctypes.byref(free), ctypes.byref(total))
        name = ggml.ggml_backend_dev_name(device).decode()
        described = ggml.ggml_backend_dev_description(device).decode(errors="replace")
        yield EngineDevice(device_kind(name), name, described, total.value, free.value)


def _ctransformers(loader: str) -> Ability:
    """Its CUDA library is in the package; whether it can be loaded depends on packages of NVIDIA's."""
    spec = importlib.util.find_spec("ctransformers")
    if spec is None or spec.origin is None:
        return Ability(loader, reason="it is not installed", installed=False)
    libraries = (Path(spec.origin).parent / "lib" / "cuda").glob("*ctransformers.*")
    ours = {"linux": ".so", "win32": ".dll"}.get(sys.platform)
    library = next((path for path in libraries if path.suffix == ours), None)
    if library is None:
        return Ability(loader, reason="its package has no GPU library for this system")
    try:
        if not importlib.import_module("ctransformers.lib").load_cuda():
            return Ability(loader, reason="the CUDA 12 libraries that its GPU build needs are not installed")
        ctypes.CDLL(str(library))
    except OSError as error:
        return Ability(loader, reason=f"its GPU library cannot be loaded: {error}")
    found = tuple(EngineDevice("cuda", f"CUDA{index}", name) for index, name in enumerate(nvidia_gpus()))
    return Ability(loader, found, "" if found else "its GPU build sees no NVIDIA GPU")


def _transformers(loader: str) -> Ability:
    torch = importlib.import_module("torch")
    found: list[EngineDevice] = []
    reason = "this build of torch is for the processor only"
    if torch.version.cuda or torch.version.hip:
        kind = "cuda" if torch.version.cuda else "rocm"
        found, reason = _torch_cuda(torch, kind)
    if torch.backends.mps.is_available():
        total = int(torch.mps.recommended_max_memory())
        found.append(EngineDevice("mps", "mps", "Apple GPU", total, total - int(torch.mps.driver_allocated_memory())))
    if torch.xpu.is_available():
        for index in range(torch.xpu.device_count()):
            told = torch.xpu.get_device_properties(index)
            found.append(EngineDevice("xpu", f"xpu:{index}", str(told.name), int(told.total_memory)))
    return Ability(loader, tuple(found), "" if found else reason)


def _torch_cuda(torch: Any, kind: str) -> tuple[list[EngineDevice], str]:
    """The GPUs torch can compute on: it lists those, too, whose generation its build leaves out."""
    try:
        torch.cuda.init()
    except RuntimeError as error:  # no driver, one that is too old, a device that is gone: torch says which
        return [], f"torch cannot use a GPU here: {str(error).splitlines()[0].rstrip('.')}"
    found, reason = [], "torch sees no GPU"
    built = torch.cuda.get_arch_list()
    for index in range(torch.cuda.device_count()):
        told = torch.cuda.get_device_properties(index)
        name = str(told.name)
        if kind == "cuda" and not _covers(built, told.major, told.minor):
            reason = f"this build of torch leaves out {name} (compute capability {told.major}.{told.minor})"
            continue
        free, total = torch.cuda.mem_get_info(index)
        found.append(EngineDevice(kind, f"cuda:{index}", name, int(total), int(free)))
    return found, reason


def _covers(built: Iterable[str], major: int, minor: int) -> bool:
    """Code for sm_86 runs on every 8.x from 8.6 on; compute_90 is compiled for whatever is newer."""
    for name in built:
        found = re.fullmatch(r"(sm|compute)_(\d+)(\d)[a-z]?", name)
        if found is None:
            continue
        have = int(found[2]), int(found[3])
        if (found[1] == "sm" and have[0] == major and have[1] <= minor) or (
            found[1] == "compute" and have <= (major, minor)
        ):
            return True
    return False


def _llamafile(loader: str) -> Ability:
    program = probe(find_program())
    if program.has("--list-devices") is None:
        said = f"{program.path.name} {program.version} does not list its devices; it looks for GPUs when it starts"
        return Ability(loader, reason=said, told=False)
    words = [*program.start, *(["--server"] if program.is_llamafile else []), "--list-devices"]
    done = subprocess.run(words, capture_output=True, text=True, errors="replace", timeout=LIST_SECONDS, check=False)
    found = tuple(read_list(done.stdout.splitlines()))
    return Ability(loader, found, "" if found else f"{program.path.name} {program.version} sees no GPU")


def read_list(lines: Iterable[str]) -> Iterable[EngineDevice]:
    """The devices in what llama.cpp's programs print for --list-devices."""
    for line in lines:
        told = _LISTED.match(line)
        if told and device_kind(told["id"]) != "cpu":
            total, free = int(told["total"]) * MIB, int(told["free"]) * MIB
            yield EngineDevice(device_kind(told["id"]), told["id"], told["name"], total, free)


_QUESTIONS: dict[str, Callable[[str], Ability]] = {
    "ctransformers": _ctransformers,
    "transformers": _transformers,
    "llamafile": _llamafile,
    "xllamacpp": _xllamacpp,
    "llama-cpp-python": _llama_cpp_python,
}


def main(loader: str) -> None:
    """The child's part. What an engine prints while it is asked stays before the last line."""
    try:
        ability = ask(loader)
    except AppError as error:
        ability = Ability(loader, reason=error.message.rstrip("."), told=False)
    sys.stdout.write("\n" + json.dumps(ability.to_dict()) + "\n")


if __name__ == "__main__":
    main(sys.argv[1])
