"""The tables of all recorded machines that people review. Written by: python -m tests.hardware.machines.table"""

from __future__ import annotations

import tempfile
from pathlib import Path

from tests.hardware import machines
from tests.planning.engines import as_set_up, well_equipped
from webui.hardware.facts import GIB, GpuFacts, HardwareFacts
from webui.loaders.threads import threads_for
from webui.planning.recommendation import recommend
from webui.planning.sizes import Fit

DETECTED = machines.HERE / "detected.txt"
RECOMMENDED = machines.HERE / "recommended.txt"


def detected_table(folder: Path) -> str:
    blocks = (_detected(name, machines.facts(name, folder / name)) for name in machines.NAMES)
    return "\n".join(blocks)


def recommended_table(folder: Path) -> str:
    blocks = []
    for name in machines.NAMES:
        facts = machines.facts(name, folder / name)
        lines = [f"{name}: {machines.about(name)}"]
        for title, engines in (("as set up", as_set_up(facts)), ("with a build for it", well_equipped(facts))):
            advice = recommend(facts, engines)
            pairs = advice.lines()
            if engines != as_set_up(facts):  # what differs from the first
                first = recommend(facts, as_set_up(facts)).lines()
                pairs = [pair for pair in pairs if pair not in first]
            lines.append(f"  {title}")
            lines += [f"    {heading + ':':<11} {sentence}" for heading, sentence in pairs]
            if title == "as set up":
                lines.append(f"    {'Sizes:':<11} {', '.join(_size(fit) for fit in advice.sizes)}")
        blocks.append("\n".join(lines) + "\n")
    return "\n".join(blocks)


def _size(fit: Fit) -> str:
    return f"{fit.billions} B {fit.quantization} {fit.where}" if fit.quantization else f"{fit.billions} B no"


def _detected(name: str, facts: HardwareFacts) -> str:
    cpu, memory = facts.cpu, facts.memory
    kinds = f", {cpu.performance_cores} fast + {cpu.efficiency_cores} slow" if cpu.efficiency_cores else ""
    where = ", container" * bool(facts.system.container) + ", WSL" * bool(facts.system.wsl)
    lines = [
        f"{name}: {machines.about(name)}",
        f"  system   {facts.system.name} {facts.system.version}{where}",
        f"  cpu      {cpu.model}: {cpu.physical_cores} cores, {cpu.logical_cores} threads{kinds}, "
        f"usable {cpu.usable_cores}, engine threads {threads_for(cpu)}; {' '.join(cpu.instruction_sets)}",
        f"  memory   {memory.total / GIB:.1f} GiB, {memory.available / GIB:.1f} free{', limited' * memory.limited}",
        *(f"  gpu {gpu.index}    {_gpu(gpu)}" for gpu in facts.gpus),
        *(f"  problem  {problem}" for problem in facts.problems),
    ]
    if facts.vulkan is not None and facts.vulkan.drivers:
        lines.append(f"  vulkan   {' '.join(facts.vulkan.drivers)}{'' if facts.vulkan.loader else ' (no loader seen)'}")
    return "\n".join(lines) + "\n"


def _gpu(gpu: GpuFacts) -> str:
    sizes = [f"{count / GIB:.1f}" if count is not None else "?" for count in (gpu.memory_total, gpu.memory_free)]
    reserved = f" ({gpu.reserved / GIB:.1f} carved out)" if gpu.reserved else ""
    kind = {True: "integrated", False: "discrete", None: "kind unknown"}[gpu.integrated]
    figures = [
        f"{gpu.vendor} {gpu.name}, {kind}",
        f"{sizes[0]} GiB, {sizes[1]} free{reserved}",
        f"driver {gpu.driver}, {gpu.runtime or 'no runtime known'}, {gpu.compute_capability or 'capability unknown'}",
        f"use {_known(gpu.utilisation, '%')}, {_known(gpu.temperature, '°C')}, {_known(gpu.power, 'W')}",
    ]
    if gpu.processes:
        figures.append("held by " + ", ".join(f"{process.pid}" for process in gpu.processes))
    return "; ".join(figures)


def _known(value: float | None, unit: str) -> str:
    return "?" if value is None else f"{value:.0f} {unit}"


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as scratch:
        DETECTED.write_text(detected_table(Path(scratch) / "1"), "utf-8")
        RECOMMENDED.write_text(recommended_table(Path(scratch) / "2"), "utf-8")
