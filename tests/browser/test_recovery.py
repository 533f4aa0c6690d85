"""What the page tells of loads that go wrong: the ladder, the banner, the history, swaps, and an app that is gone."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from tests.app_process import ROOT, AppProcess, running_app
from tests.browser.conftest import WAIT_MILLISECONDS, open_tab, page_of, ready, watch
from tests.browser.test_model import choose_loader
from tests.builders.gguf import tiny_llama_bpe
from tests.builders.llama import Shape
from tests.fakes import recovery_stage
from webui.loaders import LOADERS

pytestmark = [pytest.mark.browser, pytest.mark.engine]

REAL = "llama-cpp-python"
ORDER = ("absent", "first", "second", REAL)
ONE_GPU = ROOT / "tests" / "fakes" / "graphics_card"
WIDE_HEADS = Shape(width=128)
"""Wide enough for an 8-bit cache."""


@dataclass
class Stage:
    """A page of an app whose backends do what they are cued to, from `give("first", "crash")` to `take` or `clear`."""

    app: AppProcess
    page: Page
    problems: list[str]

    @property
    def status(self) -> Locator:
        return self.page.locator("#model-status")

    @property
    def cues(self) -> Path:
        return self.app.home / "extensions" / "stage"

    def give(self, loader: str, what: str) -> None:
        (self.cues / f"{loader}.{what}").touch()

    def take(self, loader: str, what: str) -> None:
        (self.cues / f"{loader}.{what}").unlink()

    def clear(self) -> None:
        for cue in self.cues.glob("*.*"):
            if cue.suffix != ".py":
                cue.unlink()

    def choose(self, file: Path) -> None:
        """Open the Model tab with `file` chosen."""
        open_tab(self.page, "Model")
        self.page.locator("#model-path textarea, #model-path input").fill(str(file))
        self.page.locator("#model-open").click()
        expect(self.page.locator("#model-facts .chosen-path")).to_contain_text(f"{file.parent.name}/{file.name}")
        expect(self.page.locator("#model-load")).to_be_enabled()

    def load(self, loader: str = "") -> None:
        if loader:
            choose_loader(self.page, loader)
        self.page.locator("#model-load").click()

    def has_light(self, which: str) -> None:
        expect(self.page.locator("#status-line .status")).to_have_attribute("data-light", which)

    def write(self) -> Locator:
        """Have the model that is loaded begin a reply that goes on until its cue is taken away."""
        open_tab(self.page, "Chat")
        self.page.locator("#chat-new").click()
        expect(self.page.locator("#chat-log [data-testid=bot]")).to_have_count(0)
        self.page.locator("#chat-message textarea").fill("Write something.")
        self.page.locator("#chat-send").click()
        live = self.page.locator("#chat-live")
        expect(live).to_contain_text("first and writes")
        open_tab(self.page, "Model")
        return live


@pytest.fixture(scope="module")
def staged_app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AppProcess]:
    """An app with a graphics card, the staged backends before the one real one, and nothing loaded."""
    home = tmp_path_factory.mktemp("stage-home")
    extension = home / "extensions" / "stage"
    extension.mkdir(parents=True)
    shutil.copy(recovery_stage.__file__, extension / "__init__.py")
    off = {name: {"enabled": False} for name in LOADERS if name != REAL}
    (home / "backend_config.json").write_text(json.dumps({"fallback_order": ORDER, "backends": off}))
    with running_app(home, environment={"PYTHONPATH": str(ONE_GPU)}) as process:
        process.wait_for("empty")
        yield process


@pytest.fixture(scope="module")
def open_stage(staged_app: AppProcess, browser: Browser) -> Iterator[Stage]:
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    context.set_default_timeout(WAIT_MILLISECONDS)
    page = page_of(context)
    problems: list[str] = []
    watch(page, staged_app.url, problems)
    page.goto(staged_app.url)
    ready(page)
    yield Stage(staged_app, page, problems)
    context.close()


@pytest.fixture
def stage(open_stage: Stage, tmp_path: Path) -> Iterator[Stage]:
    """Nothing is loaded, and a file is chosen of which nothing has been learnt yet."""
    page = open_stage.page
    open_tab(page, "Model")
    if page.locator("#model-unload").is_visible():
        page.locator("#model-unload").click()
    open_stage.has_light("none")
    open_stage.choose(tiny_llama_bpe(tmp_path / "fresh.gguf", shape=WIDE_HEADS))
    yield open_stage
    open_stage.clear()
    assert not open_stage.problems, "the page had problems:\n" + "\n".join(open_stage.problems)


def test_three_loaders_fail_each_in_its_way_before_one_opens_it_and_the_screen_tells_so_in_order(
    stage: Stage, starter_model: Path
) -> None:
    stage.choose(starter_model)
    stage.give("first", "crash")
    stage.give("second", "refuse")
    stage.give("second", "wait")
    stage.load()
    running = stage.status.locator(".rung.running")
    expect(running).to_contain_text("Second engine")
    expect(running).to_contain_text("First engine crashed (SIGSEGV); Second engine is next.")
    expect(running).to_contain_text("waiting for its cue")
    crashed = stage.status.locator(".rung.failed").first
    crashed.locator("summary").click()
    expect(crashed.locator("pre")).to_contain_text("first: last words")
    clock = running.locator("[data-running]")
    expect(clock).to_have_text(re.compile(r"\d s$"))
    expect(clock).not_to_have_text(clock.inner_text())
    expect(crashed.locator("pre")).to_be_visible()
    stage.has_light("loading")
    stage.take("second", "wait")
    expect(stage.status.locator(".loaded")).to_contain_text(REAL)
    expect(stage.status.locator(".banner")).to_contain_text(
        f"Runs with {REAL} instead of First engine: First engine crashed (SIGSEGV)."
    )
    story = stage.status.locator("details.story")
    expect(story.locator("summary").first).to_contain_text(f"loaded with {REAL} after")
    expect(story.locator(".ladder")).to_be_hidden()
    story.locator("summary").first.click()
    expect(story.locator(".ladder")).to_be_visible()
    rungs = story.locator(".rung").all()
    assert list(dict.fromkeys(rung.get_attribute("data-loader") for rung in rungs)) == list(ORDER)
    ends = [(rung.get_attribute("class") or "").removeprefix("rung ") for rung in rungs]
    assert (ends[0], set(ends[1:-1]), ends[-1]) == ("skipped", {"failed"}, "worked")
    told = ("not installed", "crashed (SIGSEGV)", "refuses this file: it was told to", "Second engine refused the file")
    expect(story.locator(".ladder")).to_have_text(re.compile(".*".join(map(re.escape, told)), re.DOTALL))
    question = {"messages": [{"role": "user", "content": "hello"}], "max_tokens": 2}
    assert httpx.post(f"{stage.app.url}/v1/chat/completions", json=question, timeout=60).status_code == 200


def test_a_load_is_cancelled_at_any_step(stage: Stage) -> None:
    stage.give("first", "refuse")
    stage.give("second", "wait")
    stage.load()
    expect(stage.status.locator(".rung.running")).to_contain_text("Second engine")
    stage.page.locator("#model-cancel").click()
    stage.has_light("none")
    expect(stage.status.locator("details.story summary").first).to_contain_text("cancelled")
    assert stage.app.health()["state"] == "empty"


def ask_for_context(stage: Stage, tokens: int) -> None:
    stage.page.locator("#loader-first-context-size input[type=number]").first.fill(str(tokens))


def has_context(stage: Stage, tokens: str) -> None:
    expect(stage.page.locator("#status-line [data-item='Context used']")).to_contain_text(f"{tokens} tokens")


def test_less_than_asked_is_said_on_every_tab_and_a_button_does_better(stage: Stage) -> None:
    stage.give("first", "full")
    ask_for_context(stage, 32_768)
    stage.load()
    full = "Runs with 2 of 3 layers on the GPU: the GPU ran out of memory at 3 layers."
    expect(stage.status.locator(".banner")).to_contain_text(full)
    stage.has_light("degraded")
    open_tab(stage.page, "Chat")
    banner = stage.page.locator("#chat-degraded .banner")
    expect(banner).to_contain_text(full)
    expect(stage.page.locator("#chat-message textarea")).to_be_in_viewport()
    stage.page.locator("#status-line summary").click()
    expect(stage.page.locator("#status-again")).to_be_visible()
    stage.page.locator("#status-line summary").click()
    banner.get_by_role("button", name="Load with 3 layers and an 8-bit cache").click()
    stage.has_light("ready")
    expect(banner).to_have_count(0)
    has_context(stage, "32,768")


def test_try_again_as_asked_begins_with_what_was_asked_and_not_with_what_worked(stage: Stage) -> None:
    stage.give("first", "crash")
    ask_for_context(stage, 1024)
    stage.load()
    expect(stage.status.locator(".banner")).to_contain_text("Runs with Second engine instead of First engine")
    stage.clear()
    stage.status.locator(".banner").get_by_role("button", name="Try again as asked").click()
    stage.has_light("ready")
    assert stage.app.health()["loader"] == "first"
    has_context(stage, "1,024")


def test_a_failed_load_says_in_place_what_can_be_done_and_stays_in_the_history(stage: Stage) -> None:
    stage.give("first", "refuse")
    stage.load("First engine")
    failure = stage.status.locator(".failure")
    expect(failure).to_contain_text("Loading fresh failed")
    expect(failure).to_contain_text("Why: it was told to")
    expect(failure).to_contain_text("What to do:")
    stage.has_light("failed")
    failure.get_by_role("button", name="Choose another loader").click()
    expect(stage.page.locator("#model-loader input")).to_be_focused()
    stage.page.keyboard.press("Escape")
    failure.get_by_role("button", name="See earlier loads").click()
    stories = stage.page.locator("#diagnostics-loads .story")
    expect(stories.first).to_be_in_viewport()
    expect(stories.first).to_contain_text("failed after 1 step")
    stories.first.locator("summary").first.click()
    expect(stories.first.locator(".rung").first).to_contain_text("First engine")
    expect(stage.page.locator("#diagnostics-failures .failure").first).to_contain_text("First engine · fresh")
    expect(stage.page.locator('#diagnostics-rates tr[data-loader="first"]')).to_be_visible()
    open_tab(stage.page, "Model")
    stage.clear()
    failure.get_by_role("button", name="Try again", exact=True).click()
    expect(stage.status.locator(".loaded")).to_contain_text("first")
    expect(failure).to_have_count(0)
    open_tab(stage.page, "Diagnostics")  # what was unfolded is the second story now
    expect(stories.first).to_contain_text("at the first try")
    expect(stories.first).not_to_have_attribute("open", "")
    expect(stories.nth(1)).to_have_attribute("open", "")


def test_a_swap_lets_the_reply_that_is_written_finish_where_that_was_chosen(stage: Stage) -> None:
    stage.load()
    expect(stage.status.locator(".loaded")).to_be_visible()
    choice = stage.page.locator("#model-running")
    expect(choice).to_have_count(0)
    stage.give("first", "write")
    stage.write()
    expect(choice.get_by_label("finish first")).to_be_checked()
    stage.give("second", "wait")
    stage.load("Second engine")
    expect(stage.status).to_contain_text("fresh is finishing 1 reply.")
    stage.take("second", "wait")
    expect(stage.status.locator(".loaded")).to_contain_text("second")
    expect(stage.status).to_contain_text("1 reply of the model before it still being written.")
    stage.take("first", "write")
    open_tab(stage.page, "Chat")
    expect(stage.page.locator("#chat-log [data-testid=bot]").last).to_contain_text(
        re.compile(r"^first (and writes )+has written\.")
    )
    open_tab(stage.page, "Model")
    expect(stage.status).not_to_contain_text("still being written")


def test_a_swap_hands_the_reply_that_is_written_over_where_that_was_chosen(stage: Stage) -> None:
    stage.load()
    expect(stage.status.locator(".loaded")).to_be_visible()
    stage.give("first", "write")
    stage.write()
    stage.page.locator("#model-running").get_by_label("hand over to the new model").check()
    stage.load("Second engine")
    expect(stage.status.locator(".loaded")).to_contain_text("second")
    open_tab(stage.page, "Chat")
    expect(stage.page.locator("#chat-log [data-testid=bot]").last).to_contain_text(
        re.compile(r"^first (and writes )+second has written\.")
    )


def test_a_swap_to_a_broken_file_leaves_the_reply_and_the_old_model_alone_and_says_why(
    stage: Stage, tmp_path: Path
) -> None:
    stage.load()
    expect(stage.status.locator(".loaded")).to_be_visible()
    stage.give("first", "write")
    stage.write()
    sound = (tmp_path / "fresh.gguf").read_bytes()
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(sound.replace(b"blk.1.ffn_up.weight", b"blk.1.ffn_uq.weight"))
    stage.choose(broken)
    stage.load(REAL)
    failure = stage.status.locator(".failure")
    expect(failure).to_contain_text("Loading broken failed; fresh stays loaded")
    expect(failure).to_contain_text("blk.1.ffn_up.weight")
    stage.take("first", "write")
    open_tab(stage.page, "Chat")
    reply = stage.page.locator("#chat-log [data-testid=bot]")
    expect(reply).to_contain_text(re.compile(r"^first (and writes )+has written\."))
    stage.page.locator("#chat-message textarea").fill("Are you still there?")
    stage.page.locator("#chat-send").click()
    expect(reply).to_have_count(2)
    expect(reply.last).to_contain_text("first has written.")


def test_a_page_without_its_app_says_so_and_goes_on_when_the_app_is_back(open_stage: Stage) -> None:
    app, page = open_stage.app, open_stage.page
    words = page.locator("#status-line .lost")
    expect(words).to_be_hidden()
    app.process.kill()
    app.process.wait()
    expect(words).to_be_visible()
    expect(page.locator("#status-line .status")).to_contain_text("Not connected; last known: ")
    with running_app(app.home, port=int(app.url.rsplit(":", 1)[1])) as again:
        again.wait_for("empty")
        expect(words).to_be_hidden()
        open_stage.has_light("none")
        open_tab(page, "Model")
        expect(open_stage.status.locator(".loaded")).to_have_count(0)
