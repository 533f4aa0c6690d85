"""Finding the best settings on the Model tab: begun, watched from two pages, stopped, used, and taken back."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.app_process import AppProcess, running_app
from tests.browser.conftest import NewPage, open_tab
from tests.builders.gguf import tiny_llama_bpe

pytestmark = pytest.mark.browser

EXTENSION = """
from tests.fakes.tunable import SPEC
from webui.hooks import hook


@hook
def add_loaders():
    return [SPEC]
"""
HOLD = "hold"
"""While the app's home has this file, the first trial does not end."""
POLL = "#loader-tunable-poll input[type=number]"


@pytest.fixture(scope="module")
def own_app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AppProcess]:
    home = tmp_path_factory.mktemp("tuning-home")
    (home / "extensions" / "tunable").mkdir(parents=True)
    (home / "extensions" / "tunable" / "__init__.py").write_text(EXTENSION)
    engine = {"speed": "poll=0:80", "faults": "poll=100:refuse", "threads": 1, "hold": str(home / HOLD)}
    settings = {"backends": {"fallback_order": ["tunable"]}, "loaders": {"tunable": engine}}
    (home / "settings.yaml").write_text(json.dumps(settings))
    with running_app(home, [tiny_llama_bpe(tmp_path_factory.mktemp("model") / "tiny.gguf")]) as process:
        process.wait_for("ready")
        yield process


def opened(new_page: NewPage, app: AppProcess) -> Page:
    page = new_page(url=app.url)
    open_tab(page, "Model")
    expect(page.locator("#model-facts h3")).to_have_text("tiny")
    expect(page.locator("#model-status .loaded")).to_be_visible()
    return page


def begin(page: Page, app: AppProcess) -> None:
    """Begin a search whose first trial is held."""
    (app.home / HOLD).touch()
    page.locator("#model-tuning > button").click()
    expect(page.locator("#model-tuning-start")).to_be_enabled()
    page.locator("#model-tuning-start").click()
    expect(page.locator("#model-tuning-status [data-state=running]")).to_be_visible()


def kept(app: AppProcess) -> list[dict[str, int]]:
    file = Path(app.home / "tuned.json")
    entries = json.loads(file.read_text())["files"].values() if file.exists() else []
    return [note["known"]["parameters"] for notes in entries for note in notes]


def test_what_is_found_is_shown_used_and_taken_back(new_page: NewPage, own_app: AppProcess) -> None:
    page = opened(new_page, own_app)
    expect(page.locator(POLL)).to_have_value("50")
    begin(page, own_app)
    other = new_page(url=own_app.url)
    open_tab(other, "Model")
    expect(other.locator("#model-tuning-status [data-state=running]")).to_be_visible()
    expect(other.locator("#status-line")).to_contain_text("The best settings are being looked for")
    (own_app.home / HOLD).unlink()
    for shown in (page, other):
        ended = shown.locator("#model-tuning-status [data-state=done]")
        expect(ended).to_contain_text("1.50 × the default: replies 80.0 against 50.0 tokens/s")
        expect(ended).to_contain_text("poll 50 → 0")
        expect(ended.locator("svg[role=img]")).to_have_attribute("aria-label", re.compile("poll 0 with 1.50 times"))
        expect(ended.locator("svg path.chosen").first).to_be_attached()
        expect(ended.locator("svg path.failed")).to_have_count(1)
    assert kept(own_app) == [{"poll": 0}]
    page.locator("#model-tuning-use").click()
    expect(page.locator("#model-tuned")).to_contain_text("1.50 × the default")
    expect(page.locator(POLL)).to_have_value("0")
    expect(page.locator("#model-tuning-use")).to_have_count(0)
    expect(page.locator("#model-status .loaded")).to_be_visible()
    assert own_app.wait_for("ready")["model"] is not None
    page.locator("#model-tuning-forget").click()
    expect(page.locator("#model-tuned .tuned")).to_have_count(0)
    expect(page.locator(POLL)).to_have_value("50")
    assert kept(own_app) == []


def test_it_goes_on_without_its_page_and_is_stopped_from_another(new_page: NewPage, own_app: AppProcess) -> None:
    page = opened(new_page, own_app)
    begin(page, own_app)
    page.close()
    other = new_page(url=own_app.url)
    open_tab(other, "Model")
    expect(other.locator("#model-tuning-status .progress")).to_be_visible()
    other.locator("#model-tuning-stop").click()
    expect(other.locator("#model-tuning-status [data-state=stopped]")).to_contain_text("nothing is kept")
    expect(other.locator("#model-tuning-stop")).to_have_count(0)
    expect(other.locator("#model-status .loaded")).to_be_visible()
    assert own_app.wait_for("ready")["model"] is not None
    assert kept(own_app) == []
