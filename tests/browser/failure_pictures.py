"""Pictures of failures for docs/troubleshooting.md: `python -m tests.browser.failure_pictures [--only CODE …]`.

Each class of failure is provoked in the running app and photographed where the page shows it, by the code it has there:
by real engines with files and limits that make them fail, and by `tests.browser.failing_engine` where that needs a GPU,
a full disk or a hang. `python -m webui.reference` then puts each picture beside its remedy.
"""

from __future__ import annotations

import argparse
import io
import os
import re
import shutil
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
from PIL import Image
from playwright.sync_api import Browser, Page, expect, sync_playwright
from playwright.sync_api import Error as PlaywrightError

from tests.app_process import ROOT, AppProcess, running_app
from tests.browser.conftest import WAIT_MILLISECONDS, open_tab, ready
from tests.browser.failing_engine import ABSENT, FAULT_FILE, SPEC
from tests.browser.test_model import choose, choose_loader
from tests.builders.gguf import SPM_CHAT, architecture_file, tiny_llama_bpe, tiny_llama_spm
from tests.builders.llama import Shape
from webui.setup.browser import find_chromium

IMAGES = ROOT / "docs" / "images"
ONE_GPU = ROOT / "tests" / "fakes" / "graphics_card"
VIEWPORT = {"width": 1440, "height": 1500}
MARGIN = 4
TALLEST = 900
COLOURS = 128
LONGEST_LOAD_MILLISECONDS = 60_000

EXTENSION = """
from tests.browser.failing_engine import ABSENT, SPEC
from webui.hooks import hook


@hook
def add_loaders():
    return [SPEC, ABSENT]
"""
GOOD, CUT, WORDS, STRANGE, PACKED, TEMPLATE = (
    f"{name}.gguf" for name in ("Aster-1B", "Birch-1B", "Cedar-1B", "Dahlia-1B", "Elder-1B", "Fern-1B")
)
DEEP = Shape(blocks=28, width=128)
UNKNOWN_TYPE = 99
TITLES = {spec.name: spec.title for spec in (SPEC, ABSENT)}
QUESTION = "Tell me about the lighthouse."
LOAD_AREA = ("#model-loader", "#model-load", "#model-status")
REPLY_AREA = ("#chat-log", "#chat-actions")
REFUSAL_AREA = ("#chat-tab .failure", "#chat-tab .failure-actions")


@dataclass(frozen=True)
class Stage:
    """The app and a page of it."""

    app: AppProcess
    page: Page

    def fault(self, name: str) -> None:
        """What the failing engine does from now on."""
        (self.app.home / FAULT_FILE).write_text(name, encoding="utf-8")

    def load(self, model: str, loader: str = SPEC.name, *, fault: str = "", **values: int) -> None:
        """Press Load for `model` with `loader` and these values of its controls."""
        self.fault(fault)
        open_tab(self.page, "Model")
        choose(self.page, model)
        if loader:
            choose_loader(self.page, TITLES.get(loader, loader))
        for name, value in values.items():
            self.page.locator(f"#loader-{loader}-{name.replace('_', '-')} input").first.fill(str(value))
        self.page.locator("#model-load").click()

    def loaded(self) -> None:
        """Wait until a load has ended well."""
        expect(self.page.locator("#model-status .loaded")).to_be_visible(timeout=LONGEST_LOAD_MILLISECONDS)

    def ask(self, text: str = QUESTION) -> None:
        open_tab(self.page, "Chat")
        field = self.page.get_by_role("textbox", name="Message", exact=True)
        field.fill(text)
        field.press("Enter")


@dataclass(frozen=True)
class Scene:
    """How to make a failure. `area` is photographed; `shown` says where its code must stand in it."""

    provoke: Callable[[Stage], None]
    area: tuple[str, ...] = LOAD_AREA
    settings: str = ""
    shown: str = '#model-status .failure[data-code="{code}"]'
    opened: str = ""


def _load(model: str, loader: str = SPEC.name, **options: str | int) -> Callable[[Stage], None]:
    return lambda stage: stage.load(model, loader, **options)  # type: ignore[arg-type]


def _open_path(path: str) -> Callable[[Stage], None]:
    def provoke(stage: Stage) -> None:
        open_tab(stage.page, "Model")
        stage.page.locator("#model-path textarea, #model-path input").fill(path)
        stage.page.locator("#model-open").click()

    return provoke


def _choose(model: str) -> Callable[[Stage], None]:
    def provoke(stage: Stage) -> None:
        open_tab(stage.page, "Model")
        choose(stage.page, model)

    return provoke


def _reply(fault: str, model: str = GOOD, text: str = QUESTION, **values: int) -> Callable[[Stage], None]:
    """Load well, then ask while the engine is told to misbehave."""

    def provoke(stage: Stage) -> None:
        stage.load(model, **values)
        stage.loaded()
        stage.fault(fault)
        stage.ask(text)

    return provoke


def _stop_loading(stage: Stage) -> None:
    stage.load(GOOD, fault="hang")
    expect(stage.page.locator("#model-status .rung.running")).to_be_visible()
    stage.page.locator("#model-cancel").click()


def _ask_when_full(stage: Stage) -> None:
    stage.load(GOOD)
    stage.loaded()
    stage.fault("slow")
    body = {"messages": [{"role": "user", "content": "Count."}], "max_tokens": 60}
    for _client in range(2):
        request = {"url": f"{stage.app.url}/v1/chat/completions", "json": body, "timeout": 120}
        threading.Thread(target=httpx.post, kwargs=request, daemon=True).start()
    expect(stage.page.locator("[data-item='Replies being written']").first).to_contain_text("1 waiting")
    stage.ask()


IMPATIENT = "limits: {silence_timeout_seconds: 3, load_timeout_seconds: 4, queue_length: 1}"
SMALL = "limits: {worker_memory_mib: 96}"
IN_FACTS = '#model-facts .failure[data-code="{code}"]'
IN_CHAT = "#chat-tab .failure"
IN_BANNER = "#model-status .banner"

SCENES: Mapping[str, Scene] = {
    "missing_package": Scene(_load(GOOD, "absent-engine")),
    "broken_package": Scene(_load(GOOD, fault="broken_package")),
    "incompatible_driver": Scene(
        _load(GOOD, fault="incompatible_driver", gpu_layers=29),
        area=("#model-status",),
        shown=IN_BANNER,
        opened=".story",
    ),
    "device_out_of_memory": Scene(
        _load(GOOD, fault="device_out_of_memory", gpu_layers=29, context_size=32_768),
        area=("#model-status",),
        shown=IN_BANNER,
        opened=".story",
    ),
    "engine_crashed": Scene(_reply("crash"), area=REPLY_AREA, shown=IN_CHAT),
    "engine_garbled": Scene(_load(GOOD, fault="garble")),
    "port_taken": Scene(_load(GOOD, fault="port_taken")),
    "storage_failed": Scene(_load(GOOD, fault="storage_failed")),
    "engine_refused": Scene(_load(GOOD, fault="engine_refused"), opened=".failure .evidence"),
    "model_not_found": Scene(_open_path("/models/Ginkgo-7B.gguf"), area=("#model-facts",), shown=IN_FACTS),
    "corrupt_file": Scene(_choose(CUT), area=("#model-facts", "#model-loader", "#model-load"), shown=IN_FACTS),
    "unsupported_format": Scene(_load(GOOD, "ctransformers")),
    "unsupported_architecture": Scene(_load(STRANGE, "xllamacpp")),
    "unsupported_tokenizer": Scene(_load(WORDS, "xllamacpp")),
    "unsupported_quantization": Scene(_load(PACKED, "xllamacpp")),
    "invalid_setting": Scene(
        _load(GOOD, context_size=-5),
        area=("#model-loader", "#model-load", "#model-message"),
        shown='#model-message .failure[data-code="{code}"]',
    ),
    "context_too_long": Scene(
        _reply("", text="Summarise this diary: " + "the wind came from the west. " * 40, context_size=64),
        area=REFUSAL_AREA,
        shown=IN_CHAT,
    ),
    "template_failed": Scene(_reply("", TEMPLATE), area=REFUSAL_AREA, shown=IN_CHAT),
    "cancelled": Scene(_stop_loading, shown="#model-status .story", opened=".story"),
    "engine_hung": Scene(_reply("hang later"), area=REPLY_AREA, shown=IN_CHAT, settings=IMPATIENT),
    "timed_out": Scene(_load(GOOD, fault="hang"), settings=IMPATIENT),
    "busy": Scene(_ask_when_full, area=REFUSAL_AREA, shown=IN_CHAT, settings=IMPATIENT),
    "host_out_of_memory": Scene(_load(GOOD, "xllamacpp", context_size=32_768), settings=SMALL),
    "not_loaded": Scene(
        lambda stage: stage.ask(),
        area=REFUSAL_AREA,
        shown=IN_CHAT,
    ),
}


def library(folder: Path) -> list[Path]:
    """A model that runs, and one for each way in which a file does not."""
    good = tiny_llama_bpe(folder / GOOD, name="Aster 1B", shape=DEEP)
    (folder / CUT).write_bytes(good.read_bytes()[:-2000])
    name, kind = b"tokenizer.ggml.pre", b"gpt-2"
    before, found, after = good.read_bytes().partition(name)
    (folder / WORDS).write_bytes(before + found + after.replace(kind, b"elf-7", 1))
    architecture_file(folder / STRANGE, "nova")
    before, found, after = good.read_bytes().partition(b"blk.1.ffn_up.weight")
    dimensions = 4 + 2 * 8  # their number, and each of them; the type follows
    packed = after[:dimensions] + UNKNOWN_TYPE.to_bytes(4, "little") + after[dimensions + 4 :]
    (folder / PACKED).write_bytes(before + found + packed)
    failing = "{{ raise_exception('Only user and assistant take turns in this template.') }}"
    chat = tiny_llama_spm(folder / TEMPLATE, name="Fern 1B")
    chat.write_bytes(chat.read_bytes().replace(SPM_CHAT.encode(), failing.ljust(len(SPM_CHAT)).encode()))
    return [folder / name for name in (GOOD, CUT, WORDS, STRANGE, PACKED, TEMPLATE)]


@contextmanager
def app_with(settings: str, models: list[Path]) -> Iterator[AppProcess]:
    """The app with these settings and the failing engine, `models` in its list and none of them loaded."""
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder, ".gguf-loader")
        (home / "extensions" / "failing").mkdir(parents=True)
        (home / "extensions" / "failing" / "__init__.py").write_text(EXTENSION, encoding="utf-8")
        (home / "settings.yaml").write_text(settings, encoding="utf-8")
        with running_app(
            home, environment={"PYTHONPATH": os.pathsep.join(map(str, (ONE_GPU, ROOT))), "HOME": folder}
        ) as app:
            app.wait_for("empty")  # it loads what it finds at its start
            for model in models:
                shutil.copy(model, home / "models")
            yield app


def look_again(page: Page) -> None:
    """Begin with the whole library listed and nothing loaded."""
    open_tab(page, "Model")
    page.locator("#model-refresh").click()
    expect(page.locator(f'.catalogue-row[data-path$="{GOOD}"]')).to_be_visible()
    if page.locator("#model-unload").is_visible():
        page.locator("#model-unload").click()
    expect(page.locator("#status-line .status")).to_have_attribute("data-light", re.compile("none|failed"))


def photograph(stage: Stage, code: str, scene: Scene) -> bytes:
    """Provoke it, wait until the page shows it, and take the scene's area as a PNG of few colours."""
    page = stage.page
    scene.provoke(stage)
    expect(page.locator(scene.shown.format(code=code)).first).to_be_visible(timeout=LONGEST_LOAD_MILLISECONDS)
    expect(page.locator("#model-status .rung.running")).to_have_count(0, timeout=LONGEST_LOAD_MILLISECONDS)
    if scene.opened:
        page.locator(f"#model-status {scene.opened} > summary").first.click()
    page.mouse.move(0, 0)
    page.wait_for_timeout(500)  # for what fades in
    boxes = [box for name in scene.area for one in page.locator(name).all() if (box := _box(one.bounding_box()))]
    left, top = min(box[0] for box in boxes) - MARGIN, min(box[1] for box in boxes) - MARGIN
    right, bottom = max(box[2] for box in boxes) + MARGIN, max(box[3] for box in boxes) + MARGIN
    clip = {"x": left, "y": top, "width": right - left, "height": min(bottom - top, TALLEST)}
    return _small(page.screenshot(clip=clip, animations="disabled"))  # type: ignore[arg-type]


def _box(found: Mapping[str, float] | None) -> tuple[float, float, float, float] | None:
    """Left, top, right and bottom of an element that has a size."""
    if not found or not found["width"] or not found["height"]:
        return None
    return found["x"], found["y"], found["x"] + found["width"], found["y"] + found["height"]


def _small(png: bytes) -> bytes:
    reduced = Image.open(io.BytesIO(png)).convert("RGB").quantize(COLOURS, dither=Image.Dither.NONE)
    reduced.save(written := io.BytesIO(), "PNG", optimize=True)
    return written.getvalue()


def take(browser: Browser, codes: list[str], images: Path) -> dict[str, str]:
    """Photograph each of `codes`, one app for each set of settings; what could not be made, with the reason."""
    problems: dict[str, str] = {}
    with tempfile.TemporaryDirectory() as folder:
        models = library(Path(folder))
        for settings in dict.fromkeys(SCENES[code].settings for code in codes):
            with app_with(settings, models) as app:
                for code in [code for code in codes if SCENES[code].settings == settings]:
                    page = browser.new_page(viewport=VIEWPORT, color_scheme="light")  # type: ignore[arg-type]
                    page.goto(app.url)
                    try:
                        ready(page)
                        look_again(page)
                        picture = photograph(Stage(app, page), code, SCENES[code])
                    except (AssertionError, PlaywrightError) as error:
                        page.screenshot(path=Path(tempfile.gettempdir()) / f"failed-{code}.png")
                        problems[code] = str(error).strip().splitlines()[0]
                    else:
                        (images / f"failure-{code}.png").write_bytes(picture)
                        print(f"{code}: {len(picture):,} bytes", flush=True)
                    page.close()
    return problems


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=SCENES, metavar="CODE", default=list(SCENES))
    codes: list[str] = parser.parse_args().only
    IMAGES.mkdir(exist_ok=True)
    with sync_playwright() as driver:
        expect.set_options(timeout=WAIT_MILLISECONDS)
        browser = driver.chromium.launch(executable_path=find_chromium(), args=["--no-sandbox"])
        problems = take(browser, codes, IMAGES)
        browser.close()
    for code, problem in problems.items():
        print(f"{code}: no picture: {problem}")
    return 1 if problems else 0


if __name__ == "__main__":
    raise SystemExit(main())
