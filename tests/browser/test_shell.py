"""What surrounds the tabs: the top line, the tabs, keys, light and dark, narrow pages, weight."""

from __future__ import annotations

import re
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import NewPage, open_tab

pytestmark = pytest.mark.browser

TABS = ("Model", "Chat", "Backend", "Hardware", "Diagnostics")
PAGE_WEIGHT = 1_500_000


def test_the_top_line_says_what_is_loaded_on_every_tab(page: Page) -> None:
    line = page.get_by_role("status", name="Model status")
    for name in TABS:
        open_tab(page, name)
        expect(line).to_have_attribute("data-light", re.compile("ready|degraded"))
        expect(line.locator("[data-item='Model']")).to_contain_text("SmolLM2")
        expect(line.locator("[data-item='Device in use']")).to_contain_text("CPU")


def test_alt_and_a_digit_choose_a_tab(page: Page) -> None:
    for number, name in enumerate(TABS, start=1):
        page.keyboard.press(f"Alt+{number}")
        expect(page.get_by_role("tab", name=name, exact=True)).to_have_attribute("aria-selected", "true")


def test_the_question_mark_opens_the_keyboard_sheet_but_not_while_typing(page: Page) -> None:
    field = page.get_by_role("textbox", name="Message", exact=True)
    field.press_sequentially("why?")
    expect(field).to_have_value("why?")
    sheet = page.get_by_role("dialog", name="Keyboard")
    expect(sheet).to_have_count(0)
    field.blur()
    page.keyboard.press("?")
    expect(sheet).to_be_visible()
    for key in ("Enter", "Shift + Enter", "Esc", "Ctrl + Shift + Backspace"):
        expect(sheet.get_by_text(key, exact=True)).to_be_visible()
    page.keyboard.press("Escape")
    expect(sheet).to_have_count(0)
    page.keyboard.press("/")
    expect(field).to_be_focused()


def brightness(page: Page) -> float:
    colour = page.evaluate("getComputedStyle(document.body).backgroundColor")
    return sum(int(part) for part in re.findall(r"\d+", colour)[:3]) / 3


@pytest.mark.parametrize(("scheme", "is_dark"), [("light", False), ("dark", True)])
def test_the_page_follows_the_systems_colours_until_told_otherwise(
    new_page: NewPage, scheme: str, is_dark: bool
) -> None:
    page = new_page(color_scheme=scheme)
    body = page.locator("body")
    has_dark = re.compile(r"(^|\s)dark(\s|$)")
    expect_dark(body, has_dark, is_dark)
    assert (brightness(page) < 80) is is_dark
    page.get_by_role("button", name="Light or dark").click()
    expect_dark(body, has_dark, not is_dark)
    page.reload()
    expect_dark(body, has_dark, not is_dark)


def expect_dark(body: Any, has_dark: re.Pattern[str], is_dark: bool) -> None:
    (expect(body).to_have_class if is_dark else expect(body).not_to_have_class)(has_dark)


@pytest.mark.parametrize("width", [360, 768, 1280, 2200])
def test_no_width_scrolls_sideways(new_page: NewPage, width: int) -> None:
    page = new_page(viewport={"width": width, "height": 740})
    for name in TABS:
        page.keyboard.press(f"Alt+{TABS.index(name) + 1}")
        expect(page.locator(f"#tab-{name.lower()}")).to_be_visible()
        wide = page.evaluate(
            "() => [...document.querySelectorAll('main *')].filter((e) => e.scrollWidth > innerWidth + 1"
            " && getComputedStyle(e).overflowX !== 'hidden' && getComputedStyle(e).overflowX !== 'auto')"
            ".map((e) => e.id || e.className)"
        )
        assert page.evaluate("document.documentElement.scrollWidth") <= width, (name, wide)


def test_on_a_phone_the_sides_fold_and_the_field_is_in_view(new_page: NewPage) -> None:
    page = new_page(viewport={"width": 360, "height": 740})
    expect(page.locator("#chat-side")).to_be_hidden()
    expect(page.locator("#chat-panel")).to_be_hidden()
    expect(page.locator("#chat-message textarea")).to_be_in_viewport()
    expect(page.locator("#chat-status")).to_be_in_viewport()
    page.get_by_role("button", name="Settings").click()
    expect(page.locator("#chat-preset")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.locator("#chat-panel")).to_be_hidden()
    page.get_by_role("button", name="Conversations").click()
    page.get_by_role("button", name="New", exact=True).click()
    expect(page.locator("#chat-side")).to_be_hidden()


def test_opening_the_page_transfers_little(new_page: NewPage) -> None:
    """Counted by the browser, as it came over the wire: everything until nothing more is asked for."""
    page = new_page()
    open_tab(page, "Chat")
    page.wait_for_load_state("load")
    expect(page.locator("#chat-empty, #chat-log").first).to_be_attached()
    weight = page.evaluate(
        "() => [...performance.getEntriesByType('resource'), ...performance.getEntriesByType('navigation')]"
        ".reduce((sum, entry) => sum + entry.transferSize, 0)"
    )
    assert 0 < weight <= PAGE_WEIGHT
