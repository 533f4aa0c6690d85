"""Helping others to help, in a real browser: the last reply's waterfall, the support bundle, models that are tried."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.app_process import AppProcess
from tests.browser.conftest import open_tab
from tests.browser.test_chat import answered, ask, short_replies
from webui.diagnostics.bundle_reader import read_bundle
from webui.loaders import LOADERS

pytestmark = [pytest.mark.browser, pytest.mark.engine]


def test_where_the_time_of_the_last_reply_went(page: Page) -> None:
    short_replies(page, 7)
    ask(page, "Tell me of a fox.")
    answered(page)
    open_tab(page, "Diagnostics")
    shown = page.locator("#diagnostics-reply")
    expect(shown).to_contain_text(" 7 tokens, ")
    for name in ("template", "queue", "prompt", "first-token", "tokens", "rendering"):
        expect(shown.locator(f"[data-span={name}] .time")).to_have_text(re.compile(r"\d ?(ms|s)"))


def test_the_bundle_is_shown_and_saved(page: Page, app: AppProcess, tmp_path: Path) -> None:
    open_tab(page, "Diagnostics")
    page.locator("#diagnostics-bundle-make").click()
    found = page.locator("#diagnostics-bundle")
    save = found.locator("a.save")
    expect(save).to_contain_text("gguf-loader-support-")
    found.locator("summary", has_text="configuration.json").click()
    expect(found.locator("details[open] pre")).to_contain_text("server.port")
    with page.expect_download() as saving:
        save.click()
    target = tmp_path / saving.value.suggested_filename
    saving.value.save_as(target)
    read = read_bundle(target)
    assert all(one.same for one in read.decide_again(LOADERS))
    assert str(app.home) not in str(read.files)


def test_models_are_judged_and_tried(page: Page, app: AppProcess) -> None:
    open_tab(page, "Diagnostics")
    page.locator("#compat-look").click()
    cell = page.locator("#compat-matrix tbody tr").first.locator("[data-loader=ctransformers]")
    expect(cell).to_contain_text("no")
    expect(page.locator("#compat-matrix tbody td", has_text="chosen")).to_have_count(1)
    page.locator("#model-tests-start").click()
    row = page.locator("#model-tests-results tbody tr")
    expect(row).to_contain_text("works")
    expect(row).to_contain_text("MiB")
    expect(page.locator("#model-tests-stop")).to_be_hidden()  # it is over, and the model of before is back
    app.wait_for("ready")
