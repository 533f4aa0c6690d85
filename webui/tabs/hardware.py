"""The Hardware tab: what the machine is doing, what would run on it, and what is known of each part."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import gradio as gr

from webui.context import AppContext
from webui.hardware.facts import CpuFacts, DiskFacts, GpuFacts, HardwareFacts, MemoryFacts, SystemFacts
from webui.hardware.family import Family
from webui.planning.recommendation import recommend
from webui.tabs import hardware_benchmark, hardware_gpus
from webui.tabs.advice import advice_html
from webui.tabs.present import (
    UNKNOWN,
    empty_html,
    escape,
    facts_html,
    list_html,
    monitor_html,
    number,
    percent,
    size,
)
from webui.tabs.visible import when_opened

VENDORS = {"nvidia": "NVIDIA", "amd": "AMD", "intel": "Intel", "apple": "Apple"}


def build(context: AppContext) -> None:
    """Draw the tab where the caller stands. The facts are fetched when the tab is opened, and anew on request."""
    with gr.Row(elem_classes="tab-head"):
        gr.HTML("<h2 class='part'>Now</h2>", elem_id="hardware-title")
        refresh = gr.Button("Refresh", size="sm", scale=0, min_width=96, elem_id="hardware-refresh")
    gr.HTML(monitor_html(context.page_key, "Looking at the machine …"), elem_id="hardware-plots")
    gr.HTML("<h2 class='part'>What would run here</h2>")
    advice = gr.HTML(empty_html("Asking the engines what they can use …"), elem_id="hardware-advice")
    hardware_gpus.build(context)
    hardware_benchmark.build(context)
    gr.HTML("<h2 class='part'>This machine</h2>")
    cards = gr.HTML(empty_html("Looking at the machine …"), elem_id="hardware-cards")

    async def show() -> str:
        return hardware_html(await context.hardware())

    async def advise() -> str:
        own = await asyncio.to_thread(Family().follow, context.pool.pids())
        usable = await asyncio.to_thread(context.usable)
        return advice_html(recommend(usable, await context.abilities.all(), own))

    async def look_again() -> tuple[str, str]:
        return hardware_html(await context.hardware(refresh=True)), await advise()

    when_opened(show, cards)
    when_opened(advise, advice)
    refresh.click(
        look_again, None, [cards, advice], concurrency_limit=None, show_progress="minimal", api_visibility="private"
    )


def hardware_html(facts: HardwareFacts) -> str:
    """All cards, and one sentence for each probe that failed."""
    cards = [
        _card("Processor", cpu_rows(facts.cpu)),
        _card("Memory", memory_rows(facts.memory)),
        _card("Disk", disk_rows(facts.disk)),
        _card("System", system_rows(facts.system)),
        *(_card(f"{VENDORS.get(gpu.vendor, gpu.vendor)} GPU {gpu.index}", gpu_rows(gpu)) for gpu in facts.gpus),
    ]
    if not facts.gpus:
        could_not_look = any("gpu" in problem.casefold() for problem in facts.problems)
        sentence = "Unknown: see below." if could_not_look else "No GPU was found; models run on the processor."
        cards.append(_card("GPU", (), sentence))
    problems = list_html(facts.problems, tone="warning")
    heading = "<h3>What could not be looked at</h3>" if problems else ""
    return f'<div class="cards">{"".join(cards)}</div>{heading}{problems}'


def cpu_rows(cpu: CpuFacts) -> list[tuple[str, str]]:
    return [
        ("Model", cpu.model or UNKNOWN),
        ("Architecture", cpu.architecture or UNKNOWN),
        ("Cores the app may use", number(cpu.usable_cores)),
        *([("Limit", f"the time of {cpu.quota:g} cores, set for this container or group")] if cpu.quota else []),
        ("Physical cores", number(cpu.physical_cores)),
        *([("Of them fast", number(cpu.performance_cores))] if cpu.performance_cores else []),
        ("Logical cores", number(cpu.logical_cores)),
        ("Instructions", ", ".join(cpu.instruction_sets) or UNKNOWN),
    ]


def memory_rows(memory: MemoryFacts) -> list[tuple[str, str]]:
    rows = [
        ("Total", size(memory.total)),
        ("Available", size(memory.available)),
        ("In use", _share(memory.total - memory.available, memory.total)),
    ]
    if memory.swap_total:
        rows.append(("Swap", f"{size(memory.swap_free)} free of {size(memory.swap_total)}"))
    return [*rows, ("Limit", "set for this container or group")] if memory.limited else rows


def disk_rows(disk: DiskFacts) -> list[tuple[str, str]]:
    return [
        ("Folder", str(disk.path)),
        ("Free", size(disk.free)),
        ("Total", size(disk.total)),
        ("In use", _share(disk.total - disk.free, disk.total)),
    ]


def system_rows(system: SystemFacts) -> list[tuple[str, str]]:
    return [
        ("System", f"{system.name} {system.version}".strip()),
        ("Python", system.python),
        ("Container", _yes_no(system.container)),
        ("WSL", _yes_no(system.wsl)),
    ]


def gpu_rows(gpu: GpuFacts) -> list[tuple[str, str]]:
    kind = {True: "in the processor, shares its memory", False: "a card of its own", None: UNKNOWN}[gpu.integrated]
    rows = [
        ("Name", gpu.name),
        ("Vendor", VENDORS.get(gpu.vendor, gpu.vendor)),
        ("Kind", "a part of a divided card" if gpu.part_of else kind),
        ("Memory", size(gpu.memory_total)),
        ("Free memory", size(gpu.memory_free)),
        ("Driver", gpu.driver or UNKNOWN),
        ("Runtime", gpu.runtime or UNKNOWN),
        ("Vulkan driver", _yes_no(gpu.vulkan)),
        ("Compute capability", gpu.compute_capability or UNKNOWN),
        ("In use", UNKNOWN if gpu.utilisation is None else percent(gpu.utilisation / 100)),
        ("Temperature", UNKNOWN if gpu.temperature is None else f"{gpu.temperature:.0f} °C"),
        ("Power", UNKNOWN if gpu.power is None else f"{gpu.power:.0f} W"),
        ("Place on the bus", gpu.bus or UNKNOWN),
    ]
    if gpu.processes:
        rows.append(("Held by", ", ".join(f"process {one.pid}: {size(one.memory)}" for one in gpu.processes[:5])))
    return rows


def _card(title: str, rows: Sequence[tuple[str, str]], sentence: str = "") -> str:
    body = facts_html(rows) if rows else empty_html(sentence)
    return f'<section class="card"><h3>{escape(title)}</h3>{body}</section>'


def _share(used: int, total: int) -> str:
    return percent(used / total) if total > 0 else UNKNOWN


def _yes_no(value: bool | None) -> str:
    return UNKNOWN if value is None else "yes" if value else "no"
