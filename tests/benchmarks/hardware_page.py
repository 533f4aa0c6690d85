"""What the open Hardware tab adds to memory. Run with: python -m tests.benchmarks.hardware_page [MINUTES]

Opens the tab in a real Chromium, and after a minute compares once a minute: the page's heap after a collection, its
elements, its listeners, and the resident memory of the app. Exit status 1 if one of them grows beyond its bound
between the sixth minute (when the plots are full) or the middle, and the end.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

import psutil
from playwright.sync_api import CDPSession, sync_playwright

from tests.app_process import AppProcess, running_app
from tests.browser.conftest import open_tab, ready
from webui.setup.browser import find_chromium

MOST_HEAP = 1 << 20
MOST_RESIDENT = 2 << 20
MOST_NODES = 200
"""What comes and goes between two collections; a row of samples that stayed would be hundreds in a minute."""
Figures = tuple[int, int, int, int]


def figures(client: CDPSession, app: AppProcess) -> Figures:
    for _ in range(2):
        client.send("HeapProfiler.collectGarbage")
    heap = int(client.send("Runtime.getHeapUsage")["usedSize"])
    counted = client.send("Memory.getDOMCounters")
    resident = int(psutil.Process(app.process.pid).memory_info().rss)
    return heap, int(counted["nodes"]), int(counted["jsEventListeners"]), resident


def watch(app: AppProcess, minutes: int) -> list[Figures]:
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=find_chromium(), args=["--no-sandbox"])
        page = browser.new_page()
        page.goto(app.url)
        ready(page)
        open_tab(page, "Hardware")
        page.locator("#hardware-advice table.sizes").wait_for(timeout=180_000)
        client = page.context.new_cdp_session(page)
        client.send("HeapProfiler.enable")
        found = []
        for minute in range(1, minutes + 1):
            page.wait_for_timeout(60_000)
            found.append(figures(client, app))
            heap, nodes, listeners, resident = found[-1]
            rest = f"{nodes} nodes, {listeners} listeners, app {resident / 1e6:.1f} MB"
            print(f"minute {minute}: heap {heap / 1e6:.2f} MB, {rest}", flush=True)
        browser.close()
    return found


def main() -> int:
    minutes = int(sys.argv[1]) if len(sys.argv) > 1 else 10
    with tempfile.TemporaryDirectory() as name, running_app(Path(name), []) as app:
        app.wait_for("empty")
        began = time.monotonic()
        found = watch(app, minutes)
    full, last = found[min(5, minutes // 2)], found[-1]
    heap, nodes, listeners, resident = (after - before for before, after in zip(full, last, strict=True))
    took = (time.monotonic() - began) / 60
    print(f"{took:.0f} minutes: heap {heap:+,}, nodes {nodes:+}, listeners {listeners:+}, app {resident:+,}")
    good = heap <= MOST_HEAP and nodes <= MOST_NODES and listeners <= 0 and resident <= MOST_RESIDENT
    print("within all bounds" if good else "A BOUND IS MISSED")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
