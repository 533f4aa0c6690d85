"""Does an engine really work here? Imports it in a child process and asks it for its version and devices.

    python -m webui.setup.probe DISTRIBUTION…      prints one line of JSON

The child is the only place that imports; a library that crashes on import takes the child with it and nothing else.
"""

from __future__ import annotations

import asyncio
import importlib
import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from typing import Any

from webui.errors import BrokenPackage, TimedOut
from webui.loaders.contract import LoaderSpec

TIME_LIMIT_SECONDS = 180.0
"""The first import of torch after its installation compiles thousands of files on a slow disk."""


@dataclass(frozen=True, slots=True)
class Probe:
    """What the engine said. `devices` are described in its own words; empty where it offers no list."""

    versions: Mapping[str, str]
    devices: tuple[str, ...]


async def probe(spec: LoaderSpec) -> Probe:
    """Import every package of `spec` in a child process. Raises `BrokenPackage` or `TimedOut`."""
    child = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "webui.setup.probe", *spec.distributions),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path), "PYTHONUTF8": "1"},
    )
    try:
        async with asyncio.timeout(TIME_LIMIT_SECONDS):
            output, errors = await child.communicate()
    except TimeoutError as error:
        raise TimedOut(f"{spec.title} did not answer within {TIME_LIMIT_SECONDS:.0f} s of being imported.") from error
    finally:
        if child.returncode is None:
            child.kill()
            await child.wait()
    lines = errors.decode(errors="replace").splitlines()
    if child.returncode != 0:
        ended = f"its process ended with status {child.returncode}"
        cause = lines[-1] if lines and child.returncode == 1 else ended  # 1 is an exception, anything else a crash
        raise BrokenPackage(
            f"{spec.title} is installed and does not start.", cause=cause, evidence=lines, exit_status=child.returncode
        )
    answer = json.loads(output.decode().splitlines()[-1])
    return Probe(answer["versions"], tuple(answer["devices"]))


def module_names(distribution: str) -> list[str]:
    """The importable packages a distribution brings (its name and its module's often differ)."""
    files = metadata.distribution(distribution).files or ()
    names = {
        file.parts[0].removesuffix(".py")
        for file in files
        if file.suffix == ".py" and (len(file.parts) == 1 or (file.name == "__init__.py" and len(file.parts) == 2))
    }
    own = distribution.replace("-", "_")
    return [own] if own in names else sorted(name for name in names if name.isidentifier() and name[0] != "_")


def _xllamacpp_devices(engine: Any) -> list[str]:
    devices = [device for device in engine.get_device_info() if device["name"] != "CPU"]
    return [str(device.get("description") or device["name"]) for device in devices]


def _llama_cpp_devices(engine: Any) -> list[str]:
    return ["GPU offload"] if engine.llama_supports_gpu_offload() else []


def _torch_devices(engine: Any) -> list[str]:
    devices = [str(engine.cuda.get_device_name(index)) for index in range(engine.cuda.device_count())]
    if engine.backends.mps.is_available():
        devices.append("Apple GPU (MPS)")
    if engine.xpu.is_available():
        devices += [str(engine.xpu.get_device_name(index)) for index in range(engine.xpu.device_count())]
    return devices


_DEVICES: dict[str, Callable[[Any], list[str]]] = {
    "xllamacpp": _xllamacpp_devices,
    "llama_cpp": _llama_cpp_devices,
    "torch": _torch_devices,
}


def main(distributions: Sequence[str]) -> None:
    """The child's part."""
    versions = {}
    devices = ["CPU"]
    for distribution in distributions:
        for name in module_names(distribution):
            module = importlib.import_module(name)
            if name in _DEVICES:
                devices += [device for device in _DEVICES[name](module) if device not in devices]
        versions[distribution] = metadata.version(distribution)
    sys.stdout.write("\n" + json.dumps({"versions": versions, "devices": devices}) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
