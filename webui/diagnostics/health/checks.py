"""Gathering the facts and running all quick checks over them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import gettempdir

from webui.diagnostics.health import backends, configuration, drivers, files, machine, models, packages, pointers
from webui.diagnostics.health.check import Check, HealthFacts, is_there, problem
from webui.diagnostics.health.evidence import Evidence
from webui.errors import AppError
from webui.hardware import detect, disk
from webui.hardware.facts import DiskFacts
from webui.loaders import LOADERS
from webui.loaders.contract import LoaderSpec
from webui.paths import Paths
from webui.pool.history import History
from webui.pool.status import LoadStory
from webui.settings import Settings

TEMPORARY = "temporary files"

Look = Callable[[HealthFacts], Iterable[Check]]

LOOKS: tuple[tuple[str, Look], ...] = (
    ("Python", packages.python),
    ("Packages", packages.pins),
    ("Package files", packages.remains),
    ("Package conflicts", packages.conflicts),
    ("Backends", backends.engines),
    ("Loads", backends.loads),
    ("GPU", drivers.gpus),
    ("GPU driver", drivers.fitting),
    ("Memory", machine.memory),
    ("Swap", machine.swap),
    ("Disk", machine.disks),
    ("Clock", machine.clock),
    ("Permissions", files.permissions),
    ("Databases", files.databases),
    ("Leftovers", files.leftovers),
    ("Logs", files.logs),
    ("Models", models.listed),
    ("Model files", models.sound),
    ("Configuration", configuration.settings),
    ("What is configured", pointers.pointed_to),
    ("Saved model settings", configuration.per_model),
    ("Port", configuration.port),
)
"""In the order they are shown. The name stands in for a check that cannot be made."""


def gather(
    paths: Paths,
    loaders: Mapping[str, LoaderSpec] = LOADERS,
    *,
    settings: Settings | AppError | None = None,
    evidence: Evidence | None = None,
    loads: Sequence[LoadStory] | None = None,
    serving: bool = False,
) -> HealthFacts:
    """The facts for a check, as they are now. Takes a few tenths of a second. Without `settings` they are read."""
    read = settings if settings is not None else _settings(paths, loaders)
    models = (read.models.directory if isinstance(read, Settings) else None) or paths.models
    hardware = detect(models)
    return HealthFacts(
        paths,
        read,
        hardware,
        loaders,
        serving=serving,
        loads=_remembered_loads(paths) if loads is None else loads,
        disks=_disks({"models": models, "the app's home": paths.home, TEMPORARY: Path(gettempdir())}),
        evidence=evidence or Evidence(paths.cache / "health.json"),
    )


def run_checks(facts: HealthFacts) -> list[Check]:
    """Every check, in the order they are shown. Changes nothing."""
    with ThreadPoolExecutor(len(LOOKS)) as at_once:
        return [
            found for checks in at_once.map(lambda named: _looked(named[0], named[1], facts), LOOKS) for found in checks
        ]


def _looked(name: str, look: Look, facts: HealthFacts) -> list[Check]:
    try:
        return list(look(facts))
    except PermissionError:  # what is closed to us is told under Permissions, once
        return []
    except Exception as error:  # noqa: BLE001 (a machine in disorder fails in ways of its own; the other checks go on)
        reason = str(error) or type(error).__name__
        return [
            problem(name, f"This could not be checked: {reason}.", "Start the app with GGUF_DEBUG=1 and look again.")
        ]


def _settings(paths: Paths, loaders: Mapping[str, LoaderSpec]) -> Settings | AppError:
    try:
        return Settings.load(paths, loaders=loaders)
    except AppError as error:
        return error


def _remembered_loads(paths: Paths) -> Sequence[LoadStory]:
    # Opening makes a file where there is none, and puts a damaged one aside: looking does neither.
    if not is_there(paths.history) or files.unsound(paths.history):
        return ()
    history = History(paths.history)
    try:
        return history.loads()
    finally:
        history.close()


def _disks(folders: Mapping[str, Path]) -> dict[str, DiskFacts]:
    """Each file system once, under the first of the folders on it."""
    found: dict[str, DiskFacts] = {}
    seen: set[int] = set()
    for name, folder in folders.items():
        there = next((place for place in (folder, *folder.parents) if is_there(place)), None)
        if there is None or there.stat().st_dev in seen:
            continue
        seen.add(there.stat().st_dev)
        found[name] = disk(folder)
    return found
