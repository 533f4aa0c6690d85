"""Where packages may come from besides pip's own configuration: a folder of wheels, the makers' own indexes.

An index is named in the setting `setup.indexes` as PACKAGE=ADDRESS, with {build} where the build's label belongs. For a
package that is installed, in whatever build, its own description names the indexes of the others.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path

from webui.errors import NotFound
from webui.settings.indexes import read_indexes
from webui.setup.published import PUBLISHED

BUILD = "{build}"
_ADDRESS = re.compile(r"(https://[\w./-]+/whl)/(<[\w-]+>|[\w.-]+)")
_WHEEL = re.compile(
    r"^(?P<name>[\w.]+)-(?P<version>[^-]+)(?:-\d[^-]*)?-(?P<python>[^-]+)-(?P<abi>[^-]+)-(?P<tag>.+)\.whl$"
)


@dataclass(frozen=True, slots=True)
class Wheel:
    """A wheel in a folder, told by its name."""

    file: Path
    distribution: str
    version: str
    pythons: frozenset[str]
    abi: str
    tags: frozenset[str]
    bytes: int | None = None

    @property
    def label(self) -> str:
        """The part of its version behind the plus, which names its build."""
        return self.version.partition("+")[2]

    def runs_on(self, platform: str, python: tuple[int, int]) -> bool:
        """Whether its tags allow it there; how old a system may be is left to pip."""
        return any(_of_platform(tag, platform) for tag in self.tags) and any(
            self._of_python(tag, python) for tag in self.pythons
        )

    def _of_python(self, tag: str, python: tuple[int, int]) -> bool:
        if tag in ("py3", f"py{python[0]}{python[1]}", f"cp{python[0]}{python[1]}"):
            return True
        least = re.fullmatch(r"cp3(\d+)", tag)
        return self.abi == "abi3" and least is not None and (3, int(least[1])) <= python


@dataclass(frozen=True, slots=True)
class Sources:
    """With a `folder`, nothing else is asked: its wheels are all there is. `indexes` are addresses by package, `told`
    those that packages name themselves, by package and label.
    """

    folder: Path | None = None
    wheels: tuple[Wheel, ...] = ()
    indexes: Mapping[str, str] = field(default_factory=dict)
    told: Mapping[str, Mapping[str, str]] = field(default_factory=dict)

    def address(self, distribution: str, label: str, *, named: bool = False) -> str:
        """Of the index that has this build; empty where none is known, or none is `named` in the settings."""
        if address := self.indexes.get(distribution, ""):
            return address.replace(BUILD, label)
        return "" if named else self.told.get(distribution, {}).get(label, "")

    def of(self, distribution: str) -> tuple[Wheel, ...]:
        return tuple(wheel for wheel in self.wheels if wheel.distribution == distribution)


def find_sources(indexes: Collection[str] = (), folder: Path | None = None) -> Sources:
    """Those of the settings and of this environment. Raises `NotFound`."""
    packages = [published.distribution for published in PUBLISHED.values()]
    named = read_indexes(indexes)
    if folder is not None:
        return Sources(folder, tuple(read_wheels(folder)), named)
    return Sources(indexes=named, told={name: told for name in packages if (told := _told_by(name))})


def read_wheels(folder: Path) -> Iterable[Wheel]:
    """The wheels of `folder`. Raises `NotFound` where there is no such folder."""
    if not folder.is_dir():
        raise NotFound(f"There is no folder {folder}.", hint="Name a folder that holds wheels.")
    for file in sorted(folder.glob("*.whl")):
        if match := _WHEEL.match(file.name):
            yield Wheel(
                file,
                match["name"].lower().replace("_", "-").replace(".", "-"),
                match["version"],
                frozenset(match["python"].split(".")),
                match["abi"],
                frozenset(match["tag"].split(".")),
                file.stat().st_size,
            )


def _of_platform(tag: str, platform: str) -> bool:
    if tag == "any":
        return True
    system, _, machine = platform.partition("-")
    if system == "windows":
        return tag == {"x86_64": "win_amd64", "arm64": "win_arm64"}.get(machine)
    if system == "macos":
        return tag.startswith("macosx") and tag.endswith((f"_{machine}", "_universal2"))
    return "linux" in tag and tag.endswith(f"_{ {'arm64': 'aarch64'}.get(machine, machine) }")


def addresses_in(description: str, labels: Iterable[str]) -> dict[str, str]:
    """By label, what a package's description says of its own indexes: an address each, or one with a placeholder."""
    found, pattern = {}, ""
    for match in _ADDRESS.finditer(description):
        if match[2].startswith("<"):
            pattern = match[1]
        else:
            found[match[2].rstrip(".")] = f"{match[1]}/{match[2].rstrip('.')}"
    missing = {label: f"{pattern}/{label}" for label in labels if pattern and label not in found}
    return {label: address for label, address in (found | missing).items() if label in set(labels)}


def _told_by(distribution: str) -> dict[str, str]:
    published = next(one for one in PUBLISHED.values() if one.distribution == distribution)
    try:
        described = metadata.metadata(distribution)
        text = described["Description"] if "Description" in described else str(described)
    except metadata.PackageNotFoundError:
        return {}
    return addresses_in(text, [build.label for build in published.builds if build.label])
