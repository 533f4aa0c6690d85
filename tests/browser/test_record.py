"""Advice and trends on the Diagnostics tab in a real browser, over a record that was written before the app started."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator

import pytest
from playwright.sync_api import Page, expect

from tests.app_process import AppProcess, running_app
from tests.benchmarks.month_of_use import LARGE, simulate
from tests.browser.conftest import NewPage, open_tab
from tests.builders.gguf import tiny_llama_spm
from webui.planning.record import Conditions, ReplyRecord
from webui.pool.metrics import Metrics

pytestmark = pytest.mark.browser

MODEL = "tiny"
FASTER = f"xllamacpp is 1.5 × as fast as llama-cpp-python for {MODEL} here."


def compared(metrics: Metrics) -> None:
    """Replies of one model with two backends, of which the faster one is not the one in use."""
    now = time.time()
    for loader, speed, days in (("xllamacpp", 30.0, (14, 8)), ("llama-cpp-python", 20.0, (7, 1))):
        for place in range(12):
            at = now - (days[0] - (days[0] - days[1]) * place / 11) * 86400
            under = Conditions(MODEL, loader, "1", "", "s", 2048, "cpu")
            metrics.add_reply(ReplyRecord(at, under, "done", life=at, tokens=100, speed=speed + place % 3 / 10))


@pytest.fixture(scope="module")
def used(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AppProcess]:
    """An app with a month of use behind it."""
    home = tmp_path_factory.mktemp("used-home")
    metrics, _here = simulate(home / "metrics.sqlite3", time.time())
    compared(metrics)
    metrics.close()
    (home / "models").mkdir()
    tiny_llama_spm(home / "models" / f"{MODEL}.gguf")
    # A model that is not there: none is loaded at the start, and nothing is added to the record.
    with running_app(home, environment={"GGUF_MODELS_DEFAULT_MODEL": "none"}) as process:
        process.wait_for("empty")
        yield process


def opened(page: Page) -> None:
    open_tab(page, "Diagnostics")
    expect(page.locator("#diagnostics-advice li").first).to_be_visible()


def test_advice_is_acted_upon_and_dismissed(new_page: NewPage, used: AppProcess) -> None:
    page = new_page(url=used.url)
    opened(page)
    said = page.locator("#diagnostics-advice-message")
    faster = page.locator("#diagnostics-advice li", has_text=FASTER)
    faster.locator("summary").click()
    expect(faster).to_contain_text("in the median of 12 replies")
    faster.get_by_role("button", name="Use xllamacpp for this model").click()
    expect(said).to_contain_text(f"{MODEL} is loaded with xllamacpp from the next time on.")
    saved = json.loads((used.home / "model_settings.json").read_text())
    assert [entry["loader"] for entry in saved.values()] == ["xllamacpp"]
    faster.get_by_role("button", name="Dismiss").click()
    expect(said).to_contain_text("Dismissed")
    expect(faster).to_have_count(0)
    page.reload()
    opened(page)
    expect(page.locator("#diagnostics-advice li", has_text=FASTER)).to_have_count(0)


def test_a_button_for_a_model_that_is_gone_says_so(new_page: NewPage, used: AppProcess) -> None:
    page = new_page(url=used.url)
    opened(page)
    large = page.locator("#diagnostics-advice li[data-rule=failing-at-context]")
    large.get_by_role("button", name="Load with 8,192 tokens of context").click()
    expect(page.locator("#diagnostics-advice-message")).to_contain_text("Not done")
    repair = page.locator("#diagnostics-advice li[data-rule=backend-never-works]")
    repair.get_by_role("button", name="See ctransformers on the Backend tab").click()
    expect(page.get_by_role("tab", name="Backend", exact=True)).to_have_attribute("aria-selected", "true")


@pytest.mark.parametrize("width", [1280, 360])
def test_trends_follow_the_choice_of_model_and_time(new_page: NewPage, used: AppProcess, width: int) -> None:
    page = new_page(url=used.url, viewport={"width": width, "height": 800}, color_scheme="dark")
    opened(page)
    figures = page.locator("#diagnostics-trends figure.trend")
    speed = page.locator("#diagnostics-trends figure[data-figure=speed] svg")
    expect(speed).to_have_attribute("aria-label", re.compile(f"^Speed of replies of {re.escape(LARGE)}: "))
    expect(figures).to_have_count(5)
    expect(page.locator("#diagnostics-trends .trend-changes li")).to_have_count(3)
    box = speed.bounding_box()
    assert box is not None and box["width"] <= width - 20
    assert page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth")
    page.locator("#diagnostics-trend-model input").click()
    page.get_by_role("option", name=MODEL, exact=True).click()
    expect(figures).to_have_count(1)
    page.locator("#diagnostics-trend-days input").click()
    page.get_by_role("option", name="7 days", exact=True).click()
    expect(page.locator("#diagnostics-trends figure[data-figure=speed] figcaption")).not_to_contain_text("xllamacpp")
    expect(page.locator("#diagnostics-trends figure[data-figure=speed] figcaption")).to_contain_text("llama-cpp-python")
