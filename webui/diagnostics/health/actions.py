"""What mends what the checks complain of: one table of verbs, for the buttons of the page and for `doctor --fix`.

An action is a verb and what it is about: `repair xllamacpp`, `reset limits.queue_length`, `free`. Only what a check
offers at that moment is ever carried out (`offered`), so nothing that comes from outside names a file.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import stat
import sys
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from webui.diagnostics.health import files, machine, packages
from webui.diagnostics.health.check import Check, HealthFacts, command_of
from webui.diagnostics.health.examination import remember_trial, try_backend
from webui.diagnostics.health.salvage import salvage
from webui.errors import AppError, InvalidRequest, StorageFailed
from webui.models.gguf_facts import parts_of
from webui.settings import ModelSettings, Settings, SetupSettings
from webui.settings.model import BUILT_IN
from webui.settings.store import restore_last_good
from webui.setup.installing import Installer
from webui.setup.pip import PipRun
from webui.setup.starter import STARTER_FILE, ensure_starter

ASIDE = ".damaged"
"""Ending of a file that was moved aside."""
CONFIGURATION = ("settings.yaml", "backend_config.json", "model_settings.json")


@dataclass(frozen=True)
class Surgery:
    """What actions work on. `save` takes keys and values into the user's settings, `take_out` a key out of the file
    with that name, and `reload` reads the files again; all of them for a running app as well.

    `running` says that this very app has its databases open.
    """

    facts: HealthFacts
    save: Callable[[Mapping[str, Any]], object]
    take_out: Callable[[str, str], object]
    reload: Callable[[], object] = lambda: None
    running: bool = False


Work = Callable[[Surgery, str], AsyncIterator[str]]


@dataclass(frozen=True, slots=True)
class Verb:
    """`label` is what stands on the button, with {} for what it is about; `work` yields what it does, line by line."""

    label: str
    work: Work
    stopped: bool = False
    """Whether the app has to be ended first."""


def offered(checks: Iterable[Check]) -> list[str]:
    """The actions that these checks ask for."""
    return list(dict.fromkeys(check.action for check in checks if check.action))


def label_of(action: str) -> str:
    """What stands on the action's button."""
    name, _, about = action.partition(" ")
    return VERBS[name].label.format(about)


def possible(action: str, *, running: bool) -> bool:
    """Whether it can be done while the app runs."""
    return not (running and VERBS[action.partition(" ")[0]].stopped)


async def mend(action: str, surgery: Surgery, checks: Iterable[Check]) -> AsyncGenerator[str, None]:
    """Carry out an action that one of `checks` offers; yields what is done. Raises `AppError` where it fails."""
    if action not in (known := offered(checks)):
        raise InvalidRequest(
            f"Nothing asks for {action[:100]!r}.",
            hint=f"What can be mended now: {'; '.join(known)}." if known else "There is nothing to mend.",
        )
    name, _, about = action.partition(" ")
    if not possible(action, running=surgery.running):
        raise InvalidRequest("The app has to be ended for that.", hint=f"Then run: {command_of(action)}")
    try:
        async for line in VERBS[name].work(surgery, about):
            yield line
    except OSError as error:
        raise StorageFailed(
            f"That could not be done: {error.strerror or error}.",
            cause=str(error.filename or ""),
            hint="Check the rights of the file and its folder.",
        ) from error


# Backends and packages


async def _install(surgery: Surgery, name: str, *, repair: bool = False) -> AsyncIterator[str]:
    facts = surgery.facts
    setup = facts.settings.setup if isinstance(facts.settings, Settings) else SetupSettings()
    installer = Installer(
        lambda: facts.hardware, facts.loaders, indexes=lambda: setup.indexes, folder=lambda: setup.wheels
    )
    async with aclosing(installer.install(name, repair=repair)) as lines:
        async for line in lines:
            yield line.text
    # It counts as installed because it has just run a model.
    await asyncio.to_thread(remember_trial, facts.loaders[name], facts, None)


async def _repair(surgery: Surgery, name: str) -> AsyncIterator[str]:
    async for text in _install(surgery, name, repair=True):
        yield text


async def _try(surgery: Surgery, name: str) -> AsyncIterator[str]:
    spec = surgery.facts.loaders[name]
    yield f"running a test model with {spec.title}"
    failed = await try_backend(spec, surgery.facts)
    if failed is not None:
        raise failed
    yield f"{spec.title} works."


async def _packages(surgery: Surgery, about: str) -> AsyncIterator[str]:
    pins = [packages.pin_of(name, surgery.facts) or name for name in about.split()]
    async for line in _pip("install", "--no-deps", *pins):
        yield line


async def _uninstall(surgery: Surgery, name: str) -> AsyncIterator[str]:
    async for line in _pip("uninstall", "--yes", name):
        yield line


async def _pip(*arguments: str) -> AsyncIterator[str]:
    run = PipRun(sys.executable, arguments)
    yield f"pip {' '.join(arguments)}"
    task = asyncio.create_task(asyncio.to_thread(run.run, lambda text, share: None))
    try:
        await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.to_thread(run.cancel)
        await asyncio.wait([task])
        raise
    yield run.lines[-1] if run.lines else "done"


async def _clear_packages(surgery: Surgery, _: str) -> AsyncIterator[str]:
    for folder in packages.stale_packages():
        await asyncio.to_thread(shutil.rmtree, folder)
        yield f"removed {folder.name}"


# Settings


async def _reset(surgery: Surgery, key: str) -> AsyncIterator[str]:
    """One key, or all of a backend's parameters, where they do not go together."""
    facts = surgery.facts
    if not isinstance(facts.settings, Settings):
        raise InvalidRequest("The settings cannot be read.", hint="Correct the file first.")
    sources = {str(error.facts.get("key")): str(error.facts.get("source", "")) for error in facts.settings.problems}
    if key in facts.loaders:
        own = [one for one in facts.settings.keys() if one.startswith(f"loaders.{key}.")]  # noqa: SIM118 (no mapping)
        wanted = {one: source for one in own if (source := facts.settings.source(one)) != BUILT_IN}
    else:
        wanted = {key: sources[key] if key in sources else facts.settings.source(key)}
    for one, source in wanted.items():
        await asyncio.to_thread(surgery.take_out, one, source)
        yield f"{one} is taken out of {source}"


async def _restore(surgery: Surgery, _: str) -> AsyncIterator[str]:
    for file, aside in (await asyncio.to_thread(restore_last_good, surgery.facts.paths)).items():
        yield f"{file.name} is as it last was in order; the broken file is kept as {aside.name}"
    await asyncio.to_thread(surgery.reload)


async def _use_port(surgery: Surgery, number: str) -> AsyncIterator[str]:
    await asyncio.to_thread(surgery.save, {"server.port": int(number)})
    yield f"from the next start on, the page is at port {number}"


async def _forget_model(surgery: Surgery, path: str) -> AsyncIterator[str]:
    await asyncio.to_thread(ModelSettings(surgery.facts.paths).forget, Path(path))
    yield f"what was saved for {path} is dropped"


# Files


async def _set_aside(surgery: Surgery, name: str) -> AsyncIterator[str]:
    """A file of the configuration, or a model with all of its parts, takes another name."""
    facts = surgery.facts
    configured = name in CONFIGURATION or (name.startswith("presets/") and name.endswith(".yaml"))
    file = (facts.paths.home if configured else facts.models) / name
    for one in [file] if configured else _with_parts(file):
        aside = free_name(one)
        await asyncio.to_thread(one.replace, aside)
        yield f"{one.name} is {aside.name} now"
    if configured:
        await asyncio.to_thread(surgery.reload)


def _with_parts(file: Path) -> list[Path]:
    """The files of a set, as many as there are."""
    try:
        return list(parts_of(file))
    except AppError as error:
        missing = set(error.facts.get("missing", ()))
        stem, _, count = file.stem.rpartition("-of-")
        named = sorted(file.parent.glob(f"{stem.rpartition('-')[0]}-*-of-{count}{file.suffix}"))
        return [one for one in named if one.name not in missing] or [file]


def free_name(file: Path) -> Path:
    """`NAME.damaged`, with a number where there is one already."""
    number, aside = 1, file.with_name(file.name + ASIDE)
    while aside.exists():
        number += 1
        aside = file.with_name(f"{file.name}{ASIDE}-{number}")
    return aside


async def _recover(surgery: Surgery, name: str) -> AsyncIterator[str]:
    file = surgery.facts.paths.home / name
    aside = free_name(file)
    rows = await asyncio.to_thread(salvage, file, aside)
    yield f"{rows} rows of {file.name} were saved; the damaged file is {aside.name} now"


async def _restore_access(surgery: Surgery, _: str) -> AsyncIterator[str]:
    """Folders first: what is in a closed one shows itself only when it is open."""
    while closed := [path for path in files.closed_paths(surgery.facts) if files.is_ours(path)]:
        for path in closed:
            bits = stat.S_IRUSR | stat.S_IWUSR | (stat.S_IXUSR if path.is_dir() else 0)
            path.chmod(stat.S_IMODE(path.stat().st_mode) | bits)
            yield f"opened {path.name}"
        if still := [path for path in files.closed_paths(surgery.facts) if path in closed]:
            raise StorageFailed(f"{still[0]} stays closed.", hint="Change its rights as its owner.")


async def _hide_secrets(surgery: Surgery, _: str) -> AsyncIterator[str]:
    for file in files.shown_secrets(surgery.facts):
        file.chmod(stat.S_IRUSR | stat.S_IWUSR)
        yield f"{file.name} is yours alone"


async def _free(surgery: Surgery, _: str) -> AsyncIterator[str]:
    for path in files.leftover_files(surgery.facts):
        await asyncio.to_thread(_remove, path)
        yield f"removed {path.name}"


async def _clear_logs(surgery: Surgery, _: str) -> AsyncIterator[str]:
    for file in files.old_logs(surgery.facts):
        file.unlink(missing_ok=True)
        yield f"removed {file.name}"


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


# Models


async def _make_models_folder(surgery: Surgery, _: str) -> AsyncIterator[str]:
    surgery.facts.models.mkdir(parents=True, exist_ok=True)
    yield f"made {surgery.facts.models}"


async def _fetch_starter(surgery: Surgery, _: str) -> AsyncIterator[str]:
    """The damaged one, if there is one, goes only when the new one is there."""
    folder = surgery.facts.models
    file, aside = folder / STARTER_FILE, free_name(folder / STARTER_FILE)
    if file.exists():
        file.replace(aside)
    yield "fetching the starter model"
    try:
        await asyncio.to_thread(ensure_starter, folder, lambda text, share: None)
    except AppError:
        if aside.exists():
            aside.replace(file)
        raise
    aside.unlink(missing_ok=True)
    yield f"{STARTER_FILE} is there"


# The clock


async def _correct_times(surgery: Surgery, _: str) -> AsyncIterator[str]:
    for file in machine.late_files(surgery.facts):
        os.utime(file, (surgery.facts.now, surgery.facts.now))
        yield f"{file.name} is dated today"


async def _accept_clock(surgery: Surgery, _: str) -> AsyncIterator[str]:
    machine.note_clock(surgery.facts)
    yield "the clock is taken as it is"


VERBS: Mapping[str, Verb] = {
    "install": Verb("Install {}", _install),
    "repair": Verb("Repair {}", _repair),
    "try": Verb("Run a test model with {}", _try),
    "packages": Verb("Install the tested versions", _packages),
    "uninstall": Verb("Remove the package {}", _uninstall),
    "clear-packages": Verb("Remove what was left behind", _clear_packages),
    "reset": Verb("Reset {}", _reset),
    "restore": Verb("Put the last good {} back", _restore),
    "use-port": Verb("Use port {} from now on", _use_port),
    "forget-model": Verb("Drop what is saved", _forget_model),
    "set-aside": Verb("Move {} aside", _set_aside),
    "recover": Verb("Save what can be read of {}", _recover, stopped=True),
    "restore-access": Verb("Open the files again", _restore_access),
    "hide-secrets": Verb("Keep the keys to yourself", _hide_secrets),
    "free": Verb("Remove what was left over", _free),
    "clear-logs": Verb("Remove old logs", _clear_logs),
    "make-models-folder": Verb("Make the folder", _make_models_folder),
    "fetch-starter": Verb("Fetch the starter model", _fetch_starter),
    "correct-times": Verb("Correct the files' times", _correct_times),
    "accept-clock": Verb("Take the clock as it is", _accept_clock),
}
