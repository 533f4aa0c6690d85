"""Sentences of advice about a machine: settings worth changing, and what is not supported."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence

from webui.hardware.facts import GIB, CpuFacts, GpuFacts, HardwareFacts
from webui.loaders.devices import Ability
from webui.loaders.threads import threads_for
from webui.planning.support import Support, cannot_run

SMALL_GPU = 8 * GIB
NOTABLE = GIB
"""Memory that others hold of a GPU from which it is worth a word."""


def size_words(count: int) -> str:
    return f"{count / GIB:.0f} GiB" if count >= 10 * GIB else f"{count / GIB:.1f} GiB"


def hints_for(
    hardware: HardwareFacts, gpus: Sequence[GpuFacts], kind: str, loaders: Sequence[str], own: Collection[int]
) -> Iterator[str]:
    """Settings worth changing on this machine, each with its reason."""
    yield _threads(hardware.cpu)
    yield from _gpu_hints(hardware, gpus, kind, own)
    sets = set(hardware.cpu.instruction_sets)
    if "llama-cpp-python" in loaders and "xllamacpp" in loaders and kind == "cpu" and sets & {"avx512f", "amx_int8"}:
        more = "AMX and AVX-512" if "amx_int8" in sets else "AVX-512"
        yield (
            f"xllamacpp's package uses AVX2 only, llama-cpp-python as compiled here also {more}: "
            "let the benchmark decide."
        )
    if kind == "cpu" and sets & {"asimddp", "i8mm"}:
        yield "On this processor Q4_0 files are the fastest of the 4-bit ones: the engine rearranges them for it."
    if hardware.memory.limited:
        yield (
            f"The container may use {size_words(hardware.memory.total)} of memory; "
            "a model beyond that is ended by the system, so leave memory-mapping on and the context small."
        )
    if hardware.system.wsl:
        yield (
            f"WSL has {size_words(hardware.memory.total)} of the machine's memory (.wslconfig changes that); "
            "keep models in its own file system, since those under /mnt/c load slowly."
        )


def _threads(cpu: CpuFacts) -> str:
    count = threads_for(cpu)
    if cpu.quota is not None and cpu.allowed_cores is not None and cpu.quota < cpu.allowed_cores:
        why = f"the container is granted the time of {cpu.quota:g} of {cpu.allowed_cores} cores"
    elif cpu.efficiency_cores:
        why = f"one for each fast core; the {cpu.efficiency_cores} slow ones would make them wait"
    elif cpu.allowed_physical and cpu.allowed_cores and cpu.allowed_cores > cpu.allowed_physical:
        why = "one for each physical core; their second threads share the same units"
    elif count == 1:
        why = "the only core to spare"
    else:
        why = "one core is left to the page and the server"
    return f"Threads: {count}, {why}."


def _gpu_hints(hardware: HardwareFacts, gpus: Sequence[GpuFacts], kind: str, own: Collection[int]) -> Iterator[str]:
    for gpu in gpus:
        others = None if gpu.integrated else gpu.held_by_others(own)
        if others is not None and others >= NOTABLE:
            pids = ", ".join(str(process.pid) for process in gpu.processes if process.pid not in own)
            who = f" (process {pids})" if pids else ""
            yield f"Other programs and the display hold {size_words(others)} of {gpu.name}{who}."
    if len(gpus) > 1:
        free = " : ".join(f"{(gpu.memory_free or gpu.memory_total or 0) / GIB:.0f}" for gpu in gpus)
        yield (
            f"Split a model over the GPUs as their free memory is, {free}; "
            "a model that fits on one is faster there alone."
        )
    yield from _parts(hardware, gpus)
    total = sum(gpu.memory_total or 0 for gpu in gpus)
    if 0 < total <= SMALL_GPU and not gpus[0].integrated:
        yield "An 8-bit cache (q8_0, with flash attention) halves what the context takes and leaves room for layers."
    if kind == "metal" and gpus[0].memory_total:
        yield (
            f"The GPU may hold {size_words(gpus[0].memory_total)}; "
            "sudo sysctl iogpu.wired_limit_mb=N raises what macOS allows until the next start."
        )
    if kind == "vulkan" and gpus and gpus[0].integrated:
        yield (
            "The GPU reads the prompt faster than the processor; the reply comes about as fast on both, "
            "since both wait for the same memory."
        )
    rest = [gpu for gpu in hardware.gpus if gpu not in gpus and not gpu.integrated and gpu.vulkan and not gpu.part_of]
    if gpus and rest and all(gpu.vulkan for gpu in gpus) and kind != "vulkan":
        together = sum(gpu.memory_total or 0 for gpu in (*gpus, *rest))
        names = ", ".join(gpu.name for gpu in rest)
        yield f"For models too large for that, a Vulkan build can use {names} as well: {size_words(together)} together."


def _parts(hardware: HardwareFacts, gpus: Sequence[GpuFacts]) -> Iterator[str]:
    """For cards that are divided."""
    others = [gpu for gpu in hardware.gpus if gpu.part_of and gpu not in gpus]
    if others and gpus and gpus[0].part_of:
        yield (
            f"A program sees one part of a divided card: {gpus[0].name} has the most free. "
            f"Start the app with CUDA_VISIBLE_DEVICES={gpus[0].uuid} to be sure of it."
        )


def warnings_for(hardware: HardwareFacts, judged: Sequence[Support], installed: Sequence[Ability]) -> Iterator[str]:
    """What is not supported or could not be looked at."""
    yield from hardware.problems
    for one in judged:
        yield from one.warnings
    for ability in installed:
        if cannot_run(ability.loader, hardware.cpu):
            yield f"The package of {ability.loader} needs AVX2, which is not here: it would crash at once."
    if 0 < hardware.memory.total < 4 * GIB:
        yield f"{size_words(hardware.memory.total)} of memory is little: choose models under 1 B parameters."
