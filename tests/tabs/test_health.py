"""The health list on the page: marks, sentences, buttons only where the page can do it, and what a button does."""

from __future__ import annotations

from pathlib import Path

from tests.loaders import toy
from webui.context import AppContext
from webui.diagnostics.health import Check, CheckState
from webui.errors import SetupFailed
from webui.paths import Paths
from webui.settings import Settings
from webui.tabs.health import LINES, Doing, Health, doing_html, health_html

EVIL = "<img src=x onerror=alert(1)>"


def test_checks_have_a_mark_and_a_fix_where_one_is_needed() -> None:
    html = health_html([
        Check("Disk", CheckState.OK, "Enough.", "not shown"),
        Check("Driver", CheckState.PROBLEM, EVIL, "Update it."),
    ])  # fmt: skip
    assert "✓" in html
    assert "✗" in html
    assert "Update it." in html
    assert "not shown" not in html
    assert "<img" not in html


def test_what_the_page_can_do_has_a_button_that_names_no_file() -> None:
    aside = Check("Models", CheckState.WARNING, "Broken.", "Or move it aside", "set-aside secret-place/x.gguf")
    html = health_html([aside])
    assert "Move secret-place/x.gguf aside</button>" in html
    assert 'data-fix="' in html
    assert "set-aside" not in html, "the action itself stays here; the button carries its mark"
    assert "Or move it aside:<" in html


def test_what_was_not_tried_points_to_the_button_that_tries_it() -> None:
    tried = Check("Backend xllamacpp", CheckState.OK, "1.0 on cpu.")
    assert "Look at everything" not in health_html([tried])
    html = health_html([tried, Check("Model files", CheckState.OK, "Not looked into yet.", untried=True)])
    assert html.count("Look at everything") == 1
    assert "app.py" not in html


def test_what_needs_the_app_ended_has_none() -> None:
    html = health_html([Check("Databases", CheckState.PROBLEM, "Damaged.", "End the app, then save it", "recover a b")])
    assert "<button" not in html
    assert "End the app, then save it: python3 app.py doctor --fix &#x27;recover a b&#x27;" in html


def test_what_is_being_done_is_told_line_by_line() -> None:
    doing = Doing("Looking at everything")
    assert doing_html(None) == ""
    for number in range(20):
        doing.say(f"step {number} {EVIL}", number / 20)
    html = doing_html(doing)
    assert "under way … 95 %" in html
    assert html.count("<li>") == LINES
    assert "<img" not in html
    doing.over = True
    assert "done" in doing_html(doing) and 'data-over="true"' in doing_html(doing)
    doing.error = SetupFailed("pip failed.")
    assert "Looking at everything: not done" in doing_html(doing)


async def test_a_file_that_was_broken_since_the_start_is_told_and_put_back(tmp_path: Path) -> None:
    paths = Paths(tmp_path).ensure()
    loaders = {toy.SPEC.name: toy.SPEC}
    context = AppContext.create(paths, Settings.load(paths, environment={}, loaders=loaders), loaders=loaders)
    try:
        context.save_settings({"limits.queue_length": 7})
        paths.settings_file.write_text("limits: [")
        health = Health(context)
        (told,) = [check for check in await health.look() if check.name == "Configuration"]
        assert (told.state, told.action) == (CheckState.PROBLEM, "restore settings.yaml")
        assert context.settings.limits.queue_length == 7
    finally:
        await context.close()
