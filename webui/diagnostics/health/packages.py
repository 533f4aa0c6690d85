"""Python and its packages: versions, remains of cut-off installations, packages that exclude each other."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby
from pathlib import Path

from webui.diagnostics.health.check import Check, HealthFacts, fine, names, problem, warning
from webui.setup.backends import REQUIREMENTS, requirements_of
from webui.setup.installed import differences
from webui.setup.requirement_files import pinned_packages

BASE = REQUIREMENTS / "base.txt"
INFORMATION = ".dist-info"


@dataclass(frozen=True)
class Package:
    """What a folder ending in `.dist-info` says of a package."""

    name: str
    version: str
    folder: Path

    @cached_property
    def needs(self) -> list[str]:
        """The packages it asks for, as it writes them."""
        try:
            text = (self.folder / "METADATA").read_text("utf-8", errors="replace")
        except OSError:
            return []
        lines = text.partition("\n\n")[0].splitlines()
        return [line.partition(":")[2].strip() for line in lines if line.startswith("Requires-Dist:")]


def python(_: HealthFacts) -> Iterator[Check]:
    version = ".".join(str(part) for part in sys.version_info[:3])
    if sys.maxsize <= 2**32:
        fix = "Install a 64-bit Python and start with it."
        yield problem("Python", f"Python {version} is a 32-bit build; the engines need 64 bits.", fix)
    else:
        yield fine("Python", f"Python {version} ({sys.executable}).")


def pins(facts: HealthFacts) -> Iterator[Check]:
    """The packages that every start needs, against the versions they were tested in."""
    found = differences(BASE)
    if not found:
        yield fine("Packages", "All packages are installed in their pinned versions.")
        return
    own = {distribution for spec in facts.loaders.values() for distribution in spec.distributions}
    absent = [item.name for item in found if item.installed is None and item.name not in own]
    other = [
        f"{item.name} {item.installed} (pinned: {item.pinned})"
        for item in found
        if item.installed is not None and item.name not in own
    ]
    if not absent and not other:  # a backend's own packages are told of there
        yield fine("Packages", "All packages but those of backends are installed in their pinned versions.")
        return
    parts = [f"missing: {names(absent)}"] if absent else []
    parts += [f"other versions: {names(other)}"] if other else []
    wrong = " ".join(sorted(item.name for item in found if item.name not in own))
    yield (problem if absent else warning)(
        "Packages",
        f"The packages differ from what was tested; {'; '.join(parts)}.",
        "Install the right ones",
        f"packages {wrong}",
    )


def remains(_: HealthFacts) -> Iterator[Check]:
    """What installations leave behind that are cut off: folders pip had set aside, records without content, doubles."""
    found = stale_packages()
    if not found:
        yield fine("Package files", "Nothing was left behind by installations.")
        return
    yield warning(
        "Package files",
        f"Installations that were cut off left {len(found)} folders behind: {names([path.name for path in found])}.",
        "Remove them",
        "clear-packages",
    )


def conflicts(facts: HealthFacts) -> Iterator[Check]:
    """Packages that ask for others, or for other versions, than are installed."""
    installed = {canonical(package.name): package for package in packages()}
    pinned = _pinned(facts)
    found = [(package, need) for package in installed.values() for need in unmet(package, installed)]
    if not found:
        yield fine("Package conflicts", "All packages have what they need.")
        return
    for package, pairs in groupby(found, key=lambda pair: pair[0]):
        needs = [need for _, need in pairs]
        wrong = [name for name in (canonical(re.split(r"[^\w.-]", need)[0]) for need in needs) if name in pinned]
        if canonical(package.name) in pinned or wrong:
            again = " ".join(
                sorted({*wrong, *([canonical(package.name)] if canonical(package.name) in pinned else [])})
            )
        else:
            again = ""
        # A package of the app's that is not in its pinned version is the fault; else it is the stranger among them.
        action = f"packages {again}" if again and canonical(package.name) in pinned else f"uninstall {package.name}"
        yield warning(
            "Package conflicts",
            f"{package.name} {package.version} needs {names(needs)}, which is not what is installed.",
            "Install what was tested" if action.startswith("packages") else "Remove it if you can do without it",
            action,
        )


def packages() -> list[Package]:
    """All installed packages; of several with one name, the one Python would find."""
    found: dict[str, Package] = {}
    for folder in _libraries():
        for entry in sorted(folder.glob(f"*{INFORMATION}")):
            name, _, version = entry.name.removesuffix(INFORMATION).partition("-")
            if (entry / "METADATA").is_file():
                found.setdefault(canonical(name), Package(canonical(name), version, entry))
    return list(found.values())


def stale_packages() -> list[Path]:
    """Folders that no package owns any more, in the libraries of this environment."""
    found: list[Path] = []
    for folder in _libraries():
        found += [path for path in sorted(folder.glob("~*")) if path.is_dir()]
        records: dict[str, list[Path]] = {}
        for entry in sorted(folder.glob(f"*{INFORMATION}")):
            if not (entry / "METADATA").is_file():
                found.append(entry)
            else:
                records.setdefault(canonical(entry.name.partition("-")[0]), []).append(entry)
        for same in records.values():
            # The one written last describes the files that are there.
            found += sorted(same, key=lambda entry: (entry / "METADATA").stat().st_mtime)[:-1]
    return found


def unmet(package: Package, installed: dict[str, Package]) -> list[str]:
    """Of what `package` needs on this machine, that which is not there in the right version."""
    from packaging.requirements import InvalidRequirement, Requirement
    from packaging.version import InvalidVersion

    found = []
    for line in package.needs:
        if "extra ==" in line:
            continue
        try:
            need = Requirement(line)
            if need.marker is not None and not need.marker.evaluate():
                continue
            there = installed.get(canonical(need.name))
            if there is None or not need.specifier.contains(there.version, prereleases=True):
                found.append(f"{need.name}{need.specifier}")
        except (InvalidRequirement, InvalidVersion):  # written before there was a standard for it
            continue
    return found


def canonical(name: str) -> str:
    """A package's name as it is compared."""
    return re.sub(r"[-_.]+", "-", name).lower()


def pin_of(name: str, facts: HealthFacts) -> str | None:
    """`name==version` as the requirement files of the app and of the installed backends ask for it."""
    return _pinned(facts).get(canonical(name))


def _pinned(facts: HealthFacts) -> dict[str, str]:
    files = [BASE]
    for spec in facts.loaders.values():
        file = requirements_of(spec)
        if file is not None and spec.availability().ok:
            files.append(file)
    lines = [line for file in files for line in pinned_packages(file)]
    return {canonical(re.split(r"[\[=\s]", line)[0]): line.split()[0] for line in lines}


def _libraries() -> list[Path]:
    """The folders that Python looks for packages in, those of this environment."""
    return [folder for folder in dict.fromkeys(Path(entry) for entry in sys.path if entry) if folder.is_dir()]
