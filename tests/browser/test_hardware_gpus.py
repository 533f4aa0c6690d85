"""Choosing GPUs in a real browser, on a machine that says it has two cards of unequal size."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from playwright.sync_api import Locator, Page, expect

from tests.app_process import ROOT, AppProcess, running_app
from tests.browser.conftest import NewPage, open_tab

pytestmark = pytest.mark.browser

CARDS = ROOT / "tests" / "fakes" / "graphics_card"


@pytest.fixture(scope="module")
def two_cards(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AppProcess]:
    path = os.pathsep.join([str(CARDS), *filter(None, [os.environ.get("PYTHONPATH", "")])])
    surroundings = {"PYTHONPATH": path, "EXAMPLE_CARDS": "2"}
    with running_app(tmp_path_factory.mktemp("two-cards"), environment=surroundings) as process:
        process.wait_for("empty")
        yield process


def box(page: Page, name: str) -> Locator:
    return page.locator("#hardware-gpus-chosen").get_by_label(name)


def profile(page: Page, name: str) -> Locator:
    return page.locator("#hardware-profile").get_by_label(name, exact=True)


def status(page: Page) -> Locator:
    return page.locator("#hardware-gpus-status")


def test_a_card_is_left_out_kept_as_a_profile_and_brought_back(new_page: NewPage, two_cards: AppProcess) -> None:
    page = new_page(url=two_cards.url)
    open_tab(page, "Hardware")
    expect(status(page)).to_contain_text("Example GPU 8 GB and Example GPU 24 GB")
    expect(profile(page, "All GPUs")).to_be_checked()
    box(page, "Example GPU 8 GB").uncheck()
    expect(status(page)).to_contain_text("Models may use Example GPU 24 GB, with 23.4 GiB free")
    expect(profile(page, "As ticked below")).to_be_checked()

    page.locator("#hardware-profile-new").get_by_label("Name").fill("large card")
    page.locator("#hardware-profile-save").click()
    expect(profile(page, "large card")).to_be_checked()
    profile(page, "Processor only (quiet)").check()
    expect(status(page)).to_contain_text("Models stay on the processor")
    expect(box(page, "Example GPU 24 GB")).not_to_be_checked()

    page.reload()
    open_tab(page, "Hardware")
    expect(status(page)).to_contain_text("Models stay on the processor")
    expect(profile(page, "Processor only (quiet)")).to_be_checked()
    profile(page, "large card").check()
    expect(status(page)).to_contain_text("Models may use Example GPU 24 GB")
    page.locator("#hardware-profile-delete").click()
    expect(profile(page, "large card")).to_have_count(0)
    expect(box(page, "Example GPU 24 GB")).to_be_checked()
    expect(box(page, "Example GPU 8 GB")).not_to_be_checked()
