"""The memory plan on the Model tab in a real browser: it follows the controls, and its buttons set them."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Locator, Page, expect

from tests.app_process import ROOT, AppProcess, running_app
from tests.browser.conftest import NewPage, open_tab
from tests.builders.gguf import tiny_llama_bpe

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def full_card(tmp_path_factory: pytest.TempPathFactory, starter_model: Path) -> Iterator[AppProcess]:
    """An app whose plans are made by hand: see `hand_made_plan`. Its model is loaded."""
    home = tmp_path_factory.mktemp("full-card")
    shutil.copytree(ROOT / "tests" / "browser" / "hand_made_plan", home / "extensions" / "hand_made_plan")
    (home / "models").mkdir()
    (home / "models" / "cut.gguf").write_bytes(tiny_llama_bpe(home / "tiny.gguf").read_bytes()[:-2000])
    with running_app(home, [starter_model]) as process:
        process.wait_for("ready")
        yield process


def plan_of(page: Page) -> Locator:
    """The plan of the model in use, once it is there."""
    open_tab(page, "Model")
    plan = page.locator("#model-plan .plan")
    expect(plan.locator(".plan-bar").first).to_be_visible()
    return plan


def choose_loader(page: Page, title: str, name: str) -> None:
    page.locator("#model-loader input").click()
    page.get_by_role("option", name=title, exact=True).click()
    expect(page.locator(f"#model-controls-{name}")).to_be_visible()


def test_the_bar_follows_the_context_as_it_is_typed(new_page: NewPage, app: AppProcess) -> None:
    page = new_page(url=app.url)
    plan = plan_of(page)
    cache = plan.locator("[data-device=cpu] .plan-legend li", has=page.locator("i.kv-cache"))
    bar = plan.locator("[data-device=cpu] .plan-bar .kv-cache")
    expect(cache).to_contain_text("KV cache")
    told, drawn = cache.inner_text(), bar.get_attribute("style") or ""
    field = page.locator("#loader-xllamacpp-context-size input")
    field.fill("8192")
    expect(cache).not_to_have_text(told)
    expect(bar).not_to_have_attribute("style", drawn)
    doubled = cache.inner_text()
    # Not only filled in at once, but also by the arrow keys.
    field.press("ArrowUp")
    expect(cache).not_to_have_text(doubled)
    field.fill("4096")
    expect(cache).to_have_text(told)


def test_the_engine_is_asked_and_what_was_loaded_stands_beside_its_plan(new_page: NewPage, app: AppProcess) -> None:
    page = new_page(url=app.url)
    plan = plan_of(page)
    expect(page.locator("#model-status .loaded")).to_contain_text(re.compile(r"planned .* measured .* %"))
    page.locator("#loader-xllamacpp-context-size input").fill("3072")
    expect(plan).to_contain_text("computed from the file")
    plan.get_by_role("button", name="ask the engine").click()
    expect(plan).to_contain_text("the engine's own figures")
    page.locator("#loader-xllamacpp-context-size input").fill("2560")
    expect(plan).to_contain_text("computed from the file")
    page.locator("#loader-xllamacpp-context-size input").fill("3072")
    expect(plan).to_contain_text("the engine's own figures")


def test_rubbish_in_a_field_is_named_and_loading_stays_possible(new_page: NewPage, app: AppProcess) -> None:
    page = new_page(url=app.url)
    plan = plan_of(page)
    field = page.locator("#loader-xllamacpp-context-size input")
    field.fill("-5")
    expect(plan).to_contain_text("context_size is -5")
    expect(plan.locator(".plan-bar")).to_have_count(0)
    expect(page.locator("#model-load")).to_be_enabled()
    field.fill("2048")
    expect(plan.locator(".plan-bar")).to_be_visible()
    # A slider whose number is out of its bounds: no message of Gradio's own.
    jobs = page.locator("#loader-xllamacpp-slots input[type=number]")
    jobs.fill("9999")
    expect(plan).to_contain_text("slots is 9999")
    expect(page.locator(".toast-body")).to_have_count(0)


def test_another_loader_has_another_plan_and_each_keeps_its_controls(new_page: NewPage, full_card: AppProcess) -> None:
    page = new_page(url=full_card.url)
    plan = plan_of(page)
    expect(plan).to_contain_text("Asked of xllamacpp with nothing.")
    page.locator("#loader-xllamacpp-context-size input").fill("1500")
    expect(plan).to_contain_text("Asked of xllamacpp with context_size=1500.")
    expect(plan).to_contain_text("Fits.")
    choose_loader(page, "Transformers", "transformers")
    expect(plan).to_contain_text("Asked of transformers with")
    choose_loader(page, "llama-cpp-python", "llama-cpp-python")
    expect(plan).to_contain_text(re.compile("Asked of llama-cpp-python with .*context_size=1500"))
    page.locator("#model-defaults").click()
    expect(plan).to_contain_text("Asked of llama-cpp-python with nothing.")


def test_an_alternative_sets_its_controls_also_those_in_closed_folds(new_page: NewPage, full_card: AppProcess) -> None:
    page = new_page(url=full_card.url)
    plan = plan_of(page)
    expect(plan).to_contain_text("Does not fit.")
    expect(page.locator("#model-load")).to_be_enabled()
    layers = page.locator("#loader-xllamacpp-gpu-layers input")
    plan.get_by_role("button", name="24 of 33 layers").click()
    expect(layers).to_have_value("24")
    expect(plan).to_contain_text("Asked of xllamacpp with gpu_layers=24.")
    expect(plan.get_by_role("button", name="24 of 33 layers")).to_be_focused()
    plan.get_by_role("button", name="8-bit KV cache").click()
    expect(plan).to_contain_text("Asked of xllamacpp with cache_type_k=q8_0, cache_type_v=q8_0, gpu_layers=24.")
    plan.get_by_role("button", name="use it").click()
    expect(page.locator("#loader-xllamacpp-context-size input")).to_have_value("1024")
    expect(plan).to_contain_text("context_size=1024, gpu_layers=24.")
    expect(plan).to_contain_text("Fits.")
    expect(plan).to_contain_text("Or a smaller file.")
    # They are the values that a load is made with.
    page.locator("#model-controls-xllamacpp").get_by_role("button", name="Context").click()
    expect(page.locator("#loader-xllamacpp-cache-type-k input")).to_have_value("q8_0")
    choose_loader(page, "llama-cpp-python", "llama-cpp-python")
    expect(page.locator("#loader-llama-cpp-python-gpu-layers input")).to_have_value("24")


def test_the_plan_stays_in_sight_of_the_controls_and_a_broken_file_has_none(
    new_page: NewPage, full_card: AppProcess
) -> None:
    page = new_page(url=full_card.url, viewport={"width": 400, "height": 800})
    plan = plan_of(page)
    page.locator("#model-defaults").scroll_into_view_if_needed()
    expect(plan.locator(".plan-head")).to_be_in_viewport()
    expect(plan.locator(".plan-legend").first).to_be_hidden()
    assert page.evaluate("document.documentElement.scrollWidth") <= 400
    page.locator("#model-search").scroll_into_view_if_needed()
    expect(plan.locator(".plan-legend").first).to_be_visible()
    page.locator('.catalogue-row[data-path$="cut.gguf"]').click()
    expect(page.locator("#model-facts .failure")).to_be_visible()
    expect(plan).to_have_count(0)
