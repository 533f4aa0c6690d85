"""The Model tab in a real browser: choosing, controls, loading, swapping, failing, unloading, saving."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Page, expect

from tests.app_process import AppProcess, running_app
from tests.browser.conftest import NewPage, open_tab
from tests.builders.gguf import architecture_file, tiny_llama_bpe

pytestmark = pytest.mark.browser

EVIL = "<img src=x onerror=alert(1)>.gguf"


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """A tiny model that runs, one that no engine knows, a file cut short, an empty one, and one with markup as name."""
    folder = tmp_path_factory.mktemp("library")
    tiny = tiny_llama_bpe(folder / "tiny.gguf", name="Tiny")
    strange = architecture_file(folder / "strange.gguf", "mamba")
    cut = folder / "cut.gguf"
    cut.write_bytes(tiny.read_bytes()[:-2000])
    empty = folder / "empty.gguf"
    empty.touch()
    evil = folder / EVIL
    evil.write_bytes(b"no model at all")
    return [tiny, strange, cut, empty, evil]


@pytest.fixture(scope="module")
def own_app(tmp_path_factory: pytest.TempPathFactory, library: list[Path]) -> Iterator[AppProcess]:
    with running_app(tmp_path_factory.mktemp("model-home"), library) as process:
        process.wait_for("ready")
        yield process


@pytest.fixture
def model_page(new_page: NewPage, own_app: AppProcess) -> Page:
    page = new_page(url=own_app.url)
    page.on("dialog", lambda dialog: pytest.fail(f"a file's name ran as script: {dialog.message}"))
    open_tab(page, "Model")
    expect(page.locator(".catalogue-row")).to_have_count(5)
    return page


SETTLING_MILLISECONDS = 600


def choose(page: Page, name: str) -> None:
    page.locator(f'.catalogue-row[data-path$="{name}"]').click()
    expect(page.locator(f'.catalogue-row[data-path$="{name}"]')).to_have_attribute("aria-pressed", "true")
    expect(page.locator("#model-facts .chosen-path, #model-facts .failure").first).to_be_visible()
    # The controls take the model's values over some frames after its facts; what is typed meanwhile would be lost.
    page.wait_for_timeout(SETTLING_MILLISECONDS)


def choose_loader(page: Page, name: str) -> None:
    page.locator("#model-loader input").click()
    page.get_by_role("option", name=name, exact=True).click()


def answers(app: AppProcess) -> bool:
    """Whether the model that is loaded replies."""
    body = {"messages": [{"role": "user", "content": "hello"}], "max_tokens": 2}
    return httpx.post(f"{app.url}/v1/chat/completions", json=body, timeout=60).status_code == 200


def test_the_model_in_use_is_shown_first_and_a_file_is_loaded_with_the_loader_auto_takes(
    model_page: Page, own_app: AppProcess
) -> None:
    expect(model_page.locator("#model-facts")).to_contain_text("Quantisation")
    choose(model_page, "tiny.gguf")
    expect(model_page.locator("#model-facts h3")).to_have_text("tiny")
    expect(model_page.locator('#model-loaders li[data-loader="xllamacpp"]')).to_contain_text("auto")
    expect(model_page.locator('#model-loaders li[data-loader="ctransformers"]')).to_contain_text("✗")
    context_size = model_page.locator("#loader-xllamacpp-context-size input")
    context_size.fill("512")
    model_page.locator("#loader-xllamacpp-threads input").fill("1")
    model_page.locator("#model-load").click()
    expect(model_page.locator("#model-status .loaded")).to_contain_text("512 tokens")
    expect(model_page.locator("#model-status .loaded")).to_contain_text("CPU")
    assert answers(own_app)


def test_controls_follow_the_loader_at_once_keep_edits_and_share_values_by_name(model_page: Page) -> None:
    choose(model_page, "tiny.gguf")
    expect(model_page.locator("#loader-xllamacpp-context-size input")).to_be_visible()
    choose_loader(model_page, "llama-cpp-python")
    other = model_page.locator("#loader-llama-cpp-python-context-size input")
    expect(other).to_be_visible()
    expect(model_page.locator("#loader-xllamacpp-context-size")).to_have_count(0)
    other.fill("333")
    choose_loader(model_page, "xllamacpp")
    expect(model_page.locator("#loader-xllamacpp-context-size input")).to_have_value("333")
    choose_loader(model_page, "llama-cpp-python")
    expect(other).to_have_value("333")
    model_page.locator("#model-defaults").click()
    expect(other).not_to_have_value("333")


def test_nonsense_in_a_control_is_named_and_nothing_is_loaded(model_page: Page, own_app: AppProcess) -> None:
    before = own_app.health()["model"]
    choose(model_page, "tiny.gguf")
    model_page.locator("#loader-xllamacpp-context-size input").fill("-5")
    model_page.locator("#model-load").click()
    expect(model_page.locator("#model-message .failure")).to_contain_text("context_size is -5")
    assert own_app.health()["model"] == before


@pytest.mark.parametrize(
    ("name", "reason"), [("cut.gguf", "incomplete"), ("empty.gguf", "empty"), (EVIL, "no known model format")]
)
def test_a_broken_file_says_what_is_wrong_and_cannot_be_loaded(
    model_page: Page, own_app: AppProcess, name: str, reason: str
) -> None:
    choose(model_page, name)
    failure = model_page.locator("#model-facts .failure")
    expect(failure).to_contain_text(reason)
    expect(failure).to_contain_text("What to do:")
    expect(model_page.locator("#model-load")).to_be_disabled()
    assert model_page.locator("#model-facts img, #model-catalogue img").count() == 0
    assert answers(own_app)


def test_a_failed_load_shows_the_engines_account_and_the_old_model_still_answers(
    model_page: Page, own_app: AppProcess
) -> None:
    before = own_app.health()["model"]
    choose(model_page, "strange.gguf")
    expect(model_page.locator("#model-load")).to_be_enabled()
    model_page.locator("#model-load").click()
    failure = model_page.locator("#model-status .failure")
    expect(failure).to_contain_text("stays loaded")
    expect(failure).to_contain_text("What to do:")
    failure.locator("summary").click()
    expect(failure.locator("pre")).to_be_visible()
    assert own_app.health()["model"] == before
    assert answers(own_app)
    # A page opened afterwards is told as well.
    model_page.reload()
    open_tab(model_page, "Model")
    expect(model_page.locator("#model-status .failure")).to_contain_text("stays loaded")


def test_a_load_goes_on_without_its_page_and_is_cancelled_from_another(
    model_page: Page, own_app: AppProcess, new_page: NewPage
) -> None:
    before = own_app.health()["model"]
    choose(model_page, "tiny.gguf")
    choose_loader(model_page, "Transformers")  # its engine takes seconds to import: time to look
    model_page.locator("#model-load").click()
    expect(model_page.locator("#model-status .progress")).to_be_visible()
    model_page.close()
    page = new_page(url=own_app.url)
    open_tab(page, "Model")
    expect(page.locator("#model-status .progress")).to_be_visible()
    expect(page.locator("#model-load")).to_be_disabled()
    page.locator("#model-cancel").click()
    expect(page.locator("#model-message")).to_contain_text("Loading was cancelled")
    expect(page.locator("#model-status .progress")).to_have_count(0)
    assert own_app.health()["model"] == before
    assert answers(own_app)


def test_saved_parameters_come_back_and_are_forgotten_again(model_page: Page, own_app: AppProcess) -> None:
    choose(model_page, "tiny.gguf")
    choose_loader(model_page, "llama-cpp-python")
    control = model_page.locator("#loader-llama-cpp-python-context-size input")
    control.fill("77")
    model_page.locator("#model-save").click()
    expect(model_page.locator("#model-message")).to_contain_text("Saved for tiny")
    saved = json.loads((own_app.home / "model_settings.json").read_text())
    assert [entry["loader"] for entry in saved.values()] == ["llama-cpp-python"]
    model_page.reload()
    open_tab(model_page, "Model")
    choose(model_page, "tiny.gguf")
    expect(model_page.locator("#model-loader input")).to_have_value("llama-cpp-python")
    expect(control).to_have_value("77")
    model_page.locator("#model-forget").click()
    expect(model_page.locator("#model-message")).to_contain_text("forgotten")
    expect(model_page.locator("#model-forget")).to_have_count(0)
    assert json.loads((own_app.home / "model_settings.json").read_text()) == {}


def test_any_file_of_this_machine_can_be_opened_by_its_path_and_rubbish_is_explained(
    model_page: Page, library: list[Path], tmp_path: Path
) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    elsewhere = tmp_path / "elsewhere.gguf"
    shutil.copy(library[0], elsewhere)
    for path, said in (
        (str(folder), "is a folder and not a model"),
        (str(tmp_path / "none.gguf"), "What to do:"),
        ("", "No path is given"),
        (str(elsewhere), "Quantisation"),
    ):
        model_page.locator("#model-path textarea, #model-path input").fill(path)
        model_page.locator("#model-open").click()
        expect(model_page.locator("#model-facts")).to_contain_text(said)
    expect(model_page.locator("#model-load")).to_be_enabled()


def test_the_search_finds_by_every_word(model_page: Page) -> None:
    search = model_page.locator("#model-search textarea, #model-search input")
    search.fill("tiny f16")
    expect(model_page.locator(".catalogue-row")).to_have_count(2)  # tiny.gguf, and the mamba whose header says Tiny
    search.fill("nothing like it")
    expect(model_page.locator("#model-catalogue")).to_contain_text("No model matches")


def test_unloading_ends_the_worker(model_page: Page, own_app: AppProcess) -> None:
    model_page.locator("#model-unload").click()
    expect(model_page.locator("#model-status")).not_to_contain_text("is loaded")
    expect(model_page.locator("#model-unload")).to_have_count(0)
    assert own_app.wait_for("empty")["model"] is None
    assert own_app.workers() == []


@pytest.mark.parametrize("width", [360, 1280])
def test_no_tab_is_wider_than_the_page(new_page: NewPage, own_app: AppProcess, width: int) -> None:
    page = new_page(url=own_app.url, viewport={"width": width, "height": 740})
    for name in ("Model", "Backend", "Hardware", "Diagnostics"):
        tab = page.get_by_role("tab", name=name, exact=True)
        if not tab.is_visible():
            page.locator("#page-tabs .overflow-menu > button").click()
            page.locator("#page-tabs .overflow-dropdown button", has_text=re.compile(f"^{name}$")).click()
        else:
            tab.click()
        expect(page.locator(f"#tab-{name.lower()}")).to_be_visible()
        assert page.evaluate("document.documentElement.scrollWidth") <= width
