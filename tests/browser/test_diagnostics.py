"""The Diagnostics tab in a real browser: workers, log with its filter, health."""

from __future__ import annotations

import pytest
from playwright.sync_api import Page, expect

from tests.app_process import AppProcess
from tests.browser.conftest import open_tab

pytestmark = pytest.mark.browser


def test_the_worker_is_listed_with_its_memory(page: Page, app: AppProcess) -> None:
    open_tab(page, "Diagnostics")
    row = page.locator("#diagnostics-workers tbody tr")
    expect(row).to_have_count(1)
    expect(row).to_contain_text("MiB")
    expect(row).to_contain_text("serving")
    assert int(row.locator("td").first.inner_text()) in [worker.pid for worker in app.workers()]


def test_the_log_is_filtered_by_level_and_searched(page: Page) -> None:
    open_tab(page, "Diagnostics")
    log = page.locator("#diagnostics-log")
    expect(log).to_contain_text("INFO")
    page.locator("#diagnostics-level input").click()
    page.get_by_role("option", name="Error", exact=True).click()
    expect(log).not_to_contain_text("INFO")
    page.locator("#diagnostics-level input").click()
    page.get_by_role("option", name="Info", exact=True).click()
    expect(log).to_contain_text("INFO")
    page.locator("#diagnostics-search textarea, #diagnostics-search input").fill("no line has this")
    expect(log).to_contain_text("No line matches")


def test_the_checks_name_what_they_looked_at(page: Page) -> None:
    open_tab(page, "Diagnostics")
    page.locator("#diagnostics-check").click()
    checks = page.locator("#diagnostics-health li")
    for name in ("Python", "Memory", "Disk"):
        expect(checks.filter(has_text=name).first).to_be_visible()
