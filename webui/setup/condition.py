"""What is wrong with an installed backend, from its files and versions: no import, no network.

Whether the engine starts and runs is asked of the engine (`webui.setup.probe`, `webui.setup.trial`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from packaging.markers import UndefinedEnvironmentName
from packaging.requirements import InvalidRequirement, Requirement

from webui.loaders.contract import LoaderSpec
from webui.setup.builds import built_devices
from webui.setup.kept import was_cut_off
from webui.setup.plan import Installed
from webui.setup.requirement_files import split_pin

SHOWN = 3


@dataclass(frozen=True, slots=True)
class Fault:
    """`kind` is one of interrupted, half-installed, conflict; `sentence` says what was found."""

    kind: str
    sentence: str


def installed_of(spec: LoaderSpec, pins: Sequence[str]) -> Installed:
    """What is there of the backend's packages, and what is wrong with it. Looks at every file of them."""
    names = dict.fromkeys([*spec.distributions, *(split_pin(pin)[0] for pin in pins)])
    versions = {name: version for name in names if (version := _version(name)) is not None}
    found = faults(spec, list(names))
    there = bool(spec.distributions) and spec.distributions[0] in versions
    kinds = built_devices(spec.name) if there else ()
    return Installed(versions, kinds, found[0].sentence if found else "")


def faults(spec: LoaderSpec, names: Sequence[str]) -> list[Fault]:
    """All that is wrong with the packages `names` of a backend, the worst first; none where it is not installed."""
    found = []
    if was_cut_off(spec.name):
        found.append(Fault("interrupted", f"an installation of {spec.title} was cut off before its end"))
    there = [name for name in names if _version(name) is not None]
    if not spec.distributions or spec.distributions[0] not in there:
        return found
    found += half_installed(there)
    found += [Fault("conflict", sentence) for sentence in conflicts(there, _versions())]
    return found


def half_installed(names: Iterable[str]) -> list[Fault]:
    """Those of the installed packages `names` that lack files of their own."""
    found = []
    for name in names:
        if missing := _missing_files(name):
            shown = ", ".join(missing[:SHOWN])
            more = f" and {len(missing) - SHOWN} more" if len(missing) > SHOWN else ""
            found.append(Fault("half-installed", f"{name} lacks files of its own: {shown}{more}"))
    return found


def conflicts(names: Iterable[str], versions: Mapping[str, str]) -> list[str]:
    """Where a package of `names` asks for one that is absent, or there in a version it does not allow.

    As `pip check` does, for these packages alone and in a few milliseconds.
    """
    found = []
    for name in names:
        for line in metadata.requires(name) or ():
            try:
                asked = Requirement(line)
                holds = asked.marker is None or asked.marker.evaluate({"extra": ""})
            except (InvalidRequirement, UndefinedEnvironmentName):
                continue  # older packages write requirements that nothing reads any more; pip leaves them aside, too
            there = versions.get(_plain(asked.name))
            if not holds:
                continue
            if there is None:
                found.append(f"{name} needs {asked.name}, which is not installed")
            elif not asked.specifier.contains(there, prereleases=True):
                found.append(f"{name} needs {asked.name}{asked.specifier}, and {there} is installed")
    return found


def _missing_files(name: str) -> list[str]:
    """Those of its record that are not there. Without a record, pip had not finished."""
    found = metadata.distribution(name)
    files = found.files
    if files is None:
        return ["the record of its files"]
    return [
        str(file)
        for file in files
        if file.suffix != ".pyc" and not Path(str(found.locate_file(file))).exists() and file.name != "direct_url.json"
    ]


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _versions() -> dict[str, str]:
    # Asked for once each: every question reads the package's whole description anew.
    described = (found.metadata for found in metadata.distributions())
    return {_plain(told["Name"]): told["Version"] for told in described if told["Name"]}


def _plain(name: str) -> str:
    return name.lower().replace("_", "-").replace(".", "-")
