"""Backends: their state on this machine, and which requirements file belongs to each.

Cheap: a few file accesses and no import of an engine. Installing is `webui.setup.installing`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from webui.errors import NotFound
from webui.hardware.facts import HardwareFacts
from webui.loaders import LOADERS
from webui.loaders.contract import LoaderSpec
from webui.paths import PROJECT_ROOT
from webui.setup.builds import VENDORS, built_devices, usable_devices
from webui.setup.kept import kept_of, was_cut_off
from webui.setup.requirement_files import pinned_packages, split_pin

REQUIREMENTS = PROJECT_ROOT / "requirements"
COMPILED = frozenset({"llama-cpp-python"})
"""Distributions without a ready wheel on the package index."""


@dataclass(frozen=True, slots=True)
class BackendState:
    """What is known of a backend without importing its engine.

    `devices` are the device kinds (cpu, cuda, …) its build can use on this machine. `reason` is one sentence: why it
    cannot be used, or what the build leaves unused, or that all is well. `requirements` names the file `install` uses,
    `pinned` the version in it. `before` is the version that a roll-back would put back, where one is kept.
    `interrupted` says that an installation began and did not come to its end. `hint` says how to get a backend that
    the app does not install.
    """

    name: str
    title: str
    installed: bool
    version: str | None
    devices: tuple[str, ...]
    reason: str
    requirements: str
    pinned: str | None = None
    before: str | None = None
    interrupted: bool = False
    hint: str = ""


def check(
    name: str, loaders: Mapping[str, LoaderSpec] = LOADERS, *, hardware: HardwareFacts | None = None
) -> BackendState:
    """The state of backend `name`; a few file accesses. With `hardware`, devices this machine lacks are left out."""
    spec = find_spec(name, loaders)
    found = spec.availability()
    built = built_devices(name) if found.ok else ()
    devices = usable_devices(built, hardware)
    kept = kept_of(name)
    return BackendState(
        name=name,
        title=spec.title,
        installed=found.ok,
        version=found.version,
        devices=devices,
        reason=_reason(spec, built, hardware) or found.reason if found.ok else found.reason,
        requirements=file.name if (file := requirements_of(spec)) else "",
        pinned=_pinned(spec),
        before=(kept.version(spec.distributions[0]) or found.version) if kept and spec.distributions else None,
        interrupted=was_cut_off(name),
        hint=found.hint,
    )


def requirements_of(spec: LoaderSpec, build: str = "") -> Path | None:
    """The file that is installed: that of the `build`, else the one the backend names, else the one named like it; None
    where there is none.
    """
    if not spec.distributions:
        return None
    file = REQUIREMENTS / (build or spec.requirements or f"{spec.name}.txt")
    return file if file.exists() else None


def pins_of(requirements: Path | None) -> list[str]:
    """The pinned packages of a requirements file; none where there is no file."""
    return pinned_packages(requirements) if requirements is not None else []


def find_spec(name: str, loaders: Mapping[str, LoaderSpec]) -> LoaderSpec:
    """The backend called `name`. Raises `NotFound`."""
    spec = loaders.get(name)
    if spec is None:
        raise NotFound(f"There is no backend called {name!r}.", hint=f"Known are: {', '.join(loaders)}.")
    return spec


def _pinned(spec: LoaderSpec) -> str | None:
    """The version of the main package that the requirements file asks for."""
    pins = dict(map(split_pin, pins_of(requirements_of(spec))))
    return pins.get(spec.distributions[0]) if spec.distributions else None


def _reason(spec: LoaderSpec, built: tuple[str, ...], hardware: HardwareFacts | None) -> str:
    """A sentence on GPUs that are there and that the build cannot use; empty where there is nothing to say."""
    if hardware is None or not built:
        return ""
    unused = [gpu.name for gpu in hardware.gpus if not any(gpu.vendor in VENDORS.get(device, ()) for device in built)]
    if not unused:
        return ""
    return f"installed as a build for {', '.join(built)}: {', '.join(unused)} is not used"
