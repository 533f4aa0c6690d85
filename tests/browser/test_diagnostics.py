"""The Diagnostics tab in a real browser: workers, log with its filter, health."""

from __future__ import annotations

import os
import time

import pytest
from playwright.sync_api import Page, expect

from tests.app_process import AppProcess
from tests.browser.conftest import NewPage, open_tab

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


def test_the_checks_are_there_when_the_tab_is_opened_and_name_what_they_looked_at(page: Page) -> None:
    open_tab(page, "Diagnostics")
    for name in ("Python", "Memory", "Disk", "Clock", "Port"):
        expect(page.locator(f'#diagnostics-health li[data-check="{name}"]')).to_be_visible()


def test_a_button_mends_what_a_check_found_and_looks_again(page: Page, app: AppProcess) -> None:
    open_tab(page, "Diagnostics")
    leftover = page.locator('#diagnostics-health li[data-check="Leftovers"]')
    expect(leftover).to_have_attribute("data-state", "ok")
    file = app.home / ".settings.yaml.abc.tmp"
    file.write_text("half")
    os.utime(file, (time.time() - 7200, time.time() - 7200))
    page.locator("#diagnostics-check").click()
    expect(leftover).to_have_attribute("data-state", "warning")
    expect(leftover).to_contain_text(file.name)
    leftover.get_by_role("button").click()
    expect(leftover).to_have_attribute("data-state", "ok")
    expect(page.locator("#diagnostics-doing")).to_contain_text("done")
    assert not file.exists()


def test_looking_at_everything_goes_on_for_every_page_and_can_be_cancelled(new_page: NewPage) -> None:
    page = new_page()
    open_tab(page, "Diagnostics")
    page.locator("#diagnostics-check-full").click()
    expect(page.locator("#diagnostics-doing")).to_contain_text("running a test model with")
    page.close()
    other = new_page()
    open_tab(other, "Diagnostics")
    expect(other.locator("#diagnostics-doing")).to_contain_text("under way")
    other.locator("#diagnostics-check-cancel").click()
    expect(other.locator("#diagnostics-check-cancel")).to_be_hidden()
    other.locator("#diagnostics-check").click()
    expect(other.locator("#diagnostics-doing")).to_contain_text("cancelled")
