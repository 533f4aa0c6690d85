"""Backends: their state on this machine, how each is installed, and doing it with a live log.

Installs into the Python environment the app runs in, from the backend's own requirements file, and proves afterwards
in a child process that the engine starts. The app can use it at once. Keeping an installation going while pages come
and go is left to the caller.
"""

from __future__ import annotations

import asyncio
import importlib
import os
import sys
import sysconfig
import time
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing, suppress
from dataclasses import dataclass
from pathlib import Path

from webui.errors import AppError, BrokenPackage, Busy, NotFound, SetupFailed
from webui.hardware.facts import HardwareFacts
from webui.loaders import LOADERS
from webui.loaders.contract import LoaderSpec
from webui.paths import PROJECT_ROOT
from webui.setup.builds import VENDORS, built_devices, usable_devices
from webui.setup.lock import environment_lock
from webui.setup.pip import PipRun
from webui.setup.pip_progress import COMPILING, READY_WHEELS
from webui.setup.probe import Probe, probe
from webui.setup.requirement_files import pinned_packages
from webui.setup.toolchain import install_hint, missing_tools

REQUIREMENTS = PROJECT_ROOT / "requirements"
COMPILED = frozenset({"llama-cpp-python"})
"""Distributions without a ready wheel on the package index."""


@dataclass(frozen=True, slots=True)
class BackendState:
    """What is known of a backend without importing its engine.

    `devices` are the device kinds (cpu, cuda, …) its build can use on this machine. `reason` is one sentence: why it
    cannot be used, or what the build leaves unused, or that all is well. `requirements` names the file `install` uses.
    """

    name: str
    title: str
    installed: bool
    version: str | None
    devices: tuple[str, ...]
    reason: str
    requirements: str
    pinned: str | None = None


@dataclass(frozen=True, slots=True)
class InstallPlan:
    """What `install` will run, for showing before it does. `missing_tools` stand in the way of compiling."""

    name: str
    command: tuple[str, ...]
    requirements: Path
    packages: tuple[str, ...]
    compiles: bool
    missing_tools: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class LogLine:
    """One line of an installation's log. `share` is how much is done (0 … 1); lines of pip's own carry no step."""

    text: str
    share: float | None = None
    step: bool = False
    """True for a step worth showing beside a progress bar, False for a line of pip's output."""

    def __str__(self) -> str:
        return self.text


def check(
    name: str, loaders: Mapping[str, LoaderSpec] = LOADERS, *, hardware: HardwareFacts | None = None
) -> BackendState:
    """The state of backend `name`; a few file accesses. With `hardware`, devices this machine lacks are left out."""
    spec = _spec(name, loaders)
    found = spec.availability()
    built = built_devices(name) if found.ok else ()
    devices = usable_devices(built, hardware)
    return BackendState(
        name=name,
        title=spec.title,
        installed=found.ok,
        version=found.version,
        devices=devices,
        reason=_reason(spec, built, hardware) or found.reason if found.ok else found.reason,
        requirements=file.name if (file := requirements_of(spec)) else "",
        pinned=_pinned(spec),
    )


def requirements_of(spec: LoaderSpec) -> Path | None:
    """The file that `install` uses: the one the backend names, else the one named like it; None where there is none."""
    if not spec.distributions:
        return None
    file = REQUIREMENTS / (spec.requirements or f"{spec.name}.txt")
    return file if file.exists() else None


def install_plan(name: str, loaders: Mapping[str, LoaderSpec] = LOADERS, *, repair: bool = False) -> InstallPlan:
    """How backend `name` would be installed. Raises `SetupFailed` where there is nothing pip could install."""
    spec = _spec(name, loaders)
    requirements = requirements_of(spec)
    if requirements is None:
        raise SetupFailed(f"{spec.title} has no packages to install.", hint=spec.availability().reason)
    compiles = bool(COMPILED & set(spec.distributions))
    options = ["--force-reinstall", "--no-deps", "--no-cache-dir"] if repair else []
    command = ["install", *options, *(["--verbose"] if compiles else []), "-r", str(requirements)]
    return InstallPlan(
        name=name,
        command=(sys.executable, "-m", "pip", *command),
        requirements=requirements,
        packages=tuple(pinned_packages(requirements)),
        compiles=compiles,
        missing_tools=missing_tools() if compiles else (),
    )


async def install(name: str, loaders: Mapping[str, LoaderSpec] = LOADERS) -> AsyncGenerator[LogLine, None]:
    """Install backend `name`, or repair it if it is there and does not start. Yields the log as it grows.

    Raises `Busy` while another installation changes this environment, `SetupFailed` or `BrokenPackage` where it fails.
    Closing the iterator (or cancelling its task) stops pip and what it started.
    """
    spec = _spec(name, loaders)
    plan = install_plan(name, loaders)
    lock = environment_lock(Path(sys.prefix))
    if not lock.acquire():
        raise Busy("Another installation is running.", hint="Start this one again when the other is finished.")
    with lock:
        started = time.monotonic()
        if spec.availability().ok:
            yield LogLine(f"{spec.title} is installed; trying it", step=True)
            try:
                found = await probe(spec)
            except BrokenPackage as error:
                yield LogLine(f"{error.cause}; installing it again", step=True)
                plan = install_plan(name, loaders, repair=True)
            else:
                yield LogLine(_proved(spec, found), 1.0, step=True)
                return
        if plan.missing_tools:
            yield LogLine(f"Not found here: {' and '.join(plan.missing_tools)}. Only a ready wheel can be used.")
        async with aclosing(_run_pip(plan, lock.descriptor)) as lines:
            async for line in lines:
                yield line
        importlib.invalidate_caches()
        yield LogLine("trying it", 1.0, step=True)
        found = await probe(spec)
        yield LogLine(f"{_proved(spec, found)} It took {time.monotonic() - started:.0f} s.", 1.0, step=True)


async def test(name: str, loaders: Mapping[str, LoaderSpec] = LOADERS) -> Probe:
    """Import the engine in a child process and ask it. Raises `MissingPackage`, `BrokenPackage`, `TimedOut`."""
    return await probe(_spec(name, loaders))


async def _run_pip(plan: InstallPlan, hold: int | None) -> AsyncGenerator[LogLine, None]:
    loop = asyncio.get_running_loop()
    lines: asyncio.Queue[LogLine | None] = asyncio.Queue()
    scratch = Path(sys.prefix) if sys.platform != "win32" and os.access(sys.prefix, os.W_OK) else None
    run = PipRun(
        plan.command[0],
        plan.command[3:],
        expected=len(plan.packages),
        scratch=scratch,
        library=Path(sysconfig.get_path("purelib")),
        phases=COMPILING if plan.compiles else READY_WHEELS,
        hold=hold,
    )
    share = 0.0
    step = ""

    def report(text: str, done: float | None) -> None:
        nonlocal share, step
        share = done if done is not None else share
        if text != step:
            step = text
            loop.call_soon_threadsafe(lines.put_nowait, LogLine(text, share, step=True))

    def pass_on(line: str) -> None:
        loop.call_soon_threadsafe(lines.put_nowait, LogLine(line, share))

    def work() -> None:
        try:
            run.run(report, pass_on)
        finally:
            loop.call_soon_threadsafe(lines.put_nowait, None)

    task = asyncio.create_task(asyncio.to_thread(work))
    try:
        while (line := await lines.get()) is not None:
            yield line
        await task
    except SetupFailed as error:
        if plan.missing_tools:
            raise SetupFailed(
                f"{plan.name} has to be compiled, and this machine lacks {' and '.join(plan.missing_tools)}.",
                hint=install_hint(),
                evidence=error.evidence,
            ) from error
        raise
    finally:
        if not task.done():
            await asyncio.to_thread(run.cancel)
            with suppress(AppError):  # the reason it ends is that nobody waits for it any more
                await task


def _spec(name: str, loaders: Mapping[str, LoaderSpec]) -> LoaderSpec:
    spec = loaders.get(name)
    if spec is None:
        raise NotFound(f"There is no backend called {name!r}.", hint=f"Known are: {', '.join(loaders)}.")
    return spec


def _pinned(spec: LoaderSpec) -> str | None:
    """The version of the main package that the requirements file asks for."""
    requirements = requirements_of(spec)
    if requirements is None or not spec.distributions:
        return None
    pins = dict(line.split("==", 1) for line in pinned_packages(requirements) if "==" in line)
    return pins.get(spec.distributions[0])


def _reason(spec: LoaderSpec, built: tuple[str, ...], hardware: HardwareFacts | None) -> str:
    """A sentence on GPUs that are there and that the build cannot use; empty where there is nothing to say."""
    if hardware is None or not built:
        return ""
    unused = [gpu.name for gpu in hardware.gpus if not any(gpu.vendor in VENDORS.get(device, ()) for device in built)]
    if not unused:
        return ""
    return f"installed as a build for {', '.join(built)}: {', '.join(unused)} is not used"


def _proved(spec: LoaderSpec, found: Probe) -> str:
    version = next(iter(found.versions.values()), "")
    return f"{spec.title} {version} starts here. Devices: {', '.join(found.devices)}."
