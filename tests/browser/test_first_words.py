"""The question that is asked ahead of Gradio's event: joined by it, and harmless where one of the two is lost."""

from __future__ import annotations

import httpx
import pytest
from playwright.sync_api import Page, expect

from tests.app_process import AppProcess
from tests.browser.conftest import NewPage

REPLY_MILLISECONDS = 120_000
"""A small model may write hundreds of tokens to a short question, which takes long on a busy machine."""

pytestmark = [pytest.mark.browser, pytest.mark.engine]


def ask(page: Page, text: str) -> None:
    field = page.get_by_role("textbox", name="Message", exact=True)
    field.fill(text)
    field.press("Enter")


def answered(page: Page, count: int) -> None:
    expect(page.locator("#chat-log [data-testid=bot]")).to_have_count(count, timeout=REPLY_MILLISECONDS)
    expect(page.locator("#chat-log [data-testid=user]")).to_have_count(count)
    expect(page.locator("#chat-send")).to_be_visible()
    expect(page.locator("#chat-first")).to_have_count(0)


def test_the_question_asked_ahead_and_its_event_are_one_question(page: Page) -> None:
    asked: list[int] = []
    page.on("response", lambda response: asked.append(response.status) if "/page/ask/" in response.url else None)
    ask(page, "Say hello in one word.")
    answered(page, 1)
    ask(page, "And again.")
    answered(page, 2)
    assert asked == [200, 200]


def test_without_the_request_ahead_the_event_asks(page: Page) -> None:
    page.route("**/page/ask/**", lambda route: route.fulfill(status=204))
    ask(page, "Say hello in one word.")
    answered(page, 1)


def test_an_event_that_never_comes_leaves_the_next_question_unharmed(page: Page) -> None:
    page.route("**/gradio_api/queue/join**", lambda route: route.fulfill(status=204))
    with page.expect_response("**/page/ask/**"):
        ask(page, "A question whose event is lost.")
    page.unroute("**/gradio_api/queue/join**")
    page.reload()
    expect(page.locator("#chat-message textarea")).to_be_editable()
    ask(page, "Say hello in one word.")
    expect(page.locator("#chat-log")).to_contain_text("Say hello in one word.", timeout=REPLY_MILLISECONDS)
    expect(page.locator("#chat-send")).to_be_visible()


def test_only_a_page_may_ask(app: AppProcess, new_page: NewPage) -> None:
    assert httpx.post(f"{app.url}/page/ask/guess", content="hello").status_code == 404
    page = new_page()
    key = page.locator("#chat-key textarea, #chat-key input").input_value()
    assert len(key) >= 16
    other = httpx.post(f"{app.url}/page/ask/{key}", content="hello", headers={"origin": "http://evil.example"})
    assert other.status_code == 403
