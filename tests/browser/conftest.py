"""The browser's common ground: the app as a process with the starter model, and pages that fail on their own errors.

    def test_something(page, app): ...          a page of the running app, the model loaded
    def test_two(new_page, app): ...            as many separate browsers as wanted

A page fails its test when its console shows an error or when it asks any other host for anything. Expect with
`playwright.sync_api.expect`, which tries again until its time is up; never sleep.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, Playwright, expect, sync_playwright

from tests.app_process import AppProcess, running_app
from webui.setup.browser import find_chromium

WAIT_MILLISECONDS = 30_000

CUT_OFF = ("AbortError", "Unexpected error Connection errored out")
"""How Gradio speaks of a stream that was open when its page was reloaded or its server ended."""

NewPage = Callable[..., Page]


@pytest.fixture(scope="package")
def app(tmp_path_factory: pytest.TempPathFactory, starter_model: Path) -> Iterator[AppProcess]:
    """One app for all browser tests, its model loaded. Tests that break or reload it start their own."""
    with running_app(tmp_path_factory.mktemp("browser-home"), [starter_model]) as process:
        process.wait_for("ready")
        yield process


@pytest.fixture(scope="package")
def playwright_driver() -> Iterator[Playwright]:
    with sync_playwright() as driver:
        expect.set_options(timeout=WAIT_MILLISECONDS)
        yield driver


@pytest.fixture(scope="package")
def browser(playwright_driver: Playwright) -> Iterator[Browser]:
    as_root = hasattr(os, "geteuid") and os.geteuid() == 0
    launched = playwright_driver.chromium.launch(
        executable_path=find_chromium(), args=["--no-sandbox"] if as_root else []
    )
    yield launched
    launched.close()


@pytest.fixture
def new_page(browser: Browser, app: AppProcess) -> Iterator[NewPage]:
    """Opens the app in a browser of its own: `new_page()`, `new_page(color_scheme="dark")`, `new_page(url=other)`."""
    contexts: list[BrowserContext] = []
    problems: list[str] = []

    def open_page(*, url: str = "", **options: Any) -> Page:
        context = browser.new_context(**{"viewport": {"width": 1280, "height": 800}, **options})
        contexts.append(context)
        context.set_default_timeout(WAIT_MILLISECONDS)
        page = page_of(context)
        target = url or app.url
        watch(page, target, problems)
        page.goto(target)
        ready(page)
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert not problems, "the page had problems:\n" + "\n".join(problems)


@pytest.fixture
def page(new_page: NewPage) -> Page:
    return new_page()


def page_of(context: BrowserContext) -> Page:
    """A page of `context`. With $GGUF_SLOW_PAGE=N it computes N times slower and each answer comes 100 N ms later.

    What holds on a fast page only is a race; run the browser tests this way to find them.
    """
    page = context.new_page()
    if slower := int(os.environ.get("GGUF_SLOW_PAGE", "0")):
        inspector = context.new_cdp_session(page)
        inspector.send("Emulation.setCPUThrottlingRate", {"rate": slower})
        conditions = {"offline": False, "latency": 100 * slower, "downloadThroughput": -1, "uploadThroughput": -1}
        inspector.send("Network.emulateNetworkConditions", conditions)
    return page


def ready(page: Page) -> None:
    """The page is there and has heard from the server what it shows."""
    expect(page.locator("#chat-message textarea")).to_be_editable()
    expect(page.locator("#chat-list :is(.empty, .open)").first).to_be_attached()


def watch(page: Page, home: str, problems: list[str]) -> None:
    """Note errors of the page's scripts and console, and requests to any host but the app's.

    A reload in the middle of a reply cuts its event stream off, which Gradio reports; that is no problem of the page.
    """
    ours = urlsplit(home).netloc

    def on_request(request: Any) -> None:
        parts = urlsplit(request.url)
        if parts.scheme in ("http", "https", "ws", "wss") and parts.netloc != ours:
            problems.append(f"asked another host: {request.url}")

    def on_console(message: ConsoleMessage) -> None:
        if message.type == "error" and not message.text.startswith(CUT_OFF):
            problems.append(f"console: {message.text} {message.location.get('url', '')}")

    page.on("request", on_request)
    page.on("pageerror", lambda error: problems.append(f"script: {error}"))
    page.on("console", on_console)


def open_tab(page: Page, name: str) -> None:
    """Choose a tab by its name: Model, Chat, Backend, Hardware, Diagnostics."""
    page.get_by_role("tab", name=name, exact=True).click()
    expect(page.get_by_role("tab", name=name, exact=True)).to_have_attribute("aria-selected", "true")
