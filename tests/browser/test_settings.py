"""The settings on the Backend tab in a real browser: search, change, reset, undo, files out and in."""

from __future__ import annotations

import json
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Locator, Page, expect

from tests.app_process import AppProcess, running_app
from tests.browser.conftest import NewPage, open_tab
from webui.loaders import LOADERS
from webui.security import MAX_BODY
from webui.settings.declared import declare

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def own_app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AppProcess]:
    """An app without a model, since these tests change its settings."""
    with running_app(tmp_path_factory.mktemp("settings-home")) as process:
        process.wait_for("empty")
        yield process


@pytest.fixture
def settings_page(new_page: NewPage, own_app: AppProcess) -> Page:
    page = new_page(url=own_app.url)
    open_tab(page, "Backend")
    page.locator("#settings-search").scroll_into_view_if_needed()
    expect(page.locator(".setting")).to_have_count(len(declare(LOADERS)))
    return page


def search(page: Page, words: str) -> None:
    page.locator("#settings-search").fill(words)


def row(page: Page, key: str) -> Locator:
    return page.locator(f'.setting[data-key="{key}"]')


def test_a_setting_is_found_changed_refused_and_reset(settings_page: Page, own_app: AppProcess) -> None:
    page = settings_page
    every = len(declare(LOADERS))
    expect(page.locator("#settings-count")).to_have_text(f"{every} settings")
    search(page, "queue  LIMITS")
    expect(page.locator("#settings-count")).to_have_text(f"1 of {every} settings")
    queue = row(page, "limits.queue_length")
    expect(queue).to_be_visible()
    expect(page.locator(".setting:visible")).to_have_count(1)
    expect(queue).to_contain_text("built-in")
    field = queue.locator("[data-field]")
    field.fill("many")
    field.press("Enter")
    expect(queue.locator(".setting-failed")).to_contain_text("must be a whole number from 1 to 10 000")
    field.fill("7")
    field.press("Enter")
    expect(page.locator("#settings-said")).to_contain_text("Queue length is saved; it holds from the next load")
    expect(queue.locator(".setting-failed")).to_be_empty()
    expect(queue.locator(".source")).to_have_text(str(own_app.home / "settings.yaml"))
    queue.get_by_role("button", name="Reset").click()
    expect(page.locator("#settings-said")).to_contain_text("Queue length has its default again")
    expect(queue.locator("[data-field]")).to_have_value("32")
    expect(queue.locator(".source")).to_have_text("built-in")
    search(page, "no such words at all")
    expect(page.locator("#settings-count")).to_have_text(f"0 of {every} settings")
    search(page, "")
    expect(page.locator("#settings-count")).to_have_text(f"{every} settings")
    expect(page.locator(".setting:visible")).to_have_count(0)


def test_all_are_reset_after_a_question_and_come_back(settings_page: Page, own_app: AppProcess) -> None:
    page = settings_page
    search(page, "server.open_browser")
    row(page, "server.open_browser").locator("[data-field]").uncheck()
    expect(page.locator("#settings-notes")).to_contain_text("Start the app again for: Open the browser.")
    search(page, "backends.gpu_enabled")
    row(page, "backends.gpu_enabled").locator("[data-field]").uncheck()
    expect(page.locator("#settings-said")).to_contain_text("Use the GPU is saved")
    files = [own_app.home / "settings.yaml", own_app.home / "backend_config.json"]
    before = [file.read_bytes() for file in files]
    expect(page.locator("#backend-setting-gpu-enabled input")).not_to_be_checked()  # the choice above follows
    everything = page.locator("#settings-all")
    expect(everything.get_by_role("button", name="Undo the reset")).to_be_hidden()
    expect(everything.get_by_role("button", name="Keep")).to_be_hidden()
    everything.get_by_role("button", name="Reset all settings …").click()
    everything.get_by_role("button", name="Keep").click()
    expect(everything.get_by_role("button", name="Reset all settings …")).to_be_focused()
    everything.get_by_role("button", name="Reset all settings …").click()
    everything.get_by_role("button", name="Reset all", exact=True).click()
    expect(page.locator("#settings-said")).to_contain_text("2 settings reset")
    expect(row(page, "backends.gpu_enabled").locator("[data-field]")).to_be_checked()
    assert json.loads(files[1].read_text()).get("gpu_enabled") is None
    everything.get_by_role("button", name="Undo the reset").click()
    expect(page.locator("#settings-said")).to_contain_text("2 settings as before")
    expect(row(page, "backends.gpu_enabled").locator("[data-field]")).not_to_be_checked()
    assert [file.read_bytes() for file in files] == before


def test_everything_goes_out_and_comes_in_again(settings_page: Page, own_app: AppProcess, tmp_path: Path) -> None:
    page = settings_page
    search(page, "shown_messages")
    field = row(page, "chat.shown_messages").locator("[data-field]")
    field.fill("9")
    field.press("Enter")
    expect(page.locator("#settings-said")).to_contain_text("Shown messages is saved")
    with page.expect_download() as download:
        page.get_by_role("button", name="Export", exact=True).click()
    exported = tmp_path / "mine.zip"
    download.value.save_as(exported)
    with zipfile.ZipFile(exported) as opened:
        assert "shown_messages: 9" in opened.read("settings.yaml").decode()
    field = row(page, "chat.shown_messages").locator("[data-field]")
    field.fill("11")
    field.press("Enter")
    expect(row(page, "chat.shown_messages")).to_have_attribute("data-words", re.compile(r" 11 "))
    chooser = page.locator("#settings-import-file")
    chooser.set_input_files(exported)
    told = page.locator("#settings-import")
    expect(told).to_contain_text("mine.zip would change:")
    expect(told.locator("td", has_text="chat.shown_messages")).to_be_visible()
    told.get_by_role("button", name="Make 1 change", exact=True).click()
    expect(told).to_contain_text("1 change made. What there was is kept in")
    expect(row(page, "chat.shown_messages").locator("[data-field]")).to_have_value("9")
    (tmp_path / "other.zip").write_bytes(b"nothing of ours")
    chooser.set_input_files(tmp_path / "other.zip")
    expect(told).to_contain_text("not a whole export of this app")
    with (tmp_path / "large.zip").open("wb") as large:
        large.truncate(MAX_BODY + 1)
    chooser.set_input_files(tmp_path / "large.zip")
    expect(told).to_contain_text("large.zip is larger than a page may send. If it is an export, use python3 app.py")
