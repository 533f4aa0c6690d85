"""Compares the versions that the requirement files pin with those that are installed."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from webui.setup.requirement_files import pinned_packages, split_pin


@dataclass(frozen=True, slots=True)
class Difference:
    """A pinned package that is absent (`installed` is None) or there in another version."""

    name: str
    pinned: str
    installed: str | None


def differences(*requirements: Path) -> tuple[Difference, ...]:
    """What `pip install` would change for these files; no network, no import. Local version labels do not count."""
    found = []
    for name, pinned in _pins(requirements):
        try:
            version = metadata.version(name)
        except metadata.PackageNotFoundError:
            found.append(Difference(name, pinned, None))
            continue
        if version.partition("+")[0] != pinned:  # 2.13.0+cpu is a build of 2.13.0
            found.append(Difference(name, pinned, version))
    return tuple(found)


def _pins(requirements: tuple[Path, ...]) -> list[tuple[str, str]]:
    pins: dict[str, str] = {}
    for file in requirements:
        for line in pinned_packages(file):
            name, version = split_pin(line)
            pins[name] = version
    return list(pins.items())
