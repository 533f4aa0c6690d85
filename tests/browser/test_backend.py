"""The Backend tab in a real browser: order and switches are saved, a repair has a live log."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from tests.app_process import AppProcess, running_app
from tests.browser.conftest import NewPage, open_tab
from webui.loaders import LOADERS

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def own_app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AppProcess]:
    """An app without a model, since these tests change its settings."""
    without_starter = {"GGUF_MODELS_STARTER": "false"}
    with running_app(tmp_path_factory.mktemp("backend-home"), environment=without_starter) as process:
        process.wait_for("empty")
        yield process


@pytest.fixture
def backend_page(new_page: NewPage, own_app: AppProcess) -> Page:
    page = new_page(url=own_app.url)
    open_tab(page, "Backend")
    expect(page.locator(".backend")).to_have_count(len(LOADERS))
    return page


def saved(app: AppProcess) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((app.home / "backend_config.json").read_text())
    return content


def order(page: Page) -> list[str]:
    return [str(card.get_attribute("data-backend")) for card in page.locator(".backend").all()]


def test_order_switches_and_choice_are_saved_and_there_again_on_another_page(
    backend_page: Page, own_app: AppProcess, new_page: NewPage
) -> None:
    first, second, *rest = order(backend_page)
    expect(backend_page.locator(f"#backend-up-{first}")).to_be_disabled()
    backend_page.locator(f"#backend-up-{second}").click()
    expect(backend_page.locator(".backend").first).to_have_attribute("data-backend", second)
    backend_page.locator(f"#backend-enabled-{first}").click()
    expect(backend_page.locator(f"#backend-card-{first}")).to_contain_text("switched off")
    backend_page.locator("#backend-setting-gpu-enabled input").click()
    expect(backend_page.locator("#backend-sources")).to_contain_text("Use the GPU: no (backend_config.json)")
    content = saved(own_app)
    assert content["fallback_order"] == [second, first, *rest]
    assert content["backends"][first]["enabled"] is False
    assert content["gpu_enabled"] is False
    other = new_page(url=own_app.url)
    open_tab(other, "Backend")
    expect(other.locator(".backend").first).to_have_attribute("data-backend", second)
    expect(other.locator(f"#backend-enabled-{first}")).not_to_be_checked()
    expect(other.locator("#backend-setting-gpu-enabled input")).not_to_be_checked()


def test_each_card_says_what_is_installed_what_it_opens_and_on_which_devices(backend_page: Page) -> None:
    for name, spec in LOADERS.items():
        card = backend_page.locator(f"#backend-card-{name}")
        expect(card).to_contain_text(spec.title)
        for label in ("Installed", "Devices here", "Can open"):
            expect(card.locator("dt", has_text=label)).to_be_visible()


def test_a_repair_has_a_live_log_that_every_page_sees(
    backend_page: Page, own_app: AppProcess, new_page: NewPage
) -> None:
    """The plan comes first, and nothing is done before it is answered; the trial loads a tiny model in a worker."""
    last = order(backend_page)[-1]
    backend_page.locator(f"#backend-plan-{last}").click()
    plan = backend_page.locator("#backend-plan")
    expect(plan.locator(f".install-plan[data-backend={last}]")).to_be_in_viewport()
    backend_page.locator("#backend-plan-xllamacpp").click()
    expect(plan).to_contain_text("xllamacpp is installed as it should be")
    expect(plan).to_contain_text("Because")
    expect(backend_page.locator("#backend-log")).to_be_empty()
    plan.locator("#backend-plan-leave").click()
    expect(plan.locator(".install-plan")).to_have_count(0)
    backend_page.locator("#backend-plan-xllamacpp").click()
    plan.locator("#backend-plan-try").click()
    log = backend_page.locator("#backend-log")
    expect(log).to_contain_text("✓ xllamacpp works")
    expect(log.locator("pre")).to_contain_text("It loaded a tiny model and wrote with it, on CPU.")
    other = new_page(url=own_app.url)
    open_tab(other, "Backend")
    expect(other.locator("#backend-log")).to_contain_text("✓ xllamacpp works")
