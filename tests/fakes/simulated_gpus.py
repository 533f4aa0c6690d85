"""GPUs for llama.cpp's dry run: devices that exist only as far as planning needs them, and can compute nothing.

Run as a program, it asks the engine to plan a load onto them: `python -m tests.fakes.simulated_gpus < question.json`,
where the question holds `path`, `free` (bytes of each GPU), and fields of the engine's `model` and `context`
parameters. The answer tells the device of each layer and the compute buffer of each device. The structures are those
of version 2 of ggml's interface for backends.
"""

from __future__ import annotations

import ctypes
import json
import os
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

API_VERSION = 2
GPU = 1
ALIGNMENT = 128
MIB = 1 << 20
_LAYER = re.compile(r"layer\s+(\d+) assigned to device (\S+?),")
_COMPUTE = re.compile(r"\s(\S+) compute buffer size =\s+([\d.]+) MiB")

Pointer, Size = ctypes.c_void_p, ctypes.c_size_t
Text = ctypes.CFUNCTYPE(ctypes.c_char_p, Pointer)
Give = ctypes.CFUNCTYPE(Pointer, Pointer)


class Properties(ctypes.Structure):
    _fields_ = [
        ("name", ctypes.c_char_p),
        ("description", ctypes.c_char_p),
        ("memory_free", Size),
        ("memory_total", Size),
        ("type", ctypes.c_int),
        ("device_id", ctypes.c_char_p),
        ("capabilities", ctypes.c_bool * 5),
    ]


Memory = ctypes.CFUNCTYPE(None, Pointer, ctypes.POINTER(Size), ctypes.POINTER(Size))
Kind = ctypes.CFUNCTYPE(ctypes.c_int, Pointer)
Tell = ctypes.CFUNCTYPE(None, Pointer, ctypes.POINTER(Properties))
Start = ctypes.CFUNCTYPE(Pointer, Pointer, ctypes.c_char_p)
Judge = ctypes.CFUNCTYPE(ctypes.c_bool, Pointer, Pointer)
Count = ctypes.CFUNCTYPE(Size, Pointer)
At = ctypes.CFUNCTYPE(Pointer, Pointer, Size)
Named = ctypes.CFUNCTYPE(Pointer, Pointer, ctypes.c_char_p)
End = ctypes.CFUNCTYPE(None, Pointer)


def _structure(name: str, *fields: tuple[str, Any]) -> Any:
    return type(name, (ctypes.Structure,), {"_fields_": list(fields)})


BufferType = _structure(
    "BufferType",
    ("get_name", Text),
    ("alloc_buffer", Pointer),
    ("get_alignment", Count),
    ("get_max_size", Pointer),
    ("get_alloc_size", Pointer),
    ("is_host", Pointer),
    ("device", Pointer),
    ("context", Pointer),
)
Backend = _structure(
    "Backend",
    ("guid", Pointer),
    ("get_name", Text),
    ("free", End),
    ("unused", Pointer * 14),
    ("device", Pointer),
    ("context", Pointer),
)
Device = _structure(
    "Device",
    ("get_name", Text),
    ("get_description", Text),
    ("get_memory", Memory),
    ("get_type", Kind),
    ("get_props", Tell),
    ("init_backend", Start),
    ("get_buffer_type", Give),
    ("get_host_buffer_type", Pointer),
    ("buffer_from_host_ptr", Pointer),
    ("supports_op", Judge),
    ("supports_buft", Judge),
    ("offload_op", Pointer),
    ("events", Pointer * 3),
    ("registry", Pointer),
    ("context", Pointer),
)
Registry = _structure(
    "Registry",
    ("api_version", ctypes.c_int),
    ("get_name", Text),
    ("get_device_count", Count),
    ("get_device", At),
    ("get_proc_address", Named),
    ("context", Pointer),
)


@dataclass(frozen=True, slots=True)
class Simulated:
    """The engine's plan: the device of each layer (what makes the output last), and bytes to compute in."""

    layers: tuple[str, ...]
    compute: Mapping[str, float]


def simulate(path: Path, free: Sequence[int], *, model: Mapping[str, Any], context: Mapping[str, Any]) -> Simulated:
    """Ask the engine, in a process of its own, to plan loading `path` onto GPUs with `free` bytes."""
    question = {"path": str(path), "free": list(free), "model": dict(model), "context": dict(context)}
    done = subprocess.run(
        [sys.executable, "-m", "tests.fakes.simulated_gpus"],
        input=json.dumps(question),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"{done.returncode} {done.stderr[-2000:]}"
    answer = json.loads(done.stdout)
    return Simulated(tuple(answer["layers"]), answer["compute"])


class SimulatedGpu:
    """One device with all that points to it, which must live as long as the engine."""

    def __init__(self, index: int, free: int) -> None:
        name = f"SIM{index}".encode()
        self.device = Device()
        self.address = ctypes.addressof(self.device)
        self.buffers = BufferType(get_name=Text(lambda _: name), get_alignment=Count(lambda _: ALIGNMENT))
        self.buffers.device = self.address
        self.guid = ctypes.create_string_buffer(bytes([index + 1] * 16), 16)
        self.backend = Backend(get_name=Text(lambda _: name), free=End(lambda _: None))
        self.backend.guid, self.backend.device = ctypes.addressof(self.guid), self.address
        self.keep = [
            Text(lambda _: name),
            Memory(lambda _, left, total: _fill(left, total, free)),
            Kind(lambda _: GPU),
            Tell(lambda _, told: self._tell(told, name, free)),
            Start(lambda _, __: ctypes.addressof(self.backend)),
            Give(lambda _: ctypes.addressof(self.buffers)),
            Judge(lambda _, __: True),
            Judge(lambda _, asked: asked == ctypes.addressof(self.buffers)),
        ]
        text, memory, kind, tell, start, give, supports, holds = self.keep
        self.device.get_name = self.device.get_description = text
        self.device.get_memory, self.device.get_type, self.device.get_props = memory, kind, tell
        self.device.init_backend, self.device.get_buffer_type = start, give
        self.device.supports_op, self.device.supports_buft = supports, holds

    @staticmethod
    def _tell(told: Any, name: bytes, free: int) -> None:
        ctypes.memmove(told, ctypes.byref(Properties(name, name, free, free, GPU, None)), ctypes.sizeof(Properties))


def _fill(left: Any, total: Any, free: int) -> None:
    left[0] = total[0] = free


def register(library: Any, gpus: Sequence[SimulatedGpu]) -> Any:
    """Make the engine see the GPUs; what is returned must be kept."""
    registry = Registry(
        API_VERSION,
        Text(lambda _: b"SIM"),
        Count(lambda _: len(gpus)),
        At(lambda _, index: gpus[index].address),
        Named(lambda _, __: None),
    )
    for gpu in gpus:
        gpu.device.registry = ctypes.addressof(registry)
    library.ggml_backend_register.argtypes = [Pointer]
    library.ggml_backend_register(ctypes.addressof(registry))
    return registry


def main() -> None:
    from llama_cpp import llama_cpp as engine

    asked = json.load(sys.stdin)
    lines: list[str] = []
    receive = engine.llama_log_callback(lambda _level, text, _data: lines.append(text.decode(errors="replace")))
    engine.llama_log_set(receive, Pointer(0))
    gpus = [SimulatedGpu(index, free) for index, free in enumerate(asked["free"])]
    registry = register(engine._lib, gpus)
    wanted = engine.llama_model_default_params()
    wanted.no_alloc, wanted.load_mode, wanted.use_extra_bufts = True, 0, False
    shares = asked["model"].pop("tensor_split", None)
    if shares:
        kept = (ctypes.c_float * engine.llama_max_devices())(*shares)
        wanted.tensor_split = kept
    for name, value in asked["model"].items():
        setattr(wanted, name, value)
    model = engine.llama_model_load_from_file(asked["path"].encode(), wanted)
    assert model, "".join(lines[-20:])
    context = engine.llama_context_default_params()
    for name, value in asked["context"].items():
        setattr(context, name, value)
    made = engine.llama_init_from_model(model, context)
    assert made, "".join(lines[-20:])
    text = "".join(lines)
    layers = [device for _, device in sorted((int(found[1]), found[2]) for found in _LAYER.finditer(text))]
    compute = {found[1]: float(found[2]) * MIB for found in _COMPUTE.finditer(text)}
    assert registry is not None
    sys.stdout.write(json.dumps({"layers": layers, "compute": compute}))
    sys.stdout.flush()
    engine.llama_log_set(engine.llama_log_callback(), Pointer(0))
    os._exit(0)  # the devices must not be asked when Python has gone


if __name__ == "__main__":
    main()
