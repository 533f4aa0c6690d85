"""What the live monitor costs. Run with: python -m tests.benchmarks.monitor [SECONDS]

Prints the processor time per second of wall clock, in percent of a core: unwatched, watched, and watched by a page that
asks every second over HTTP, with a worker to follow that has 40 threads and a child. Also the memory that ten minutes'
worth of samples add. Exit status 1 if a bound is missed.
"""

from __future__ import annotations

import asyncio
import gc
import subprocess
import sys
import tempfile
import time
import tracemalloc
from pathlib import Path

import httpx

from webui.api.page import window_of
from webui.context import AppContext
from webui.hardware import detect, this_host
from webui.hardware.monitor import KEPT, Monitor
from webui.hardware.sampling import Sampler
from webui.paths import Paths
from webui.server import create_api
from webui.settings import Settings

MOST_WATCHED = 1.0
MOST_UNWATCHED = 0.05
MOST_GROWTH = 64 * 1024
WORKER = """
import subprocess, sys, threading, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(1000)"])
for _ in range(40):
    threading.Thread(target=time.sleep, args=(1000,), daemon=True).start()
print("ready", flush=True)
sys.stdin.read()
child.kill()
"""


async def percent_of_a_core(seconds: float) -> float:
    began, used = time.perf_counter(), time.process_time()
    await asyncio.sleep(seconds)
    return 100 * (time.process_time() - used) / (time.perf_counter() - began)


async def costs(folder: Path, worker: int, seconds: float) -> list[bool]:
    paths = Paths(folder / "home").ensure()
    context = AppContext.create(paths, Settings.load(paths, environment={}))
    context.monitor = Monitor(lambda: Sampler(this_host(), context.detected()), lambda: [worker])
    await context.hardware()
    unwatched = await percent_of_a_core(seconds / 2)
    with context.monitor.watching():
        await asyncio.sleep(2)
        watched = await percent_of_a_core(seconds)
    app = create_api(context)
    place = f"http://127.0.0.1:7860/page/monitor/{context.page_key}"
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app)) as client:
        (await client.get(place)).raise_for_status()

        async def page() -> None:
            since = 1
            while True:
                told = (await client.get(place, params={"since": since})).json()
                since = told["first"] + len(told["rows"])
                await asyncio.sleep(1.0)

        asking = asyncio.create_task(page())
        await asyncio.sleep(2)
        with_page = await percent_of_a_core(seconds)
        asking.cancel()
    await context.close()
    print(f"unwatched {unwatched:.3f} %, watched {watched:.2f} %, watched by a page {with_page:.2f} % of a core")
    print("(the last with the asking client's own share, which in earnest is the browser's)")
    return [unwatched <= MOST_UNWATCHED, watched <= MOST_WATCHED]


async def growth(folder: Path, worker: int) -> list[bool]:
    """Two rings' worth of samples (ten minutes) after the ring is full, taken as fast as they come."""
    monitor = Monitor(lambda: Sampler(this_host(), detect(folder)), lambda: [worker], seconds=0.0)
    tracemalloc.start()
    with monitor.watching():
        sizes = []
        for wanted in (2 * KEPT, 4 * KEPT):
            while monitor.since(-1).first < wanted:
                await asyncio.sleep(0.05)
                window_of(monitor.since(-1))
            gc.collect()
            sizes.append(tracemalloc.get_traced_memory()[0])
    await monitor.close()
    tracemalloc.stop()
    print(f"{2 * KEPT} more samples in a full ring: {sizes[1] - sizes[0]:+,} bytes")
    return [sizes[1] - sizes[0] <= MOST_GROWTH]


def main() -> int:
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 30.0
    worker = subprocess.Popen([sys.executable, "-c", WORKER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert worker.stdout is not None and worker.stdout.readline() == "ready\n"
    try:
        with tempfile.TemporaryDirectory() as name:
            results = asyncio.run(costs(Path(name), worker.pid, seconds))
            results += asyncio.run(growth(Path(name), worker.pid))
    finally:
        worker.communicate()
    print("within all bounds" if all(results) else "A BOUND IS MISSED")
    return 0 if all(results) else 1


if __name__ == "__main__":
    sys.exit(main())
