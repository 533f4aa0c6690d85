"""Does an engine really work here? Imports it in a child process and asks it for its version and devices.

    python -m webui.setup.probe LOADER DISTRIBUTION…      prints one line of JSON

The child is the only place that imports; a library that crashes on import takes the child with it and nothing else.
"""

from __future__ import annotations

import asyncio
import importlib
import json
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from typing import Any

from webui.errors import BrokenPackage, TimedOut
from webui.loaders.contract import LoaderSpec
from webui.loaders.devices import ask

TIME_LIMIT_SECONDS = 180.0
"""The first import of torch after its installation compiles thousands of files on a slow disk."""


@dataclass(frozen=True, slots=True)
class Probe:
    """What the engine said. `devices` are described in its own words; empty where it offers no list."""

    versions: Mapping[str, str]
    devices: tuple[str, ...]


async def probe(spec: LoaderSpec) -> Probe:
    """Import every package of `spec` in a child process. Raises `BrokenPackage` or `TimedOut`."""
    answer = await in_child(spec, ("webui.setup.probe", spec.name, *spec.distributions), TIME_LIMIT_SECONDS)
    return Probe(answer["versions"], tuple(answer["devices"]))


async def in_child(spec: LoaderSpec, module: Sequence[str], seconds: float) -> Any:
    """What `python -m MODULE …`, which imports the engine of `spec`, prints as JSON on its last line.

    Raises `BrokenPackage` or `TimedOut`.
    """
    child = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", *module),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path), "PYTHONUTF8": "1"},
    )
    try:
        async with asyncio.timeout(seconds):
            output, errors = await child.communicate()
    except TimeoutError as error:
        raise TimedOut(f"{spec.title} did not answer within {seconds:.0f} s of being imported.") from error
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
        ).concerning(spec.name)
    return json.loads(output.decode().splitlines()[-1])


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


def main(loader: str, distributions: Sequence[str]) -> None:
    """The child's part."""
    versions = {}
    for distribution in distributions:
        for name in module_names(distribution):
            importlib.import_module(name)
        versions[distribution] = metadata.version(distribution)
    described = [device.description for device in ask(loader).devices]
    sys.stdout.write("\n" + json.dumps({"versions": versions, "devices": ["CPU", *described]}) + "\n")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
