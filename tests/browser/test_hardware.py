"""The Hardware tab in a real browser."""

from __future__ import annotations

import platform

import pytest
from playwright.sync_api import Page, expect

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
