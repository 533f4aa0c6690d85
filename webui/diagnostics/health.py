"""Health checks: what a person would look at first when something does not work, each with one sentence and a fix.

The checks only look; nothing is changed, loaded or downloaded. They need no running server, so that `doctor` can be
asked when nothing starts.
"""

from __future__ import annotations

import os
import socket
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from webui.errors import AppError, HardwareError, InstallationError
from webui.hardware import detect
from webui.hardware.facts import HardwareFacts
from webui.loaders import LOADERS
from webui.loaders.contract import LoaderSpec
from webui.models.catalogue import Catalogue
from webui.models.facts import ModelFacts
from webui.paths import Paths
from webui.pool.history import History
from webui.pool.status import LoadStory
from webui.remedies import hint_of
from webui.settings import Settings
from webui.setup.backends import REQUIREMENTS, check
from webui.setup.builds import VENDORS
from webui.setup.installed import differences

GIB = 1 << 30
LOW_MEMORY = 1 * GIB
LOW_DISK = 2 * GIB
NO_DISK = 200 << 20
"""Bytes below which memory or disk is worth a word. Even a small model with its cache takes about 1 GiB."""
LATEST_LOADS = 4
OFTEN = 3
"""A loader that failed this many times in its latest loads is worth a word."""


class CheckState(StrEnum):
    OK = "ok"
    WARNING = "warning"
    PROBLEM = "problem"


@dataclass(frozen=True, slots=True)
class Check:
    """One line of the health list. `fix` is empty where there is nothing to do."""

    name: str
    state: CheckState
    sentence: str
    fix: str = ""


@dataclass(frozen=True, slots=True)
class HealthFacts:
    """What the checks are about. `settings` is the error where they could not be read.

    `serving` says that this very app holds the port. `loads` are the latest, newest first.
    """

    paths: Paths
    settings: Settings | AppError
    hardware: HardwareFacts
    loaders: Mapping[str, LoaderSpec]
    serving: bool = False
    loads: Sequence[LoadStory] = ()


def gather(paths: Paths, loaders: Mapping[str, LoaderSpec] = LOADERS) -> HealthFacts:
    """The facts for a check without a running app. Takes a few tenths of a second."""
    settings: Settings | AppError
    try:
        settings = Settings.load(paths)
    except AppError as error:
        settings = error
    return HealthFacts(paths, settings, detect(paths.models), loaders, loads=_remembered_loads(paths))


def _remembered_loads(paths: Paths) -> Sequence[LoadStory]:
    if not paths.history.exists():  # looking makes no file
        return ()
    history = History(paths.history)
    try:
        return history.loads()
    finally:
        history.close()


def run_checks(facts: HealthFacts) -> list[Check]:
    """Every check, in the order they are shown."""
    return [found for look in _LOOKS for found in look(facts)]


def worst(checks: Sequence[Check]) -> CheckState:
    """The state of the whole."""
    order = list(CheckState)
    return max((found.state for found in checks), key=order.index, default=CheckState.OK)


def _python(_: HealthFacts) -> Iterator[Check]:
    version = ".".join(str(part) for part in sys.version_info[:3])
    if sys.maxsize <= 2**32:
        yield Check(
            "Python",
            CheckState.PROBLEM,
            f"Python {version} is a 32-bit build; the engines need 64 bits.",
            "Install a 64-bit Python and start with it.",
        )
    else:
        yield Check("Python", CheckState.OK, f"Python {version} ({sys.executable}).")


def _packages(_: HealthFacts) -> Iterator[Check]:
    found = differences(REQUIREMENTS / "base.txt")
    if not found:
        yield Check("Packages", CheckState.OK, "All packages are installed in their pinned versions.")
        return
    absent = [item.name for item in found if item.installed is None]
    other = [f"{item.name} {item.installed} (pinned: {item.pinned})" for item in found if item.installed is not None]
    parts = [f"missing: {', '.join(absent)}"] if absent else []
    parts += [f"other versions: {', '.join(other)}"] if other else []
    yield Check(
        "Packages",
        CheckState.PROBLEM if absent else CheckState.WARNING,
        f"The packages differ from what was tested; {'; '.join(parts)}.",
        f"Run: {sys.executable} -m pip install -r {REQUIREMENTS / 'base.txt'}",
    )


def _backends(facts: HealthFacts) -> Iterator[Check]:
    for name in facts.loaders:
        state = check(name, facts.loaders, hardware=facts.hardware)
        label = f"Backend {name}"
        if not state.installed:
            fix = f"Install it on the Backend tab, or with: python3 app.py setup {name}" if state.requirements else ""
            yield Check(label, CheckState.WARNING, f"Not usable: {state.reason.rstrip('.')}.", fix)
        elif state.version and state.pinned and state.version.partition("+")[0] != state.pinned:
            yield Check(
                label,
                CheckState.WARNING,
                f"Version {state.version} is installed; {state.pinned} is what was tested.",
                f"Run: python3 app.py setup {name}",
            )
        else:
            devices = f" on {', '.join(state.devices)}" if state.devices else ""
            yield Check(label, CheckState.OK, f"{state.version or 'There'}{devices}.")


def _loads(facts: HealthFacts) -> Iterator[Check]:
    """Loaders that lately failed again and again, for reasons that lie in themselves or the machine, not in a file."""
    for name in facts.loaders:
        rungs = [
            rung
            for story in facts.loads
            for rung in reversed(story.rungs)
            if rung.attempt.loader == name and rung.state in ("worked", "failed")
        ]
        latest = rungs[:LATEST_LOADS]
        errors = [rung.error for rung in latest if isinstance(rung.error, InstallationError | HardwareError)]
        if len(errors) >= OFTEN:
            code = Counter(error.code for error in errors).most_common(1)[0][0]
            yield Check(
                f"Loads with {name}",
                CheckState.WARNING,
                f"{len(errors)} of the last {len(latest)} failed, mostly with {code}.",
                hint_of(code).replace("NAME", name),
            )


def _gpu(facts: HealthFacts) -> Iterator[Check]:
    hardware = facts.hardware
    for sentence in hardware.problems:
        yield Check("Hardware", CheckState.WARNING, sentence, "Update or reinstall the driver if the device is there.")
    if not hardware.gpus:
        yield Check("GPU", CheckState.OK, "No GPU was found; models run on the CPU.")
        return
    states = [check(name, facts.loaders, hardware=hardware) for name in facts.loaders]
    for gpu in hardware.gpus:
        able = [
            state.name
            for state in states
            if state.installed and any(gpu.vendor in VENDORS.get(device, ()) for device in state.devices)
        ]
        driver = f", driver {gpu.driver}" if gpu.driver else ""
        if able:
            yield Check("GPU", CheckState.OK, f"{gpu.name}{driver}: used by {', '.join(able)}.")
        else:
            yield Check(
                "GPU",
                CheckState.WARNING,
                f"{gpu.name}{driver} is there, and no installed backend is built for it.",
                "The Hardware tab says which build uses this GPU and how to install it.",
            )


def _memory(facts: HealthFacts) -> Iterator[Check]:
    memory = facts.hardware.memory
    if not memory.total:
        yield Check("Memory", CheckState.WARNING, "The memory's size could not be read.")
        return
    limited = " (limited by the container)" if memory.limited else ""
    sentence = f"{memory.available / GIB:.1f} GiB of {memory.total / GIB:.1f} GiB are free{limited}."
    if memory.available < LOW_MEMORY:
        yield Check("Memory", CheckState.WARNING, sentence, "Close other programs before loading a model.")
    else:
        yield Check("Memory", CheckState.OK, sentence)


def _disk(facts: HealthFacts) -> Iterator[Check]:
    disk = facts.hardware.disk
    sentence = f"{disk.free / GIB:.1f} GiB are free where the models lie ({disk.path})."
    if disk.free >= LOW_DISK:
        yield Check("Disk", CheckState.OK, sentence)
    else:
        state = CheckState.PROBLEM if disk.free < NO_DISK else CheckState.WARNING
        yield Check("Disk", state, sentence, "Free some space, or point --models-dir to another disk.")


def _folders(facts: HealthFacts) -> Iterator[Check]:
    home = facts.paths.home
    refused = [folder for folder in (home, facts.paths.models, facts.paths.logs) if not _can_write(folder)]
    if refused:
        yield Check(
            "Permissions",
            CheckState.PROBLEM,
            f"{', '.join(str(folder) for folder in refused)} cannot be written.",
            "Change the owner of the folder, or choose another home with GGUF_HOME.",
        )
    else:
        yield Check("Permissions", CheckState.OK, f"{home} can be written.")


def _can_write(folder: Path) -> bool:
    existing = next((place for place in (folder, *folder.parents) if place.exists()), folder)
    return existing.is_dir() and os.access(existing, os.W_OK | os.X_OK)


def _models(facts: HealthFacts) -> Iterator[Check]:
    settings = facts.settings
    chosen = settings.models.directory if isinstance(settings, Settings) else None
    folder = chosen or facts.paths.models
    if chosen is not None and not chosen.is_dir():
        yield Check(
            "Models",
            CheckState.PROBLEM,
            f"The models folder {chosen} does not exist.",
            "Make it, or change models.directory in the settings.",
        )
        return
    entries = Catalogue([folder], facts.paths.cache / "catalogue.json").entries() if folder.is_dir() else ()
    whole = [entry for entry in entries if isinstance(entry, ModelFacts)]
    for entry in entries:
        if not isinstance(entry, ModelFacts):
            yield Check("Models", CheckState.WARNING, f"{entry.path.name}: {entry.error.message}", entry.error.hint)
    if whole:
        yield Check("Models", CheckState.OK, f"{len(whole)} in {folder}.")
    else:
        yield Check("Models", CheckState.WARNING, f"There is no model in {folder}.", "Put a GGUF file there.")


def _configuration(facts: HealthFacts) -> Iterator[Check]:
    settings = facts.settings
    if isinstance(settings, AppError):
        yield Check(
            "Configuration", CheckState.PROBLEM, f"The settings cannot be read: {settings.message}", settings.hint
        )
        return
    for problem in settings.problems:
        yield Check("Configuration", CheckState.WARNING, f"Left aside: {problem.message}", problem.hint)
    if not settings.problems:
        yield Check("Configuration", CheckState.OK, "All settings are understood.")


def _port(facts: HealthFacts) -> Iterator[Check]:
    if isinstance(facts.settings, AppError):
        return
    host, port = facts.settings.server.host, facts.settings.server.port
    if facts.serving:
        yield Check("Port", CheckState.OK, f"The app answers on {host}:{port}.")
        return
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0][0]
        with socket.socket(family, socket.SOCK_STREAM) as trial:
            if sys.platform != "win32":  # there, the option would let the trial take a port that is in use
                trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            trial.bind((host, port))
    except OSError as error:
        yield Check(
            "Port",
            CheckState.WARNING,
            f"{host}:{port} cannot be used: {error.strerror or error}.",
            "If the app is running already, open its page; otherwise choose another port with --port.",
        )
    else:
        yield Check("Port", CheckState.OK, f"{host}:{port} is free.")


_LOOKS: tuple[Callable[[HealthFacts], Iterator[Check]], ...] = (
    _python,
    _packages,
    _backends,
    _loads,
    _gpu,
    _memory,
    _disk,
    _folders,
    _models,
    _configuration,
    _port,
)
