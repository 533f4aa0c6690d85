"""The Chat tab in a real browser, with the real engine and the starter model."""

from __future__ import annotations

import re
from pathlib import Path

import psutil
import pytest
from playwright.sync_api import Page, Response, expect

from tests.app_process import AppProcess, running_app
from tests.browser.conftest import NewPage, ready

pytestmark = [pytest.mark.browser, pytest.mark.engine]

WORDS = re.compile(r"\w{2}")
LONG = "Tell a very long story about a fox and a bear in the forest. Go on for many pages."


def ask(page: Page, text: str) -> None:
    """Type and send, as a person does; the field is empty again as soon as the reply is under way."""
    field = page.get_by_role("textbox", name="Message", exact=True)
    field.fill(text)
    field.press("Enter")
    expect(field).to_have_value("")


def set_number(page: Page, element: str, value: str) -> None:
    field = page.locator(f"#{element} input[type=number]")
    field.fill(value)
    field.blur()


def short_replies(page: Page, tokens: int = 24) -> None:
    """Keep replies short and repeatable; wait until the server has taken it, by way of the conversation's answer."""
    page.locator("#chat-preset input").click()
    page.get_by_role("option", name="deterministic").click()
    expect(page.locator("#sampling-temperature input[type=number]")).to_have_value("0")
    with page.expect_response(is_event):
        set_number(page, "sampling-max-tokens", str(tokens))


def is_event(response: Response) -> bool:
    """The server took note of something a person did (and it is not the clock that ticked)."""
    return response.url.partition("?")[0].endswith("/queue/join")


def answered(page: Page) -> None:
    """The reply is complete and stands in the conversation."""
    expect(page.locator("#chat-send")).to_be_visible()
    expect(page.locator("#chat-live")).to_have_text("")


def questions(page: Page):  # type: ignore[no-untyped-def]
    return page.locator("#chat-log [data-testid=user]")


def replies(page: Page):  # type: ignore[no-untyped-def]
    return page.locator("#chat-log [data-testid=bot]")


def writing(page: Page) -> None:
    """A reply has begun and goes on."""
    expect(page.locator("#chat-live:not(:has(.waiting))")).to_have_text(WORDS)
    expect(page.locator("#chat-stop")).to_be_visible()


def test_a_question_is_answered_and_the_status_line_says_by_whom(page: Page) -> None:
    short_replies(page)
    ask(page, "What is the capital of France?")
    answered(page)
    expect(questions(page)).to_have_text(re.compile("capital of France"))
    expect(replies(page)).to_have_text(WORDS)
    status = page.locator("#chat-status")
    expect(status.locator("[data-item='Model']")).to_contain_text("SmolLM2")
    expect(status.locator("[data-item='Backend']")).to_have_text("xllamacpp")
    expect(status.locator("[data-item='Device in use']")).to_contain_text("CPU")
    expect(status.locator("[data-item='Speed']")).to_have_text(re.compile(r"[\d.]+ tokens/s"))
    expect(status.locator("[data-item='Time to first token']")).to_have_text(re.compile(r"first token [\d.]+ m?s"))
    expect(status.locator("[data-item='Context used']")).to_have_text(re.compile(r"\d+ of [\d,]+ tokens"))
    expect(page.locator("#chat-list .open[aria-current]")).to_have_text("What is the capital of France?")


def test_escape_stops_and_continue_goes_on(page: Page) -> None:
    ask(page, LONG)
    writing(page)
    page.keyboard.press("Escape")
    answered(page)
    expect(page.get_by_text("Stopped here.")).to_be_visible()
    first = replies(page).first.inner_text()
    assert len(first) > 0
    page.get_by_role("button", name="Continue", exact=True).click()
    expect(page.locator("#chat-live")).to_contain_text(first.strip()[:20])
    page.locator("#chat-stop").click()
    answered(page)
    expect(replies(page).first).to_have_text(re.compile(re.escape(first.strip()[:20])))
    expect(questions(page)).to_have_count(1)


def test_regenerate_replaces_the_reply(page: Page) -> None:
    ask(page, LONG)
    writing(page)
    page.keyboard.press("Escape")
    expect(page.get_by_text("Stopped here.")).to_be_visible()
    short_replies(page, 8)
    page.get_by_role("button", name="Regenerate").click()
    expect(page.get_by_text("Stopped here.")).to_have_count(0)
    answered(page)
    expect(questions(page)).to_have_count(1)
    expect(replies(page)).to_have_count(1)
    expect(replies(page)).to_have_text(WORDS)


def test_an_edited_question_is_answered_anew(page: Page) -> None:
    short_replies(page)
    ask(page, "What is the capital of Italy? <b>bold</b>")
    answered(page)
    expect(questions(page)).to_contain_text("<b>bold</b>")
    before = replies(page).inner_text()
    row = page.locator("#chat-log .user-row")
    row.hover()
    row.get_by_role("button", name="Edit").click()
    field = page.locator("#chat-log .user-row textarea")
    expect(field).to_have_value(re.compile("capital of Italy"))
    field.fill("What is the capital of France?")
    row.get_by_role("button", name="Submit").click()
    expect(questions(page)).to_have_text(re.compile("France"))
    answered(page)
    expect(questions(page)).to_have_count(1)
    expect(replies(page)).to_have_text(WORDS)
    expect(replies(page)).not_to_have_text(before)


def test_undo_takes_the_question_back_into_the_field(page: Page) -> None:
    short_replies(page, 8)
    ask(page, "One")
    answered(page)
    ask(page, "Two")
    answered(page)
    expect(questions(page)).to_have_count(2)
    page.keyboard.press("Control+Shift+Backspace")
    expect(questions(page)).to_have_count(1)
    expect(page.get_by_role("textbox", name="Message", exact=True)).to_have_value("Two")


def test_shift_enter_makes_a_new_line(page: Page) -> None:
    short_replies(page, 4)
    field = page.get_by_role("textbox", name="Message", exact=True)
    field.fill("first")
    field.press("Shift+Enter")
    field.press_sequentially("second")
    expect(field).to_have_value("first\nsecond")
    expect(questions(page)).to_have_count(0)
    field.press("Enter")
    expect(field).to_have_value("")
    answered(page)
    expect(questions(page)).to_have_text("firstsecond")  # one line after another: the break is an element
    assert questions(page).inner_text().split() == ["first", "second"]


def test_refreshing_during_a_reply_resumes_it(page: Page) -> None:
    ask(page, LONG)
    writing(page)
    page.reload()
    writing(page)
    expect(page.locator("#chat-question")).to_have_text("")
    expect(questions(page)).to_have_text(re.compile("long story"))
    page.keyboard.press("Escape")
    answered(page)
    expect(replies(page).first).not_to_have_text("")


def test_two_browsers_have_two_chats_and_stop_stops_ones_own(new_page: NewPage) -> None:
    one, two = new_page(), new_page()
    ask(one, LONG)
    writing(one)
    ask(two, LONG + " Begin with the bear.")
    expect(two.locator("#chat-stop")).to_be_visible()
    two.locator("#chat-stop").click()
    answered(two)
    writing(one)
    expect(questions(one)).to_have_count(0)
    one.locator("#chat-stop").click()
    answered(one)
    expect(questions(one)).to_have_count(1)
    expect(questions(two)).not_to_have_text(questions(one).inner_text())


def test_turning_to_another_conversation_leaves_the_reply_running(page: Page) -> None:
    ask(page, LONG)
    writing(page)
    page.get_by_role("button", name="New", exact=True).click()
    expect(page.locator("#chat-live")).to_have_text("")
    expect(page.locator("#chat-send")).to_be_visible()
    page.locator("#chat-list .open").first.click()
    expect(questions(page)).to_have_count(1)
    writing(page)
    page.keyboard.press("Escape")
    answered(page)


def test_a_conversation_is_renamed_searched_and_deleted(page: Page) -> None:
    short_replies(page, 4)
    ask(page, "Zebra crossing")
    answered(page)
    row = page.locator("#chat-list li", has=page.locator("[aria-current]"))
    row.hover()
    row.get_by_role("button", name="Rename").click()
    row.get_by_role("textbox").fill("A <i>striped</i> matter")
    row.get_by_role("textbox").press("Enter")
    expect(page.locator("#chat-list .open[aria-current]")).to_have_text("A <i>striped</i> matter")
    search = page.get_by_role("textbox", name="Search conversations")
    search.fill("zebra")
    expect(page.locator("#chat-list .open")).to_have_text(["A <i>striped</i> matter"])
    search.fill("no such words anywhere")
    expect(page.locator("#chat-list")).to_contain_text("Nothing found")
    search.fill("striped")
    expect(page.locator("#chat-list .open")).to_have_count(1)
    row.hover()
    row.get_by_role("button", name="Delete A").click()
    row.get_by_role("button", name="Keep").click()
    row.hover()
    row.get_by_role("button", name="Delete A").click()
    row.get_by_role("button", name="Delete", exact=True).click()
    expect(page.locator("#chat-list .open")).to_have_count(0)
    expect(questions(page)).to_have_count(0)


def test_settings_belong_to_the_conversation(page: Page) -> None:
    short_replies(page, 5)
    prompt = page.locator("#chat-system-prompt textarea")
    with page.expect_response(is_event):
        prompt.fill("You answer in one word.")
    ask(page, "Settings stay")
    answered(page)
    page.get_by_role("button", name="New", exact=True).click()
    expect(prompt).to_have_value("")
    page.locator("#chat-list .open", has_text="Settings stay").click()
    expect(prompt).to_have_value("You answer in one word.")
    expect(page.locator("#sampling-max-tokens input")).to_have_value("5")
    page.reload()
    expect(prompt).to_have_value("You answer in one word.")


def test_a_wrong_value_is_refused_in_a_sentence(page: Page) -> None:
    set_number(page, "sampling-max-tokens", "-7")
    expect(page.get_by_text(re.compile("max_tokens is -7"))).to_be_visible()


def test_a_preset_is_saved_chosen_and_deleted(page: Page) -> None:
    set_number(page, "sampling-top-k", "7")
    page.get_by_role("button", name="Save or delete presets").click()
    page.locator("#chat-preset-name input, #chat-preset-name textarea").first.fill("seven")
    page.get_by_role("button", name="Save preset", exact=True).click()
    expect(page.locator("#chat-preset input")).to_have_value("seven")
    page.reload()
    ready(page)
    page.locator("#chat-preset input").click()
    page.get_by_role("option", name="seven").click()
    expect(page.locator("#sampling-top-k input")).to_have_value("7")
    page.get_by_role("button", name="Save or delete presets").click()
    page.get_by_role("button", name="Delete preset", exact=True).click()
    expect(page.get_by_text("Preset “seven” deleted.")).to_be_visible()


def test_a_worker_killed_in_mid_reply(new_page: NewPage, tmp_path: Path, starter_model: Path) -> None:
    """The text so far stays, the cause is named, and the next message is answered."""
    with running_app(tmp_path / "home", [starter_model]) as own:
        own.wait_for("ready")
        page = new_page(url=own.url)
        ask(page, LONG)
        writing(page)
        kill_workers(own)
        failure = page.locator("#chat-log .failure")
        expect(failure).to_be_visible()
        expect(failure).to_contain_text("What to do")
        expect(replies(page).first).to_have_text(WORDS)
        short_replies(page, 12)
        ask(page, "Are you still there?")
        expect(questions(page)).to_have_count(2)
        expect(replies(page).last).to_have_text(WORDS)
        expect(page.locator("#chat-send")).to_be_visible()
        expect(page.locator("#chat-log .failure")).to_have_count(1)
        page.close()


def kill_workers(app: AppProcess) -> None:
    for worker in app.workers():
        try:
            if any("webui.loaders.worker" in part for part in worker.cmdline()):
                worker.kill()
        except psutil.NoSuchProcess:
            continue
