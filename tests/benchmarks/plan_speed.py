"""How long plans take. Run with: python -m tests.benchmarks.plan_speed

For a header shaped like a model of eight billion parameters (the file is sparse): the instant plan, with all that the
page gets and on machines where little fits, and the engine's own dry run in a process of its own. Exit status 1 where a
bound is missed.
"""

from __future__ import annotations

import asyncio
import statistics
import sys
import tempfile
import time
from pathlib import Path

from tests.builders.grown import plans
from webui.context import AppContext
from webui.loaders import LOADERS
from webui.models.inspect import inspect_model
from webui.paths import Paths
from webui.planning.alternatives import plan
from webui.planning.plan import GpuRoom, Machine
from webui.planning.planner import Question
from webui.settings import Settings

GIB = 1 << 30
RUNS = 50
MOST_INSTANT_SECONDS = 0.005
MOST_EXACT_SECONDS = 1.0
SHAPE = {
    "context_length": 131_072,
    "embedding_length": 4096,
    "attention.head_count": 32,
    "attention.head_count_kv": 8,
    "feed_forward_length": 14_336,
    "block_count": 32,
}
MACHINES = {
    "plenty of memory": Machine(64 * GIB, 64 * GIB),
    "little memory": Machine(3 * GIB, 8 * GIB),
    "a small GPU": Machine(16 * GIB, 32 * GIB, (GpuRoom(0, "GPU", 6 * GIB, 8 * GIB),)),
    "two GPUs": Machine(16 * GIB, 32 * GIB, (GpuRoom(0, "A", 3 * GIB, 4 * GIB), GpuRoom(1, "B", 2 * GIB, 8 * GIB))),
}


def median_seconds(work: object, runs: int = RUNS) -> float:
    times = []
    for _ in range(runs):
        began = time.perf_counter()
        work()  # type: ignore[operator]
        times.append(time.perf_counter() - began)
    return statistics.median(times)


async def measure(folder: Path) -> bool:
    path, _ = plans(folder, "llama", [], vocabulary=128_000, quantization="Q4_K", **SHAPE)
    facts = inspect_model(path)
    good = True
    for name, machine in MACHINES.items():
        for loader in ("xllamacpp", "transformers"):
            spec = LOADERS[loader]
            values = spec.parameters.parse({"context_size": 32_768}).model_dump(mode="json")
            asked = Question(facts, spec, values, machine)
            seconds = median_seconds(lambda asked=asked: plan(asked))
            good = good and seconds <= MOST_INSTANT_SECONDS
            sys.stdout.write(f"instant, {name}, {loader}: {seconds * 1000:.2f} ms\n")
    paths = Paths(folder / "home").ensure()
    context = AppContext.create(paths, Settings.load(paths, environment={}))
    for loader in ("xllamacpp", "llama-cpp-python"):
        seconds = median_seconds(lambda loader=loader: context.plan(facts, loader, {"context_size": 8192}))
        good = good and seconds <= MOST_INSTANT_SECONDS
        sys.stdout.write(f"instant, this machine, {loader}: {seconds * 1000:.2f} ms\n")
        times = []
        for _ in range(5):
            began = time.perf_counter()
            await context.exact_plan(facts, loader, {"context_size": 8192})
            times.append(time.perf_counter() - began)
        good = good and statistics.median(times) <= MOST_EXACT_SECONDS
        sys.stdout.write(f"exact, this machine, {loader}: {statistics.median(times):.2f} s\n")
    await context.close()
    return good


def main() -> int:
    with tempfile.TemporaryDirectory() as folder:
        return 0 if asyncio.run(measure(Path(folder))) else 1


if __name__ == "__main__":
    sys.exit(main())
