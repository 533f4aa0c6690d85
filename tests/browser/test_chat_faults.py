"""The Chat tab when engines die, models are swapped and the app itself is killed: what a person sees and does next."""

from __future__ import annotations

import contextlib
import re
import shutil
import sqlite3
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.app_process import AppProcess, running_app
from tests.browser.conftest import WAIT_MILLISECONDS, NewPage, open_tab, ready
from tests.browser.test_chat import (
    LONG,
    WORDS,
    answered,
    ask,
    kill_workers,
    questions,
    replies,
    short_replies,
    writing,
)
from tests.browser.test_model import choose as choose_model

pytestmark = [pytest.mark.browser, pytest.mark.engine]


def choose(page: Page, name: str) -> None:
    """Press a button of the reply that broke off."""
    page.locator("#chat-log .options").get_by_role("button", name=name, exact=True).click()


def begun(page: Page) -> str:
    """The first words of the reply that broke off."""
    text = replies(page).first.inner_text().strip()
    assert len(text) > 5
    return str(text[:20])


def written_down(page: Page, app: AppProcess) -> None:
    """Wait until the app has the beginning of a reply on disk; fail where it never has."""
    for _ in range(WAIT_MILLISECONDS // 100):
        with contextlib.closing(sqlite3.connect(app.home / "chats" / "chats.sqlite3")) as store:
            found = store.execute("SELECT max(length(content)) FROM messages WHERE role = 'assistant'").fetchone()
        if found[0]:
            return
        page.wait_for_timeout(100)
    raise AssertionError("nothing of the reply was written down")


def test_a_crash_in_mid_reply_is_told_and_continued(new_page: NewPage, tmp_path: Path, starter_model: Path) -> None:
    with running_app(tmp_path / "home", [starter_model]) as own:
        own.wait_for("ready")
        page = new_page(url=own.url)
        ask(page, LONG)
        writing(page)
        kill_workers(own)
        failure = page.locator("#chat-log .failure")
        expect(failure).to_contain_text("The reply broke off")
        expect(failure).to_contain_text("SIGKILL")
        expect(failure).to_contain_text("Continue goes on from here")
        expect(page.locator("#chat-log")).to_contain_text("The engine was started again")
        first = begun(page)
        page.reload()
        ready(page)
        choose(page, "Continue")
        expect(page.locator("#chat-live")).to_contain_text(first)
        page.locator("#chat-stop").click()
        answered(page)
        expect(page.locator("#chat-log .failure")).to_have_count(0)
        expect(replies(page).first).to_contain_text(first)
        expect(questions(page)).to_have_count(1)
        page.close()


def test_a_question_asked_while_the_model_starts_again_waits_for_it(
    new_page: NewPage, tmp_path: Path, starter_model: Path
) -> None:
    with running_app(tmp_path / "home", [starter_model]) as own:
        own.wait_for("ready")
        page = new_page(url=own.url)
        ask(page, LONG)
        writing(page)
        kill_workers(own)
        expect(page.locator("#chat-log .failure")).to_be_visible()
        choose(page, "Retry")
        writing(page)
        expect(page.locator("#chat-log .failure")).to_have_count(0)
        page.keyboard.press("Escape")
        answered(page)
        expect(questions(page)).to_have_count(1)
        page.close()


def test_a_killed_app_leaves_a_reply_that_can_be_continued(
    new_page: NewPage, tmp_path: Path, starter_model: Path
) -> None:
    with running_app(tmp_path / "home", [starter_model]) as own:
        own.wait_for("ready")
        page = new_page(url=own.url)
        ask(page, LONG)
        writing(page)
        expect(page.locator("#chat-live")).to_have_text(re.compile(r"(\w+\W+){40}"))
        written_down(page, own)
        page.close()  # its reply goes on without it; an open page would rightly complain of a server that is gone
        own.process.kill()
        own.process.wait()
    with running_app(tmp_path / "home", [starter_model]) as again:
        again.wait_for("ready")
        page = new_page(url=again.url)
        page.locator("#chat-list .open").first.click()
        failure = page.locator("#chat-log .failure")
        expect(failure).to_contain_text("The app ended while this reply was written")
        first = begun(page)
        choose(page, "Continue")
        expect(page.locator("#chat-live")).to_contain_text(first)
        page.locator("#chat-stop").click()
        answered(page)
        expect(page.locator("#chat-log .failure")).to_have_count(0)
        page.close()


def test_an_open_chat_goes_on_with_the_model_it_was_swapped_for(
    new_page: NewPage, tmp_path: Path, starter_model: Path
) -> None:
    other = tmp_path / "Another-Model.gguf"
    shutil.copy(starter_model, other)
    with running_app(tmp_path / "home", [starter_model, other]) as own:
        first = str(own.wait_for("ready")["model"])
        second = starter_model.stem if first == other.stem else other.stem
        page = new_page(url=own.url)
        model = page.locator("#chat-status [data-item='Model']")
        expect(model).to_have_text(first)
        short_replies(page, 60)
        ask(page, LONG)
        writing(page)
        open_tab(page, "Model")
        choose_model(page, f"{second}.gguf")
        page.locator("#model-load").click()
        open_tab(page, "Chat")
        expect(model).to_have_text(second)
        answered(page)
        expect(page.locator("#chat-log .failure")).to_have_count(0)
        ask(page, "And now you?")
        answered(page)
        expect(replies(page)).to_have_count(2)
        expect(replies(page).last).to_have_text(WORDS)
        expect(model).to_have_text(second)
        page.close()


def test_a_lost_model_is_loaded_again_from_the_chat(new_page: NewPage, tmp_path: Path, starter_model: Path) -> None:
    with running_app(tmp_path / "home", [starter_model]) as own:
        own.wait_for("ready")
        page = new_page(url=own.url)
        while own.health()["state"] != "failed":
            kill_workers(own)
        ask_in_vain(page, "Is anybody there?")
        refusal = page.locator("#chat-question .failure")
        expect(refusal).to_contain_text("The model is not running")
        expect(refusal).to_contain_text("What to do")
        expect(page.get_by_role("textbox", name="Message", exact=True)).to_have_value("Is anybody there?")
        page.locator("#chat-question").get_by_role("button", name="Load again").click()
        expect(page.locator("#chat-question")).to_contain_text("The model is loaded")
        short_replies(page, 8)
        page.locator("#chat-send").click()
        expect(replies(page)).to_have_text(WORDS)
        page.close()


def ask_in_vain(page: Page, text: str) -> None:
    field = page.get_by_role("textbox", name="Message", exact=True)
    field.fill(text)
    field.press("Enter")
