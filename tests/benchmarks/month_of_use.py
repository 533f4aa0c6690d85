"""A month of made-up use, as the app would have recorded it: what the page makes of it, in figures and pictures.

    python -m tests.benchmarks.month_of_use                        what the record advises, on standard output
    python -m tests.benchmarks.month_of_use --pictures FOLDER      the Diagnostics tab in Chromium, light, dark, narrow

Two models and three backends. On day 12 the engine that is used most is updated and becomes slower; on day 20 the
driver is updated, which changes nothing; on day 24 somebody halves the threads. A context of 32,768 tokens mostly does
not load, one backend never does, and the worker of the last day holds a little more after every reply.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from webui.planning.record import Conditions, LoadRecord, ReplyRecord
from webui.planning.record_advice import advise
from webui.planning.record_rules import DAY_SECONDS, Here, Loaded
from webui.pool.metrics import Metrics
from webui.pool.recorder import fingerprint_of

DAYS = 30
MIB = 1 << 20
UPDATED, DRIVER, THREADS = 12, 20, 24
LARGE, SMALL = "Mistral-7B-Instruct.Q4_K_M", "SmolLM2-135M-Instruct.Q4_1"
SPEEDS = {"xllamacpp": 34.0, "llama-cpp-python": 27.0, "llamafile": 30.0}
BEFORE, AFTER = {"threads": 8, "batch_size": 512}, {"threads": 4, "batch_size": 512}


class Month:
    """Writes the month that ends at `now` into `metrics`."""

    def __init__(self, metrics: Metrics, now: float, seed: int = 7) -> None:
        self._metrics, self._now = metrics, now
        self._dice = random.Random(seed)

    def write(self) -> float:
        """Returns when the worker of the last day was started."""
        life = 0.0
        for day in range(DAYS):
            morning = self._now - (DAYS - day) * DAY_SECONDS + 14 * 3600
            weekend = day % 7 in (5, 6)
            life = self._day(day, morning, self._dice.randint(2, 6) if weekend else self._dice.randint(14, 30))
            if day in (3, 10, 17, 26):
                self._too_large(day, morning - 1800)
            if day in (2, 9, 16, 23):
                self._load(self._under(day, SMALL, "ctransformers", 4096), morning - 3600, "broken_package")
        return life

    def _day(self, day: int, morning: float, replies: int) -> float:
        """One day's work with the large model, and a little with the small one. On some days with another backend."""
        loader = "llama-cpp-python" if day < 5 else "llamafile" if day % 6 == 0 else "xllamacpp"
        under = self._under(day, LARGE, loader, 8192)
        self._load(under, morning)
        at = morning
        for place in range(replies):
            at += self._dice.expovariate(1 / 900)
            leak = 5 * MIB * place if day == DAYS - 1 else 0
            self._reply(under, min(at, self._now - replies + place), morning, day, leak)
        small = self._under(day, SMALL, "xllamacpp", 4096)
        for place in range(self._dice.randint(0, 4)):
            self._reply(small, morning - 7200 + 60 * place, morning - 7200, day, 0)
        return morning

    def _under(self, day: int, model: str, loader: str, context: int) -> Conditions:
        return Conditions(
            model,
            loader,
            "2026.11" if day >= UPDATED and loader == "xllamacpp" else "2026.10",
            "nvidia 560.35" if day >= DRIVER else "nvidia 550.54",
            fingerprint_of(AFTER if day >= THREADS else BEFORE),
            context,
            "cuda",
        )

    def _load(self, under: Conditions, at: float, code: str = "") -> None:
        seconds = max(0.5, self._dice.gauss(6.0, 0.8)) if under.model == LARGE else 0.6
        planned = (5200 if under.model == LARGE else 300) * MIB
        category = "installation" if code == "broken_package" else "hardware" if code else ""
        record = LoadRecord(
            at,
            under,
            "failed" if code else "worked",
            seconds,
            planned,
            None if code else int(planned * self._dice.gauss(1.03, 0.01)),
            code,
            category,
        )
        parameters = BEFORE if under.settings == fingerprint_of(BEFORE) else AFTER
        self._metrics.add_load(record, parameters)

    def _too_large(self, day: int, at: float) -> None:
        self._load(self._under(day, LARGE, "xllamacpp", 32768), at, "" if day == 17 else "device_out_of_memory")

    def _reply(self, under: Conditions, at: float, life: float, day: int, leak: int) -> None:
        dice = self._dice
        speed = SPEEDS[under.loader] * (6 if under.model == SMALL else 1)
        if under.loader == "xllamacpp":
            speed *= (0.74 if day >= UPDATED else 1.0) * (0.8 if day >= THREADS else 1.0)
        prompt, tokens = int(dice.lognormvariate(6.2, 0.8)), dice.randint(40, 500)
        speed *= max(0.3, dice.gauss(1, 0.05)) * (1 - min(prompt, 8000) / 40_000)
        read = prompt if dice.random() < 0.4 else min(prompt, dice.randint(20, 120))
        prompt_speed = speed * 22 * max(0.4, dice.gauss(1, 0.08))
        failed = dice.random() < 0.01
        self._metrics.add_reply(
            ReplyRecord(
                at,
                under,
                "failed" if failed else "done",
                life=life,
                first_token=read / prompt_speed + 0.1,
                prompt_tokens=prompt,
                read=read,
                tokens=tokens,
                prompt_speed=prompt_speed if read >= 16 else None,
                speed=speed,
                memory=int((5300 if under.model == LARGE else 310) * MIB + 30_000 * (prompt + tokens) + leak),
                gpu_use=min(99.0, max(50.0, dice.gauss(88, 6))),
                code="engine_crashed" if failed else "",
                category="hardware" if failed else "",
            )
        )


def simulate(path: Path | None, now: float) -> tuple[Metrics, Here]:
    """A store that holds the month, and what would hold at its end."""
    metrics = Metrics(path, clock=lambda: now)
    life = Month(metrics, now).write()
    ready = frozenset({"xllamacpp", "llama-cpp-python", "llamafile", "ctransformers"})
    loaded = Loaded(LARGE, "xllamacpp", life, 8192)
    return metrics, Here(
        now, ready, gpu=True, on_gpu=ready, with_slots=frozenset({"xllamacpp"}), loaded=loaded, free=9 << 30
    )


def pictures(folder: Path) -> None:
    """The Diagnostics tab with that month, as four pictures."""
    from playwright.sync_api import expect, sync_playwright

    from tests.app_process import running_app
    from tests.browser.conftest import open_tab
    from webui.setup.browser import find_chromium

    folder.mkdir(parents=True, exist_ok=True)
    expect.set_options(timeout=60_000)
    with tempfile.TemporaryDirectory() as home:
        metrics, _here = simulate(Path(home) / "metrics.sqlite3", time.time())
        metrics.close()
        with running_app(Path(home)) as app, sync_playwright() as driver:
            app.wait_for("empty")
            browser = driver.chromium.launch(executable_path=find_chromium(), args=["--no-sandbox"])
            for name, scheme, width in (
                ("light", "light", 1280),
                ("dark", "dark", 1280),
                ("narrow-light", "light", 360),
                ("narrow-dark", "dark", 360),
            ):
                options: Any = {"viewport": {"width": width, "height": 900}, "color_scheme": scheme}
                page = browser.new_page(**options)
                page.goto(app.url)
                open_tab(page, "Diagnostics")
                expect(page.locator("#diagnostics-trends figure").first).to_be_visible()
                expect(page.locator("#diagnostics-advice li").first).to_be_visible()
                page.locator("#diagnostics-trends").screenshot(path=folder / f"trends-{name}.png")
                page.locator("#diagnostics-advice").screenshot(path=folder / f"advice-{name}.png")
                wide = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
                print(f"{name}: {wide} px wider than the page")
            browser.close()


def main() -> int:
    reader = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    reader.add_argument("--pictures", type=Path, metavar="FOLDER")
    chosen = reader.parse_args()
    metrics, here = simulate(None, time.time())
    for one in advise(metrics.record(), here):
        print(one.sentence, *one.evidence, sep="\n    ")
    if chosen.pictures:
        pictures(chosen.pictures)
    return 0


if __name__ == "__main__":
    sys.exit(main())
