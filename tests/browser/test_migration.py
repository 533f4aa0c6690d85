"""Older settings on the page: the dialog of the first start, what it does, and the way back on the Backend tab."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Locator, Page, expect

from tests.app_process import AppProcess, running_app
from tests.browser.conftest import NewPage, open_tab

pytestmark = pytest.mark.browser

OLDER = {
    "version": "1.0.0",
    "theme": "dark",
    "use_hardware_acceleration": False,
    "ai_settings": {"temperature": 0.25, "system_prompt": "<b>Be brief.</b>"},
}
CHAT = {"title": "From before", "messages": [{"role": "user", "content": "Hi"}, {"role": "bot", "content": "Hello"}]}


@pytest.fixture
def older_app(tmp_path: Path) -> Iterator[AppProcess]:
    """An app whose home the older app has used."""
    home = tmp_path / "home"
    (home / "chats").mkdir(parents=True)
    (home / "config.json").write_text(json.dumps(OLDER))
    (home / "chats" / "before.json").write_text(json.dumps(CHAT))
    with running_app(home) as process:
        process.wait_for("empty")
        yield process


def dialog(page: Page) -> Locator:
    return page.get_by_role("dialog", name="Settings of the older app")


def test_the_dialog_shows_the_plan_carries_it_over_and_undoes_it(older_app: AppProcess, new_page: NewPage) -> None:
    page = new_page(url=older_app.url)
    asked = dialog(page)
    expect(asked).to_contain_text("4 of 6 values can be carried over.")
    row = asked.locator("tr[data-key='use_hardware_acceleration']")
    expect(row).to_contain_text("backends.gpu_enabled = false")
    expect(asked.locator("tr[data-key='theme']")).to_contain_text("not carried over")
    expect(asked.locator("tr[data-key='ai_settings.system_prompt']")).to_contain_text("<b>Be brief.</b>")
    asked.get_by_role("button", name="Carry over").click()
    expect(asked.locator("[data-migration=done]")).to_contain_text("4 values came over.")
    config = older_app.home / "backend_config.json"
    assert json.loads(config.read_text())["gpu_enabled"] is False
    asked.get_by_role("button", name="Close").click()
    expect(asked).to_have_count(0)
    other = new_page(url=older_app.url)
    expect(other.locator("#chat-list")).to_contain_text("From before")
    expect(dialog(other)).to_have_count(0)
    open_tab(other, "Backend")
    expect(other.locator("#backend-sources")).to_contain_text("Use the GPU: no (backend_config.json)")
    section = other.locator("#backend-migration")
    expect(section).to_contain_text("4 values came over.")
    section.get_by_role("button", name="Undo it").click()
    expect(section.locator("[data-migration=undone]")).to_be_visible()
    assert not config.exists()


def test_not_now_asks_at_the_next_start_and_never_does_not(older_app: AppProcess, new_page: NewPage) -> None:
    page = new_page(url=older_app.url)
    expect(dialog(page)).to_be_visible()
    page.keyboard.press("Escape")
    expect(dialog(page)).to_have_count(0)
    open_tab(page, "Backend")
    section = page.locator("#backend-migration")
    section.get_by_role("button", name="Look for older settings").click()
    expect(section.locator("[data-migration=plan]")).to_contain_text("4 of 6 values")
    section.get_by_role("button", name="Close").click()
    expect(section).to_contain_text("Nothing has been carried over.")
    home = older_app.home
    page.context.close()
    older_app.stop()
    with running_app(home) as again:
        again.wait_for("empty")
        narrow = new_page(url=again.url, viewport={"width": 360, "height": 640})
        asked = dialog(narrow)
        expect(asked.get_by_role("button", name="Carry over")).to_be_in_viewport()
        assert narrow.evaluate("document.documentElement.scrollWidth") <= 360
        asked.get_by_role("button", name="Never ask").click()
        expect(asked).to_have_count(0)
        narrow.context.close()
    assert json.loads((home / "migration.json").read_text()) == {"ask": False}
