"""Carries out installations: plan, keep what is there, pip, prove it with a tiny model, or put back what was there.

One at a time in an environment. The lines of the log are yielded as they come; keeping an installation going while
pages come and go is left to `webui.setup.installations`.
"""

from __future__ import annotations

import asyncio
import importlib
import os
import shutil
import sys
import sysconfig
import time
from collections.abc import AsyncGenerator, Callable, Collection, Iterator, Mapping
from contextlib import aclosing, contextmanager, suppress
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from webui.errors import AppError, Busy, NotPermitted, NoWheel, SetupFailed, ValidationFailed
from webui.hardware.facts import HardwareFacts
from webui.loaders import LOADERS
from webui.loaders.contract import LoaderSpec
from webui.setup.backends import find_spec, pins_of, requirements_of
from webui.setup.choice import choose
from webui.setup.condition import installed_of
from webui.setup.kept import Kept, begun, forget, keep, restore, roll_back, settle
from webui.setup.lock import FileLock, environment_lock
from webui.setup.pip import SCRATCH, PipRun
from webui.setup.pip_progress import COMPILING, READY_WHEELS
from webui.setup.plan import Action, InstallPlan, PipStep, plan_for
from webui.setup.plan_words import plan_lines
from webui.setup.probe import Probe, probe
from webui.setup.sources import find_sources
from webui.setup.target import this_target
from webui.setup.trial import Trial, try_backend


@dataclass(frozen=True, slots=True)
class LogLine:
    """One line of an installation's log. `share` is how much is done (0 … 1); lines of pip's own carry no step."""

    text: str
    share: float | None = None
    step: bool = False
    """True for a step worth showing beside a progress bar, False for a line of pip's output."""

    def __str__(self) -> str:
        return self.text


class Work(StrEnum):
    """What can be done to a backend."""

    INSTALL = "install"
    REPAIR = "repair"
    ROLL_BACK = "roll back"
    TEST = "test"


Log = AsyncGenerator[LogLine, None]


class Installer:
    """Everything that changes or proves a backend here. `hardware` may take some tenths of a second.

    `indexes` and `folder` are the settings `setup.indexes` and `setup.wheels`, asked anew each time.
    """

    def __init__(
        self,
        hardware: Callable[[], HardwareFacts],
        loaders: Mapping[str, LoaderSpec] = LOADERS,
        *,
        indexes: Callable[[], Collection[str]] = tuple,
        folder: Callable[[], Path | None] = lambda: None,
    ) -> None:
        self.loaders = loaders
        self._hardware, self._indexes, self._folder = hardware, indexes, folder

    async def do(self, name: str, work: Work) -> Log:
        """Any of them, by its name; the hint of what goes wrong names the backend."""
        if work is Work.ROLL_BACK:
            doing = self.roll_back(name)
        else:
            doing = self.test(name) if work is Work.TEST else self.install(name, repair=work is Work.REPAIR)
        async with aclosing(doing) as lines:
            try:
                async for line in lines:
                    yield line
            except AppError as error:
                error.concerning(name)
                raise

    def plan(self, name: str, *, repair: bool = False) -> InstallPlan:
        """What installing backend `name` would do, without doing any of it. Takes some tenths of a second.

        Raises `NotFound` and `InvalidSetting`; what stands in the way of doing it is in the plan.
        """
        spec = find_spec(name, self.loaders)
        hardware, target = self._hardware(), this_target()
        sources = find_sources(self._indexes(), self._folder())
        choice = choose(name, hardware, target, sources)
        requirements = requirements_of(spec, choice.build.requirements if choice.build else "")
        pins = pins_of(requirements)
        installed = installed_of(spec, pins)
        return plan_for(spec, requirements, pins, choice, target, sources, installed, repair=repair)

    async def install(self, name: str, *, repair: bool = False) -> Log:
        """Install backend `name`, update it, or repair it where it is there and does not work.

        Raises `Busy` while another installation changes this environment, else the `SetupFailed` of what went wrong;
        what was there before is then back. Closing the iterator (or cancelling its task) stops pip and undoes it.
        """
        spec = find_spec(name, self.loaders)
        with _alone() as lock:
            await asyncio.to_thread(_clear_scratch)
            if (cut_off := begun(name)) is not None:
                yield LogLine("the last installation was cut off: what was there before it is put back first")
                await asyncio.to_thread(_undo, cut_off)
            plan = await asyncio.to_thread(self.plan, name, repair=repair)
            broken: AppError | None = None
            if plan.action is Action.NOTHING and plan.problem is None:
                yield LogLine(f"{spec.title} is installed; trying it", step=True)
                try:
                    found = await _proved(spec)
                except AppError as error:
                    broken = error
                    yield LogLine(f"{error.cause or error.message}; installing it again", step=True)
                    plan = await asyncio.to_thread(self.plan, name, repair=True)
                else:
                    yield LogLine(_words(spec, *found), 1.0, step=True)
                    return
            usable = broken is None and await _usable(spec, plan)
            async with aclosing(self._carry_out(spec, plan, lock.descriptor, usable=usable)) as lines:
                async for line in lines:
                    yield line

    async def roll_back(self, name: str) -> Log:
        """Put the version before back, and try it. Raises `NotFound` where none is kept."""
        spec = find_spec(name, self.loaders)
        with _alone():
            yield LogLine(f"putting back the version of {spec.title} from before", 0.1, step=True)
            await asyncio.to_thread(roll_back, name)
            importlib.invalidate_caches()
            found = spec.availability()
            if not found.ok:
                yield LogLine(f"{spec.title} is not installed, as it was before.", 1.0, step=True)
                return
            yield LogLine(f"{spec.title} {found.version} is back; trying it", 0.6, step=True)
            yield LogLine(_words(spec, *await _proved(spec)), 1.0, step=True)

    async def test(self, name: str) -> Log:
        """Try the backend with a tiny model, changing nothing. Raises what goes wrong."""
        spec = find_spec(name, self.loaders)
        yield LogLine(f"starting {spec.title}", 0.1, step=True)
        yield LogLine(_words(spec, *await _proved(spec)), 1.0, step=True)

    async def _carry_out(self, spec: LoaderSpec, plan: InstallPlan, hold: int | None, *, usable: bool) -> Log:
        if plan.problem is not None:
            raise plan.problem
        started = time.monotonic()
        for words in plan_lines(plan):
            yield LogLine(words)
        kept = await _kept_aside(plan, usable=usable)
        try:
            async with aclosing(_run_steps(plan, hold)) as lines:
                async for line in lines:
                    yield line
            importlib.invalidate_caches()
            yield LogLine("trying it with a tiny model", 1.0, step=True)
            found = await _proved_anew(spec, kept, undo=usable)
        except BaseException:
            if usable:
                _undo(kept, at_once=True)
            else:
                forget(kept)
            raise
        settle(kept, spec.distributions)
        if plan.kind not in ("", "cpu") and found[1].device_kind == "cpu":
            yield LogLine(f"It works, and computes on the processor: the engine does not use the GPU ({plan.build}).")
        yield LogLine(f"{_words(spec, *found)} It took {time.monotonic() - started:.0f} s.", 1.0, step=True)


async def _run_steps(plan: InstallPlan, hold: int | None) -> Log:
    """pip's runs one after the other, as one progress."""
    shares = [step.packages * (20 if step.compiles else 1) for step in plan.steps]
    done = 0.0
    for run, share in zip(plan.steps, shares, strict=True):
        part = share / sum(shares)
        async with aclosing(_run_pip(run, plan, hold)) as lines:
            async for line in lines:
                whole = None if line.share is None else done + part * line.share
                yield LogLine(line.text, whole, line.step)
        done += part


async def _run_pip(step: PipStep, plan: InstallPlan, hold: int | None) -> Log:
    loop = asyncio.get_running_loop()
    lines: asyncio.Queue[LogLine | None] = asyncio.Queue()
    run = PipRun(
        sys.executable,
        step.arguments,
        expected=step.packages,
        scratch=_scratch(),
        library=Path(sysconfig.get_path("purelib")),
        phases=COMPILING if step.compiles else READY_WHEELS,
        hold=hold,
        variables=dict(step.options),
    )
    share = 0.0
    said = ""

    def report(text: str, done: float | None) -> None:
        nonlocal share, said
        share = done if done is not None else share
        if text != said:
            said = text
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
    except NoWheel as error:
        raise _without_wheel(error, plan) from error
    finally:
        if not task.done():
            await asyncio.to_thread(run.cancel)
            with suppress(AppError):  # the reason it ends is that nobody waits for it any more
                await task


def _without_wheel(error: NoWheel, plan: InstallPlan) -> NoWheel:
    """The same with what was looked for, and where."""
    looked = f"Looked for: {plan.title} for {plan.build}, {plan.python}, from {plan.source}."
    return NoWheel(error.message, cause=looked, hint=error.hint, evidence=error.evidence, **error.facts)


@contextmanager
def _alone() -> Iterator[FileLock]:
    lock = environment_lock(Path(sys.prefix))
    if not lock.acquire():
        raise Busy("Another installation is running.", hint="Start this one again when the other is finished.")
    with lock:
        yield lock


def _scratch() -> Path | None:
    """The folder in which pip unpacks and compiles; None is the system's."""
    return Path(sys.prefix) if sys.platform != "win32" and os.access(sys.prefix, os.W_OK) else None


def _clear_scratch() -> None:
    """Remove what a killed installation was compiling; whoever holds the lock knows that no other goes on."""
    folder = _scratch()
    for left in folder.glob(f"{SCRATCH}*") if folder is not None else ():
        shutil.rmtree(left, ignore_errors=True)


async def _kept_aside(plan: InstallPlan, *, usable: bool) -> Kept:
    """Put aside what may change, gigabytes at times; cancelled, it is brought to its end and undone."""
    task = asyncio.create_task(asyncio.to_thread(_keep, plan, usable=usable))
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait([task])
        if task.exception() is None and usable:
            _undo(task.result(), at_once=True)
        elif task.exception() is None:
            forget(task.result())
        raise


def _keep(plan: InstallPlan, *, usable: bool) -> Kept:
    try:
        return keep(plan.name, plan.distributions, copies=usable)
    except OSError as error:
        raise NotPermitted(
            "What is there could not be put aside before the change.", cause=f"{error.strerror}: {error.filename}"
        ) from error


def _undo(kept: Kept, *, at_once: bool = False) -> None:
    try:
        restore(kept, at_once=at_once)
    except OSError as error:
        raise SetupFailed(
            f"What was there before could not be put back: {error.strerror}.",
            cause=str(error.filename),
            hint="Free some disk space, then install it again: that begins with putting it back.",
        ) from error
    forget(kept)
    importlib.invalidate_caches()


async def _usable(spec: LoaderSpec, plan: InstallPlan) -> bool:
    """Whether what is there is worth being put back; before a first installation that is nothing, which always is."""
    if plan.action is Action.INSTALL or plan.problem is not None:
        return True
    if plan.damage:
        return False
    try:
        await probe(spec)
    except AppError:
        return False
    return True


async def _proved(spec: LoaderSpec) -> tuple[Probe, Trial]:
    found = await probe(spec)
    return found, await try_backend(spec)


async def _proved_anew(spec: LoaderSpec, kept: Kept, *, undo: bool) -> tuple[Probe, Trial]:
    """The same for what was just installed; raises `ValidationFailed`."""
    try:
        return await _proved(spec)
    except AppError as error:
        before = kept.version(spec.distributions[0]) if spec.distributions else None
        after = f"version {before} is put back" if before else "it is taken away again"
        raise ValidationFailed(
            f"What was installed of {spec.title} does not work here; {after if undo else 'it did not before, either'}.",
            cause=f"{error.message} {error.cause}".strip(),
            evidence=error.evidence,
            failure=error.code,
        ) from error


def _words(spec: LoaderSpec, found: Probe, trial: Trial) -> str:
    version = next(iter(found.versions.values()), "")
    start = f"{spec.title} {version} starts here. Devices: {', '.join(found.devices)}."
    if not trial.tried:
        return start
    return f"{start} It loaded a tiny model and wrote with it, on {trial.device}."
