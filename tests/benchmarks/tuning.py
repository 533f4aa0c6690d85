"""The search for the best settings against an exhaustive grid. Run with: python -m tests.benchmarks.tuning [options]

For the starter model and for a file of half a billion parameters (zero weights), in one run each: the search, then a
grid of every combination of the same values, measured by the same trials; at the end the search's choice, the best
points of the grid and the default are measured in turns. Prints times and ratios. Exit status 1 if the choice is slower
than 0.98 × the best of the grid, or the search took more than a fifth of the grid's time.

    --models starter,half   which of the two (both by default)
    --loader NAME           xllamacpp by default
    --quick                 fewer values and shorter trials, to see that it works; its ratios mean little

Wants a machine on which nothing else runs: about 9 minutes for the starter model and 12 for the other on two cores.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import math
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import gguf
import numpy as np

from tests.conftest import cache_folder
from webui.context import AppContext
from webui.diagnostics.trials import Load, TrialBench
from webui.errors import AppError
from webui.loaders.supervisor import WorkerLimits
from webui.models.facts import ModelFacts
from webui.models.inspect import inspect_model
from webui.paths import Paths
from webui.planning.races import Result
from webui.planning.tunables import Axis, Setting, Space, space_of
from webui.planning.tuning import Search
from webui.settings import Settings
from webui.setup.starter import ensure_starter

LEAST_WORTH = 0.98
MOST_SHARE = 0.2
FINAL_ROUNDS = 11
FINALISTS = 4
"""Points of the grid that are measured again: which of them is the best, one measurement cannot tell."""
LIMIT_SECONDS = 60.0
SIZES = {64, 128, 256, 512}
"""Micro-batches of the grid, whose points multiply."""
QUICK_AXES = {"threads", "threads_batch", "flash_attention", "cpu_repacking"}
LAYERS, WIDTH, FEED_FORWARD, HEADS, HEADS_KV, TOKENS = 24, 1280, 3840, 20, 4, 32_000


@dataclass(frozen=True, slots=True)
class Measuring:
    """Trials of one model with one loader: the same for the search and for the grid."""

    bench: TrialBench
    space: Space

    async def once(self, setting: Setting, keep: Setting | None = None) -> Result:
        began = time.monotonic()
        beside = {**self.space.usual, **keep.parameters} if keep is not None else None
        try:
            seen = await self.bench.measure(
                self.space.loader, {**self.space.usual, **setting.parameters}, limit=LIMIT_SECONDS, keep=beside
            )
        except AppError as error:
            print(f"  {setting.parameters}: {error.message}")
            return Result(seconds=time.monotonic() - began, failure=error.message)
        return seen.result


def grid(space: Space) -> Iterator[Setting]:
    """Every combination of the values of the space, the usual ones first."""
    for values in itertools.product(*(axis.values for axis in space.axes)):
        yield space.setting({name: value for one in values for name, value in one.items()})


def restricted(space: Space, *, quick: bool) -> Space:
    """The space with fewer sizes, since the points of a grid multiply."""

    def fewer(axis: Axis) -> Axis:
        if axis.name != "micro_batch_size":
            return axis
        kept = [
            value for value in axis.values if value["micro_batch_size"] in SIZES or value == axis.values[axis.usual]
        ]
        return replace(axis, values=tuple(kept), usual=kept.index(axis.values[axis.usual]))

    axes = (fewer(axis) for axis in space.axes if not quick or axis.name in QUICK_AXES)
    return replace(space, axes=tuple(axes))


def half_a_billion(path: Path) -> Path:
    """A llama with as many parameters, all zero, 4 bits each: a sparse file that loads and runs like any other."""
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_context_length(4096)
    writer.add_embedding_length(WIDTH)
    writer.add_block_count(LAYERS)
    writer.add_feed_forward_length(FEED_FORWARD)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(HEADS_KV)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("default")
    letters = [chr(code) for code in range(33, 127)] + ["Ġ"]
    writer.add_token_list([*letters, *(f"t{number}" for number in range(TOKENS - len(letters)))])
    writer.add_token_types([1] * TOKENS)
    writer.add_token_merges(["t h"])
    writer.add_eos_token_id(TOKENS - 1)
    keys = WIDTH // HEADS * HEADS_KV
    block = {
        "attn_norm": (WIDTH,),
        "attn_q": (WIDTH, WIDTH),
        "attn_k": (keys, WIDTH),
        "attn_v": (keys, WIDTH),
        "attn_output": (WIDTH, WIDTH),
        "ffn_norm": (WIDTH,),
        "ffn_gate": (FEED_FORWARD, WIDTH),
        "ffn_up": (FEED_FORWARD, WIDTH),
        "ffn_down": (WIDTH, FEED_FORWARD),
    }
    shapes: dict[str, tuple[int, ...]] = {"token_embd": (TOKENS, WIDTH), "output_norm": (WIDTH,)}
    shapes |= {f"blk.{number}.{name}": shape for number in range(LAYERS) for name, shape in block.items()}
    size = 0
    for name, shape in shapes.items():
        small = len(shape) == 1
        count = math.prod(shape)
        length = count * 4 if small else count // 32 * 18
        kind = None if small else gguf.GGMLQuantizationType.Q4_0
        writer.add_tensor_info(f"{name}.weight", shape, np.dtype(np.float32), length, raw_dtype=kind)
        size += -(-length // 32) * 32
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    assert writer.fout is not None
    begin = -(-writer.fout[0].tell() // 32) * 32
    writer.close()
    with path.open("r+b") as file:
        file.truncate(begin + size)
    return path


async def compare(context: AppContext, facts: ModelFacts, loader: str, *, quick: bool) -> bool:
    """The search and the grid on one model; whether the search keeps both bounds."""
    spec = context.loaders[loader]
    usual = context.full_parameters(loader, {})
    space = restricted(space_of(spec, usual, facts, (await context.hardware()).cpu, gpu=False), quick=quick)

    def plan(name: str, parameters: Mapping[str, Any]) -> Any:
        return context.plan(facts, name, parameters)

    bench = TrialBench(facts, context.loaders, plan, WorkerLimits())
    try:
        await bench.calibrate(loader, usual, limit=LIMIT_SECONDS)
        share = 4 if quick else 2
        bench.load = Load(max(12, bench.load.words // share), max(16, bench.load.tokens // share))
        measuring = Measuring(bench, space)
        search, search_seconds = await searched(measuring)
        assert search.verdict is not None
        chosen = search.verdict.setting
        print(f"search: {len(search.seen)} trials, {search_seconds:.0f} s, chose {chosen.parameters or 'the default'}")
        points, grid_seconds = await gridded(measuring)
        best = sorted(points, key=lambda setting: points[setting])[:FINALISTS]
        print(f"grid: {len(points)} points, {grid_seconds:.0f} s, best {best[0].parameters or 'the default'}")
        worth, gain = await final(measuring, chosen, best, search.default)
    finally:
        await bench.close()
    spent = search_seconds / grid_seconds
    print(f"chosen / best of the grid: {worth:.3f}; chosen / default: {gain:.3f}; time of search / grid: {spent:.3f}\n")
    return worth >= LEAST_WORTH and spent <= MOST_SHARE


async def searched(measuring: Measuring) -> tuple[Search, float]:
    search = Search([measuring.space])
    began = time.monotonic()
    while (trial := search.next()) is not None:
        search.tell(trial, await measuring.once(trial.setting, search.best))
    return search, time.monotonic() - began


async def gridded(measuring: Measuring) -> tuple[dict[Setting, float], float]:
    """The time of a typical exchange at every point, and how long that took to measure."""
    began = time.monotonic()
    points: dict[Setting, float] = {}
    for number, setting in enumerate(dict.fromkeys(grid(measuring.space)), 1):
        points[setting] = (await measuring.once(setting)).wait
        if number % 20 == 0:
            print(f"  {number} points, {time.monotonic() - began:.0f} s", flush=True)
    return points, time.monotonic() - began


async def final(measuring: Measuring, chosen: Setting, best: list[Setting], default: Setting) -> tuple[float, float]:
    """How fast the choice is, measured in turns, against the best of the grid and against the default.

    Which point is the best is told by rounds of their own: the luckiest of some is never as fast again.
    """
    among = await in_turns(measuring, best)
    first = min(best, key=lambda setting: statistics.median(among[setting]))
    print(f"best of the grid, measured again: {first.parameters or 'the default'}")
    waits = await in_turns(measuring, [chosen, first, default])

    def against(other: Setting) -> float:
        return statistics.median(theirs / ours for ours, theirs in zip(waits[chosen], waits[other], strict=True))

    return against(first), against(default)


async def in_turns(measuring: Measuring, settings: list[Setting]) -> dict[Setting, list[float]]:
    """The times of each setting, a new process for each, since some processes are faster than others all their life."""
    runners = list(dict.fromkeys(settings))
    waits: dict[Setting, list[float]] = {setting: [] for setting in runners}
    for number in range(FINAL_ROUNDS):
        await measuring.bench.close()
        for setting in runners if number % 2 == 0 else reversed(runners):
            waits[setting].append((await measuring.once(setting)).wait)
    return waits


async def run(folder: Path, models: list[str], loader: str, *, quick: bool) -> bool:
    paths = Paths(folder / "home").ensure()
    context = AppContext.create(paths, Settings.load(paths, environment={}))
    try:
        within = []
        for name in models:
            starter = name == "starter"
            file = (
                ensure_starter(cache_folder(), lambda text, share: None)
                if starter
                else half_a_billion(folder / "half.gguf")
            )
            facts = inspect_model(file)
            print(f"{name}: {facts.parameter_count or 0:,} parameters, {loader}")
            within.append(await compare(context, facts, loader, quick=quick))
        return all(within)
    finally:
        await context.close()


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--models", default="starter,half")
    parser.add_argument("--loader", default="xllamacpp")
    parser.add_argument("--quick", action="store_true")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        within = asyncio.run(run(Path(name), given.models.split(","), given.loader, quick=given.quick))
    print("within both bounds" if within else "A BOUND IS MISSED")
    return 0 if within else 1


if __name__ == "__main__":
    sys.exit(main())
