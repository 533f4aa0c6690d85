"""The Hardware tab in a real browser."""

from __future__ import annotations

import platform

import pytest
from playwright.sync_api import Page, expect

from tests.app_process import AppProcess
from tests.browser.conftest import open_tab

pytestmark = pytest.mark.browser


def test_the_machine_is_described_and_can_be_looked_at_again(page: Page) -> None:
    open_tab(page, "Hardware")
    cards = page.locator("#hardware-cards .card")
    for title in ("Processor", "Memory", "Disk", "System"):
        expect(cards.filter(has=page.get_by_role("heading", name=title, exact=True))).to_have_count(1)
    expect(page.locator("#hardware-cards")).to_contain_text(platform.machine())
    expect(page.locator("#hardware-cards")).to_contain_text("GiB")
    page.locator("#hardware-refresh").click()
    expect(cards.first).to_be_visible()


def test_the_plots_move_and_stay_the_same_size(page: Page, app: AppProcess) -> None:
    """Rows come in, the lines grow, the number of elements does not; somebody who points sees the past."""
    open_tab(page, "Hardware")
    plots = page.locator("#hardware-plots .plot")
    processor = plots.filter(has_text="Processor")
    expect(processor.locator("output")).to_contain_text("%")
    expect(plots.filter(has_text="Memory").first.locator("output")).to_contain_text("GiB")
    drawn = "document.querySelector('#hardware-plots path.all').getAttribute('d')"
    first = page.evaluate(drawn)
    elements = page.evaluate("document.querySelectorAll('#hardware-plots *').length")
    page.wait_for_function(f"{drawn} !== {first!r} && {drawn}.length > {len(first)} + 20")
    assert page.evaluate("document.querySelectorAll('#hardware-plots *').length") == elements
    mark = processor.locator(".mark")
    assert mark.get_attribute("visibility") == "hidden"
    processor.locator("svg").hover()
    expect(mark).to_have_attribute("visibility", "visible")
    page.mouse.move(0, 0)
    expect(mark).to_have_attribute("visibility", "hidden")


def test_a_page_without_gpu_says_what_would_run(page: Page) -> None:
    open_tab(page, "Hardware")
    advice = page.locator("#hardware-advice")
    expect(advice.locator("table.sizes tbody tr")).to_have_count(7, timeout=120_000)  # engines are imported first
    expect(advice).to_contain_text("Loaders, best first")
    expect(advice).to_contain_text("Threads:")
    expect(page.locator("#hardware-gpus")).to_be_hidden()  # there is nothing to choose


def test_nothing_is_asked_for_while_it_cannot_be_seen(page: Page) -> None:
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url) if "page/monitor" in request.url else None)
    open_tab(page, "Hardware")
    page.wait_for_function("document.querySelector('#hardware-plots path')?.getAttribute('d')")
    open_tab(page, "Backend")
    page.wait_for_timeout(1500)  # one that was under way
    asked.clear()
    page.wait_for_timeout(4500)
    assert asked == []


def test_the_line_beside_the_chat(page: Page) -> None:
    line = page.locator("#chat-load")
    expect(line).to_contain_text("RAM")
    expect(line).to_contain_text("CPU")
