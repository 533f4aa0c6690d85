"""How long the page takes, measured in a real Chromium against the app as a process: `python -m tests.benchmarks.page`.

    start     first HTTP 200 of the page, against `python -c "import gradio"`, in turn
    weight    bytes transferred by the first visit
    controls  choosing another loader until its controls show
    plan      an edit of the context until the bar of the memory plan has moved
    first     Enter until the first token is on the page, less the engine's own time to it (starter model)
    long      a reply of 600 tokens under 100 messages, from Enter to its end, against the engine's time

Medians of `--runs`. Nothing else may run meanwhile; the starter model is taken from the models folder or fetched.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import httpx
from playwright.sync_api import Page, sync_playwright

from tests.app_process import ROOT, AppProcess, running_app
from webui.chat.conversations import ConversationStore
from webui.loaders import LOADERS
from webui.paths import Paths
from webui.setup.browser import find_chromium
from webui.setup.starter import ensure_starter

HISTORY = 100
REPLY_TOKENS = 600
WATCH = """
() => {
  const live = document.querySelector('#chat-live');
  window.seen = {};
  document.addEventListener('keydown', (event) => {
    if (event.key === 'Enter') window.seen = {enter: performance.now()};
  }, true);
  const look = () => {
    const text = live.querySelector('.prose')?.textContent.trim();
    const drawn = document.querySelector('#chat-first') || (text && !live.querySelector('.waiting'));
    if (window.seen.enter && !window.seen.first && drawn)
      window.seen.first = performance.now();
    const visible = (id) => document.querySelector(id)?.offsetParent != null;
    if (window.seen.first && text && visible('#chat-stop')) window.seen.writing = true;
    if (window.seen.writing && !window.seen.end && visible('#chat-send') && !text) window.seen.end = performance.now();
  };
  new MutationObserver(look).observe(document.body, {subtree: true, childList: true, characterData: true,
    attributes: true, attributeFilter: ['class', 'style', 'hidden']});
}
"""

CLOCK = """
(name) => {
  delete window.shown;
  document.addEventListener('mousedown', (event) => {
    if (!event.target.closest('[role=option]')) return;
    window.pressed = performance.now();
    const look = () => {
      const control = document.querySelector(`#model-controls-${name}`)?.querySelector('input, textarea');
      if (control && control.offsetParent !== null) window.shown = performance.now();
      else requestAnimationFrame(look);
    };
    look();
  }, {capture: true});
}
"""


MOVED = """
(field) => new Promise((done, fail) => {
  const input = document.querySelector(field);
  const parts = () => [...document.querySelectorAll('#model-plan .plan-bar span')];
  const widths = () => parts().map((part) => part.style.width).join();
  const before = widths();
  const began = performance.now();
  input.value = String(Number(input.value) + 1024);
  input.dispatchEvent(new Event('input', {bubbles: true}));
  const look = () => widths() === before ? requestAnimationFrame(look) : done(performance.now() - began);
  look();
  setTimeout(() => fail(new Error('the bar did not move')), 10000);
})
"""


def measure_start(models: Path, runs: int) -> dict[str, Any]:
    """Seconds from the start of the process to the page's first 200, and the ratio to importing gradio."""
    starts, imports = [], []
    for _run in range(runs):
        began = time.perf_counter()
        subprocess.run([sys.executable, "-c", "import gradio"], check=True)
        imports.append(time.perf_counter() - began)
        with tempfile.TemporaryDirectory() as home:
            began = time.perf_counter()
            with running_app(Path(home), [models]) as app:
                while True:
                    try:
                        if httpx.get(app.url, timeout=5).status_code == 200:
                            break
                    except httpx.TransportError:
                        time.sleep(0.005)
                starts.append(time.perf_counter() - began)
    pairs = [start / imported for start, imported in zip(starts, imports, strict=True)]
    return {
        "start_seconds": statistics.median(starts),
        "import_gradio_seconds": statistics.median(imports),
        "start_ratio": statistics.median(pairs),
    }


def measure_weight(page: Page, url: str) -> dict[str, Any]:
    """Bytes on the wire for a first visit, headers and bodies, until the network is quiet."""
    session = page.context.new_cdp_session(page)
    session.send("Network.enable")
    session.send("Network.setCacheDisabled", {"cacheDisabled": True})
    total = {"bytes": 0, "requests": 0}

    def add(event: dict[str, Any]) -> None:
        total["bytes"] += int(event["encodedDataLength"])
        total["requests"] += 1

    session.on("Network.loadingFinished", add)
    page.goto(url)
    page.wait_for_selector("#chat-message textarea")
    page.wait_for_timeout(3000)
    return {"page_bytes": total["bytes"], "page_requests": total["requests"]}


def measure_controls(page: Page, runs: int) -> dict[str, Any]:
    """Milliseconds from pressing the mouse on a loader's name until its controls show."""
    page.locator("#tab-model-button").click()
    specs = list(LOADERS.values())
    field = page.locator("#model-loader input")
    field.wait_for()
    taken = []
    for run in range(runs):
        spec = specs[run % len(specs)]
        page.evaluate(CLOCK, spec.name)
        field.click()
        page.get_by_role("option", name=spec.title, exact=True).click()
        page.wait_for_function("window.shown !== undefined", timeout=20_000)
        taken.append(page.evaluate("window.shown - window.pressed"))
    return {"controls_milliseconds": statistics.median(taken), "controls_slowest_milliseconds": max(taken)}


def measure_plan(page: Page, runs: int) -> dict[str, Any]:
    """Milliseconds from an edit of a number until the memory bar has moved."""
    page.locator("#tab-model-button").click()
    page.locator("#model-plan .plan-bar").first.wait_for()
    page.wait_for_timeout(3000)
    taken = [float(page.evaluate(MOVED, "#model-controls [id$=-context-size] input")) for _run in range(runs)]
    return {"plan_milliseconds": statistics.median(taken), "plan_slowest_milliseconds": max(taken)}


def ask(page: Page, text: str, timeout_seconds: float = 120) -> dict[str, float]:
    """Type `text`, press Enter; returns the page's own times in milliseconds: enter, first, end."""
    field = page.locator("#chat-message textarea")
    field.fill(text)
    field.press("Enter")
    page.wait_for_function("window.seen.end !== undefined", timeout=timeout_seconds * 1000)
    seen: dict[str, float] = page.evaluate("window.seen")
    return seen


def engine_times(home: Path) -> dict[str, float]:
    """The engine's own times of the last reply, seconds, once it is written. Reads beside the running app."""
    database = Paths(home).chats / "chats.sqlite3"
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection:
        while True:
            (timings,) = connection.execute("SELECT timings FROM messages ORDER BY number DESC LIMIT 1").fetchone()
            if timings is not None:
                return dict(json.loads(timings))
            time.sleep(0.05)


def measure_first_token(page: Page, app: AppProcess, runs: int) -> dict[str, Any]:
    """What the app adds to the engine's time to the first token, milliseconds."""
    added, engine = [], []
    page.goto(app.url)
    page.locator("#chat-message textarea").wait_for()
    page.evaluate(WATCH)
    for run in range(runs + 1):
        seen = ask(page, f"Say one short sentence about the number {run}.")
        own = engine_times(app.home)["prompt_seconds"] * 1000
        if run:  # the first one warms everything up
            engine.append(own)
            added.append(seen["first"] - seen["enter"] - own)
    return {
        "first_token_added_milliseconds": statistics.median(added),
        "first_token_engine_milliseconds": statistics.median(engine),
        "first_token_added_all": [round(value, 1) for value in added],
    }


def measure_long_reply(page: Page, app: AppProcess, runs: int) -> dict[str, Any]:
    """Enter to end of a long reply, as a ratio to the engine's own time."""
    ratios = []
    page.goto(app.url)
    page.locator("#chat-list [data-do=open]").first.click()
    page.wait_for_selector("#chat-log [data-testid=bot]")
    page.evaluate(WATCH)
    for _run in range(runs):
        seen = ask(page, "Go on.")
        timings = engine_times(app.home)
        engine = timings["prompt_seconds"] + timings["generation_seconds"]
        ratios.append((seen["end"] - seen["enter"]) / 1000 / engine)
    return {"long_reply_ratio": statistics.median(ratios), "long_reply_all": [round(ratio, 3) for ratio in ratios]}


def fill_history(home: Path) -> None:
    """One conversation of 100 messages, as an earlier day left it."""
    store = ConversationStore(Paths(home).chats / "chats.sqlite3")
    chat = store.create()
    for number in range(HISTORY):
        role = "assistant" if number % 2 else "user"
        store.append(chat.id, role, f"Message {number} with a **few** words and `code`.\n\n- one\n- two\n")
    store.configure(chat.id, sampling={"max_tokens": REPLY_TOKENS})
    store.close()


@contextmanager
def chromium() -> Iterator[Callable[[], Page]]:
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=find_chromium(), args=["--no-sandbox"])
        yield lambda: browser.new_context(viewport={"width": 1280, "height": 800}).new_page()
        browser.close()


def measure(runs: int, wanted: set[str]) -> dict[str, Any]:
    model = ensure_starter(Paths.from_environment().models, lambda step, share: None)
    found: dict[str, Any] = {}
    if "start" in wanted:
        found |= measure_start(model, runs)
    with tempfile.TemporaryDirectory() as folder, chromium() as new_page:
        if wanted & {"weight", "controls", "plan", "first"}:
            home = Path(folder) / "real"
            home.mkdir()
            with running_app(home, [model]) as app:
                app.wait_for("ready")
                if "weight" in wanted:
                    found |= measure_weight(new_page(), app.url)
                if "first" in wanted:
                    found |= measure_first_token(new_page(), app, runs)
                if "controls" in wanted:
                    page = new_page()
                    page.goto(app.url)
                    found |= measure_controls(page, runs)
                if "plan" in wanted:
                    page = new_page()
                    page.goto(app.url)
                    found |= measure_plan(page, runs)
        if "long" in wanted:
            home = Path(folder) / "metronome"
            shutil.copytree(ROOT / "tests" / "benchmarks" / "metronome", home / "extensions" / "metronome")
            fill_history(home)
            with running_app(home, [model], arguments=["--loader", "metronome"]) as app:
                app.wait_for("ready")
                found |= measure_long_reply(new_page(), app, runs)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=10)
    parser.add_argument("--only", nargs="*", default=["start", "weight", "controls", "plan", "first", "long"])
    arguments = parser.parse_args()
    print(json.dumps(measure(arguments.runs, set(arguments.only)), indent=2))


if __name__ == "__main__":
    main()
