"""What an installation will do, before it is done: packages, versions, sizes, where from, why this build, what for.

Pure: the machine, the environment, the choice of build and what is installed in, a plan out. `webui.setup.installing`
carries it out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

from webui.errors import NoSpace, NotPermitted, PipMissing, SetupFailed
from webui.loaders.contract import LoaderSpec
from webui.setup.choice import Choice, Way
from webui.setup.published import PUBLISHED, Build, Published
from webui.setup.requirement_files import split_pin
from webui.setup.sources import Sources
from webui.setup.target import Target

MEBIBYTE = 1 << 20
OTHER_MEGABYTES = 200
"""What the packages beside the main one take, where nothing is known of the main one, in MiB."""
REINSTALL = ("--force-reinstall", "--no-deps")


class Action(StrEnum):
    INSTALL = "install"
    UPDATE = "update"
    REBUILD = "rebuild"
    REPAIR = "repair"
    NOTHING = "nothing"


@dataclass(frozen=True, slots=True)
class Installed:
    """What is there of a backend. `versions` by package, `kinds` are the devices the installed build can use.

    `damage` says in one sentence what is wrong with it, and is empty where nothing is.
    """

    versions: Mapping[str, str] = field(default_factory=dict)
    kinds: tuple[str, ...] = ()
    damage: str = ""


@dataclass(frozen=True, slots=True)
class Change:
    """One package: what will be there, what is there, how large the download is where that is known."""

    name: str
    version: str
    before: str | None
    bytes: int | None
    source: str


@dataclass(frozen=True, slots=True)
class PipStep:
    """One run of pip. `options` are environment variables for it that the user has not set."""

    arguments: tuple[str, ...]
    packages: int
    compiles: bool = False
    options: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class InstallPlan:
    """All of it. `build` and `source` are words; `problem` is the first thing that stands in the way.

    `download_bytes` and `disk_bytes` are about; unknown where they are `None`.
    """

    name: str
    title: str
    action: Action
    build: str
    kind: str
    source: str
    why: str
    changes: tuple[Change, ...] = ()
    steps: tuple[PipStep, ...] = ()
    compiles: bool = False
    download_bytes: int | None = None
    disk_bytes: int | None = None
    free_bytes: int | None = None
    python: str = ""
    notes: tuple[str, ...] = ()
    problem: SetupFailed | None = None
    damage: str = ""
    distributions: tuple[str, ...] = ()
    """Every package it may change; what is there of them is kept until the new ones have proved themselves."""

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON types."""
        return {
            "name": self.name,
            "action": str(self.action),
            "build": self.build,
            "kind": self.kind,
            "source": self.source,
            "why": self.why,
            "packages": [
                {
                    "name": change.name,
                    "version": change.version,
                    "installed": change.before,
                    "bytes": change.bytes,
                    "source": change.source,
                }
                for change in self.changes
            ],
            "commands": [["pip", *step.arguments] for step in self.steps],
            "compiles": self.compiles,
            "download_bytes": self.download_bytes,
            "disk_bytes": self.disk_bytes,
            "free_bytes": self.free_bytes,
            "python": self.python,
            "notes": list(self.notes),
            "damage": self.damage,
            "problem": self.problem.to_dict() if self.problem is not None else None,
        }


def plan_for(
    spec: LoaderSpec,
    requirements: Path | None,
    pins: Sequence[str],
    choice: Choice,
    target: Target,
    sources: Sources,
    installed: Installed,
    *,
    repair: bool = False,
) -> InstallPlan:
    """The plan for one backend. `requirements` is the file whose lines `pins` are; without one there is no package."""
    if requirements is None:
        return _no_package(spec, target)
    published = PUBLISHED.get(spec.name)
    wanted = dict(map(split_pin, pins))
    main = published.distribution if published else spec.distributions[0]
    action = _action(wanted, main, choice, installed, repair)
    changes = () if action is Action.NOTHING else tuple(_changes(wanted, main, choice, sources, installed, action))
    steps = () if action is Action.NOTHING else _steps(requirements, wanted, main, published, choice, sources, action)
    needed = _disk(choice.build, changes)
    download = _download(choice.build, changes, main)
    problem = None if action is Action.NOTHING else choice.problem or _obstacle(target, needed)
    return InstallPlan(
        name=spec.name,
        title=spec.title,
        action=action,
        build=choice.build.title if choice.build else "this system",
        kind=choice.build.kind if choice.build else "",
        source=source_words(choice, sources, published),
        why=choice.why,
        changes=changes,
        steps=steps,
        compiles=choice.way is Way.COMPILE,
        download_bytes=download,
        disk_bytes=needed,
        free_bytes=target.free_bytes,
        python=target.python_words,
        notes=choice.notes,
        problem=problem.concerning(spec.name) if problem is not None else None,
        damage=installed.damage,
        distributions=tuple(dict.fromkeys([*spec.distributions, *wanted])),
    )


def source_words(choice: Choice, sources: Sources, published: Published | None) -> str:
    """Where the main package comes from."""
    if sources.folder is not None:
        return f"the folder {sources.folder}"
    if choice.way is Way.INDEX and published is not None and choice.build is not None:
        return f"the {published.maker} index for {choice.build.title} ({choice.address})"
    if choice.way is Way.COMPILE:
        return "its source on the package index, compiled here"
    return "the package index that pip is set to"


def _action(wanted: Mapping[str, str], main: str, choice: Choice, installed: Installed, repair: bool) -> Action:
    if main not in installed.versions:
        return Action.INSTALL
    if repair or installed.damage:
        return Action.REPAIR
    kind = choice.build.kind if choice.build else "cpu"
    if kind != "cpu" and installed.kinds and kind not in installed.kinds and choice.problem is None:
        return Action.REBUILD
    if any(installed.versions.get(name, "").partition("+")[0] != version for name, version in wanted.items()):
        return Action.UPDATE
    return Action.NOTHING


def _changes(
    wanted: Mapping[str, str], main: str, choice: Choice, sources: Sources, installed: Installed, action: Action
) -> list[Change]:
    """What pip will put there. A repair puts everything there again."""
    found = []
    for name, version in wanted.items():
        before = installed.versions.get(name)
        same = before is not None and before.partition("+")[0] == version
        if same and action is not Action.REPAIR and not (name == main and action is Action.REBUILD):
            continue
        wheel = choice.wheel if name == main else next(iter(sources.of(name)), None)
        size = wheel.bytes if wheel is not None else None
        if size is None and name == main and choice.build is not None and sources.folder is None:
            size = choice.build.megabytes * MEBIBYTE
        label = f"+{choice.build.label}" if name == main and choice.build and choice.way is Way.INDEX else ""
        place = "folder" if sources.folder else "maker's index" if name == main and label else "package index"
        found.append(Change(name, version + label, before, size, place))
    return found


def _steps(
    requirements: Path,
    wanted: Mapping[str, str],
    main: str,
    published: Published | None,
    choice: Choice,
    sources: Sources,
    action: Action,
) -> tuple[PipStep, ...]:
    count, every = len(wanted), ("-r", str(requirements))
    again = (*REINSTALL, "--no-cache-dir") if action is Action.REPAIR else ()
    pin = f"{main}=={wanted[main]}"
    if sources.folder is not None:
        return _folder_steps(str(sources.folder), every, count, choice, action)
    if choice.way is Way.COMPILE and published is not None:
        return _compile_steps(published, pin, every, count, choice, action)
    if choice.way is Way.INDEX and published is not None and choice.build is not None:
        if published.labelled:
            exact = f"{pin}+{choice.build.label.replace('-', '')}"
            return (PipStep(("install", *again, "--extra-index-url", choice.address, *every, exact), count),)
        own = (*REINSTALL, "--only-binary", ":all:", "--index-url", choice.address, pin)
        return PipStep(("install", *own), 1), PipStep(("install", *every), count)
    return (PipStep(("install", *again, *every), count),)


def _folder_steps(
    folder: str, every: tuple[str, ...], count: int, choice: Choice, action: Action
) -> tuple[PipStep, ...]:
    offline = ("install", "--no-index", "--find-links", folder)
    file = (str(choice.wheel.file),) if choice.wheel else ()
    if file and action in (Action.REPAIR, Action.REBUILD):
        return PipStep((*offline, *REINSTALL, *file), 1), PipStep((*offline, *every), count)
    return (PipStep((*offline, *file, *every), count),)


def _compile_steps(
    published: Published, pin: str, every: tuple[str, ...], count: int, choice: Choice, action: Action
) -> tuple[PipStep, ...]:
    kind = choice.build.kind if choice.build else "cpu"
    option = published.compile_options[kind]
    options = (("CMAKE_ARGS", option),) if option else ()
    if kind == "cpu" and action is not Action.REPAIR:
        return (PipStep(("install", "--verbose", *every), count, True, options),)
    # What pip keeps of an earlier compilation may be for another kind of device, or be what is broken.
    anew = ("install", "--verbose", *REINSTALL, "--no-cache-dir", pin)
    return PipStep(anew, 1, True, options), PipStep(("install", *every), count)


def _download(build: Build | None, changes: Sequence[Change], main: str) -> int | None:
    known = [change.bytes for change in changes if change.bytes is not None]
    return sum(known) if known else None


def _disk(build: Build | None, changes: Sequence[Change]) -> int | None:
    """What it takes for a while: the packages, unpacked, beside what was there before, and the downloads."""
    if not changes:
        return None
    return ((build.disk_megabytes if build else 0) + OTHER_MEGABYTES) * MEBIBYTE


def _obstacle(target: Target, needed: int | None) -> SetupFailed | None:
    if not target.has_pip:
        return PipMissing("This Python has no pip, which installs the packages.", cause=target.python_words)
    if not target.writable:
        return NotPermitted(f"{target.folder} may not be written to.")
    if needed is not None and target.free_bytes is not None and target.free_bytes < needed:
        need, free = needed / (1 << 30), target.free_bytes / (1 << 30)
        return NoSpace(
            f"It takes about {need:.1f} GiB of disk while it is installed, and {free:.1f} GiB are free.",
            cause=str(target.folder),
        )
    return None


def _no_package(spec: LoaderSpec, target: Target) -> InstallPlan:
    """For a backend that is a program or the app's own: nothing that pip could install."""
    reason = spec.availability().reason
    problem = None if spec.availability().ok else SetupFailed(f"{spec.title} has no packages to install.", hint=reason)
    return InstallPlan(
        spec.name,
        spec.title,
        Action.NOTHING,
        "this system",
        "",
        "nowhere",
        "it is no package that pip could install",
        free_bytes=target.free_bytes,
        python=target.python_words,
        problem=problem,
    )
