"""Which build of a backend suits a machine, and how it is had: pure, from facts to a choice with its reason.

In this order: a ready build for the GPU, compiling for it where the tools for that are here, a ready build for the
processor, compiling for the processor.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from webui.errors import NoCompiler, NoWheel, SetupFailed, UnsuitedPython
from webui.hardware.facts import HardwareFacts
from webui.planning.recommendation import device_for
from webui.planning.support import Support, cannot_run, numbers, support
from webui.setup.published import PUBLISHED, Build, Published
from webui.setup.sources import BUILD, Sources, Wheel
from webui.setup.target import Target
from webui.setup.toolchain import NEEDED, install_hint

LLAMA_CPP = ("xllamacpp", "llama-cpp-python")
"""Their ready builds for x86 processors all need AVX2."""


class Way(StrEnum):
    """How a build is had."""

    FOLDER = "folder"
    INDEX = "index"
    DEFAULT = "default"
    COMPILE = "compile"


@dataclass(frozen=True, slots=True)
class Choice:
    """`build` is `None` where nothing is known of the package's builds. `address` is of the maker's index, `wheel` the
    file of a folder. `why` is one sentence; `notes` name better builds that cannot be had, each with what would help.
    """

    way: Way
    build: Build | None
    why: str
    address: str = ""
    wheel: Wheel | None = None
    notes: tuple[str, ...] = ()
    problem: SetupFailed | None = None
    """What stands in the way; then nothing can be installed."""


@dataclass(frozen=True, slots=True)
class _Machine:
    hardware: HardwareFacts
    target: Target
    gpus: tuple[Support, ...]
    kinds: tuple[str, ...]
    """Of devices, the best first; "cpu" is not among them."""

    @property
    def names(self) -> str:
        return " + ".join(one.gpu.name for one in self.gpus)


def choose(name: str, hardware: HardwareFacts, target: Target, sources: Sources) -> Choice:
    """The build of backend `name` for this machine, and how it is had."""
    published = PUBLISHED.get(name)
    way = Way.FOLDER if sources.folder else Way.DEFAULT
    if published is None:
        return Choice(way, None, "its requirements file says what it needs")
    machine = _machine(hardware, target)
    old, new = published.pythons
    ready = old <= target.python <= new
    if cannot_run("xllamacpp", hardware.cpu) and name in LLAMA_CPP:
        if not published.compile_options:
            return Choice(way, None, "its builds need AVX2, which this processor lacks", problem=_lacks_avx2(name))
        ready = False
    builds = [build for build in _builds(published, machine) if ready]
    notes = _drivers(published, machine, builds) if ready else []
    if sources.folder:
        return _from_folder(published, builds, machine, sources)
    for build in (build for build in builds if build.kind != "cpu"):
        if found := _had(published, build, machine, sources, notes):
            return found
    if found := _compiled(published, machine, [kind for kind in machine.kinds if kind in NEEDED], notes):
        return found
    for build in (build for build in builds if build.kind == "cpu"):
        if found := _had(published, build, machine, sources, notes):
            return found
    return _last_resort(published, machine, ready, notes)


def covers(build: Build, one: Support) -> bool:
    """Whether the driver and the card run this build; what is not known of them is not held against it."""
    if build.kind not in one.kinds:
        return False
    offered, capability = numbers(one.gpu.runtime), numbers(one.gpu.compute_capability)
    if build.kind == "rocm":
        covered = not build.architectures or one.gpu.compute_capability in build.architectures
        return covered and (build.runtime is None or offered is None or offered[0] == build.runtime[0])
    if build.kind != "cuda" or build.runtime is None:
        return True
    least, most = build.capabilities
    if capability is not None and not least <= capability <= most:
        return False
    if offered is None or offered >= build.runtime:
        return True
    return offered[0] == build.runtime[0] and capability in build.native


def _machine(hardware: HardwareFacts, target: Target) -> _Machine:
    chosen, _, _ = device_for([support(gpu) for gpu in hardware.gpus])
    return _Machine(hardware, target, tuple(chosen), tuple(dict.fromkeys(kind for one in chosen for kind in one.kinds)))


def _builds(published: Published, machine: _Machine) -> Iterator[Build]:
    """Those that run here, best first: by kind of device, those for all GPUs before those for some; then the CPU's."""
    here = [build for build in published.builds if machine.target.platform in build.platforms]
    for kind in machine.kinds:
        of_kind = [build for build in here if build.kind == kind]
        for every in (all, any):
            yield from (build for build in of_kind if every(covers(build, one) for one in machine.gpus))
    yield from (build for build in here if build.kind == "cpu")


def _drivers(published: Published, machine: _Machine, builds: Sequence[Build]) -> list[str]:
    """Where only the driver keeps an NVIDIA card from every build there is: which version would not."""
    mine = [build for build in published.builds if build.kind == "cuda" and machine.target.platform in build.platforms]
    if "cuda" not in machine.kinds or not mine or any(build.kind == "cuda" for build in builds):
        return []
    newer = [replace(one, gpu=replace(one.gpu, runtime="CUDA 99.9")) for one in machine.gpus]
    able = [build for build in mine if any(covers(build, one) for one in newer)]
    if not able:
        return []
    oldest = min(able, key=lambda build: build.runtime or (0, 0))
    return [f"With a driver that offers {oldest.title} or newer, a ready build would use {machine.names}."]


def _had(published: Published, build: Build, machine: _Machine, sources: Sources, notes: list[str]) -> Choice | None:
    why = _why(build, machine)
    if not build.label:
        return Choice(Way.DEFAULT, build, why, notes=tuple(notes))
    # What is compiled here uses all that the processor has: a ready build for any processor has to be asked for.
    if address := sources.address(published.distribution, build.label, named=build.kind == "cpu"):
        return Choice(Way.INDEX, build, why, address, notes=tuple(notes))
    if build.kind != "cpu" and not notes:
        notes.append(
            f"A ready build for {build.title} would use {machine.names}. It stands on {published.maker}'s own index: "
            f"name its address in setup.indexes, as {published.distribution}=https://SERVER/PATH/{BUILD}."
        )
    return None


def _compiled(published: Published, machine: _Machine, kinds: Sequence[str], notes: list[str]) -> Choice | None:
    for kind in kinds:
        if kind not in published.compile_options:
            continue
        missing = machine.target.missing(NEEDED[kind])
        if not missing:
            build = Build("", kind, _kind_words(kind), frozenset(), 70, published.compile_megabytes)
            where = f" for {machine.names}" if kind != "cpu" else ""
            why = f"no ready build{where} can be had, so it is compiled here"
            return Choice(Way.COMPILE, build, why, notes=tuple(notes))
        if kind != "cpu":
            notes.append(f"Compiling it for {_kind_words(kind)} needs {' and '.join(missing)}.")
    return None


def _last_resort(published: Published, machine: _Machine, ready: bool, notes: list[str]) -> Choice:
    """No ready build is known to be within reach: compile for the processor, or take what pip's configuration gives."""
    if published.compile_options:
        if found := _compiled(published, machine, ["cpu"], notes):
            return found
        missing = " and ".join(machine.target.missing(NEEDED["cpu"]))
        lacking = NoCompiler(
            f"{published.distribution} has to be compiled, and this machine lacks {missing}.", hint=install_hint()
        )
        build = Build("", "cpu", "the processor", frozenset(), 70, published.compile_megabytes)
        return Choice(Way.COMPILE, build, "there is no ready build for it", notes=tuple(notes), problem=lacking)
    if not ready:
        return Choice(Way.DEFAULT, None, "no build is made for this Python", problem=_unsuited(published, machine))
    here = [build for build in published.builds if machine.target.platform in build.platforms and build.kind == "cpu"]
    if here:
        why = f"{_why(here[-1], machine)}; it is what pip's own index offers"
        return Choice(Way.DEFAULT, here[-1], why, notes=tuple(notes))
    problem = NoWheel(
        f"There is no build of {published.distribution} for this system ({machine.target.platform}).",
        hint="Another backend can take its place: see the cards on the Backend tab.",
    )
    return Choice(Way.DEFAULT, None, "there is no build for this system", problem=problem)


def _from_folder(published: Published, builds: Sequence[Build], machine: _Machine, sources: Sources) -> Choice:
    """Of the wheels in the folder, the one of the best build; one that does not say its build comes last."""
    target = machine.target
    mine = [wheel for wheel in sources.of(published.distribution) if wheel.runs_on(target.platform, target.python)]
    for build in builds:
        for wheel in mine:
            if build.label and _same_label(wheel.label, build.label):
                return Choice(Way.FOLDER, build, _why(build, machine), wheel=wheel)
    plain = next((wheel for wheel in mine if not wheel.label), None)
    if plain is not None:
        cpu = next((build for build in reversed(builds) if build.kind == "cpu"), None)
        return Choice(Way.FOLDER, cpu, "it is the build that the folder has", wheel=plain)
    there = sources.of(published.distribution)
    others = f"it has {', '.join(wheel.file.name for wheel in there)}" if there else "it has none of this package"
    wanted = builds[0].title if builds else "this system"
    problem = NoWheel(
        f"The folder has no wheel of {published.distribution} for {wanted} and {target.python_words} "
        f"on {target.platform}.",
        cause=others,
        hint=f"Put one into {sources.folder}.",
    )
    return Choice(Way.FOLDER, builds[0] if builds else None, "only this folder is looked in", problem=problem)


def _same_label(label: str, wanted: str) -> bool:
    """rocm-7.2.4 may stand in a file's name as rocm7.2.4, and cu12 not for cu126."""
    return _letters(label) == _letters(wanted)


def _letters(label: str) -> str:
    return re.sub(r"[^a-z0-9]", "", label.lower())


def _why(build: Build, machine: _Machine) -> str:
    if build.kind == "cpu":
        return _why_processor(machine)
    gpu = machine.gpus[0].gpu
    if build.kind == "cuda":
        offered = f"the driver offers {gpu.runtime}" if gpu.runtime else "its driver's version is not known"
        return f"{machine.names}: {offered}, and {build.title} is the best of the builds that it runs"
    if build.kind == "rocm":
        return f"{machine.names} ({gpu.compute_capability}) with {gpu.runtime or 'its driver'}: {build.title} covers it"
    if build.kind in ("metal", "mps"):
        return f"{machine.names}: it uses Apple's GPU as it is"
    return f"{machine.names}: {machine.gpus[0].note}, and a build for {build.title} reaches it"


def _why_processor(machine: _Machine) -> str:
    if machine.gpus:
        return f"no build that can be had here uses {machine.names}"
    if machine.hardware.gpus:
        judged = support(machine.hardware.gpus[0])
        return f"{judged.gpu.name} is left aside: {judged.note}"
    return "no GPU was found"


def _kind_words(kind: str) -> str:
    return {"cuda": "CUDA", "rocm": "ROCm", "metal": "Metal", "vulkan": "Vulkan", "cpu": "the processor"}[kind]


def _lacks_avx2(name: str) -> SetupFailed:
    return NoWheel(
        f"The ready builds of {name} need a processor with AVX2, which this one is not; they would crash at once.",
        hint="llama-cpp-python is compiled for the processor it runs on: install that one.",
    )


def _unsuited(published: Published, machine: _Machine) -> SetupFailed:
    return UnsuitedPython(
        f"{published.distribution} is made for Python {_versions(published.pythons)}, and this is "
        f"{machine.target.python_words}.",
        hint="Start the app with one of these versions.",
    )


def _versions(pythons: Iterable[tuple[int, int]]) -> str:
    old, new = pythons
    return f"{old[0]}.{old[1]} and newer" if new[1] == 99 else f"{old[0]}.{old[1]} to {new[0]}.{new[1]}"
