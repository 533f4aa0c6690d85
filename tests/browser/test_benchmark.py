"""The benchmark on the Hardware tab in a real browser, with a real engine."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.app_process import AppProcess, running_app
from tests.browser.conftest import NewPage, open_tab

pytestmark = pytest.mark.browser

LONG = 60_000


@pytest.fixture(scope="module")
def measuring_app(tmp_path_factory: pytest.TempPathFactory, starter_model: Path) -> Iterator[AppProcess]:
    """An app of its own: benchmarks load models anew."""
    with running_app(tmp_path_factory.mktemp("benchmark-home"), [starter_model]) as process:
        process.wait_for("ready")
        yield process


def opened(new_page: NewPage, app: AppProcess) -> Page:
    page = new_page(url=app.url)
    open_tab(page, "Hardware")
    expect(page.get_by_label("xllamacpp", exact=True)).to_be_checked()  # the choice has come from the server
    return page


def choose(page: Page, *, depths: str, runs: int, tokens: int) -> None:
    """Only xllamacpp, at these depths."""
    for box in page.locator("#benchmark-loaders input[type=checkbox]").all():
        if box.is_checked() and box.get_attribute("name") != "xllamacpp":
            box.uncheck()
    expect(page.locator("#benchmark-loaders input:checked")).to_have_count(1)
    page.locator("#benchmark-depths :is(input, textarea)").fill(depths)
    for elem_id, value in (("benchmark-runs-number", runs), ("benchmark-tokens", tokens)):
        field = page.locator(f"#{elem_id} input[type=number]")
        field.fill(str(value))
        field.press("Tab")
        expect(field).to_have_value(str(value))


def test_a_benchmark_belongs_to_no_page(new_page: NewPage, measuring_app: AppProcess) -> None:
    """Begun on one page, seen and stopped on another; the model of before comes back."""
    first = opened(new_page, measuring_app)
    expect(first.locator("#benchmark-depths :is(input, textarea)")).to_have_value("0, 1024, 4096")
    choose(first, depths="0, 4096", runs=20, tokens=32)
    first.locator("#benchmark-run").click()
    expect(first.locator("#benchmark-progress")).to_contain_text("xllamacpp: run", timeout=LONG)
    first.context.close()
    second = opened(new_page, measuring_app)
    expect(second.locator("#benchmark-progress")).to_contain_text("xllamacpp: run")
    expect(second.locator("#benchmark-run")).to_be_disabled()
    expect(second.locator("#benchmark-result table")).to_contain_text("tokens/s", timeout=LONG)  # found so far
    second.locator("#benchmark-stop").click()
    expect(second.locator("#benchmark-progress")).to_contain_text("The benchmark was stopped.", timeout=LONG)
    expect(second.locator("#benchmark-stop")).to_be_hidden()
    expect(second.locator("#benchmark-run")).to_be_enabled()
    assert measuring_app.health()["state"] == "ready"
    expect(second.locator("#benchmark-runs li")).to_contain_text("stopped early")


def test_run_compare_keep_and_delete(new_page: NewPage, measuring_app: AppProcess) -> None:
    page = opened(new_page, measuring_app)
    choose(page, depths="0", runs=1, tokens=8)
    result, rows = page.locator("#benchmark-result"), page.locator("#benchmark-runs li")
    kept = rows.count()
    for done in (1, 2):
        page.locator("#benchmark-run").click()
        expect(rows).to_have_count(kept + done, timeout=LONG)
        expect(page.locator("#benchmark-run")).to_be_enabled(timeout=LONG)  # the model of before is back
    expect(result.locator("tbody tr")).to_have_count(1)
    expect(result.locator("svg.bars")).to_have_count(2)
    plot = page.get_by_role("img", name="Generation speed. short prompt: xllamacpp")
    expect(plot.locator("g.bar")).to_have_count(1)

    page.locator("#benchmark-compare input").click()
    page.get_by_role("option").nth(1).click()
    expect(result).to_contain_text("Compared with")
    expect(result.locator(".change")).to_have_count(5)
    expect(result.locator(".bars-before")).to_have_count(2)

    page.locator("#benchmark-name input, #benchmark-name textarea").fill("a/b")
    page.locator("#benchmark-keep").click()
    expect(page.locator("#benchmark-message")).to_contain_text("cannot be the name of a baseline")
    page.locator("#benchmark-name input, #benchmark-name textarea").fill("the first")
    page.locator("#benchmark-keep").click()
    expect(page.locator("#benchmark-message")).to_contain_text("Kept as baseline the first.")
    baseline = page.locator("#benchmark-runs li[data-run='the first']")
    baseline.get_by_role("button", name="baseline the first").first.click()
    expect(baseline.locator("[aria-current]")).to_have_count(1)
    baseline.locator("[data-do=ask]").click()
    baseline.get_by_role("button", name="Keep", exact=True).click()
    expect(baseline.locator(".ask")).to_be_hidden()
    baseline.locator("[data-do=ask]").click()
    baseline.get_by_role("button", name="Delete", exact=True).click()
    expect(baseline).to_have_count(0)
    expect(rows).to_have_count(kept + 2)


def test_what_cannot_be_measured_is_said(new_page: NewPage, measuring_app: AppProcess) -> None:
    page = opened(new_page, measuring_app)
    page.locator("#benchmark-depths :is(input, textarea)").fill("deep")
    page.locator("#benchmark-run").click()
    expect(page.locator("#benchmark-message")).to_contain_text("'deep' is not a depth")
    expect(page.locator("#benchmark-stop")).to_be_hidden()
