"""Extensions on the page: what is loaded, what failed and why."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from webui.extensions import ExtensionHost
from webui.paths import Paths
from webui.settings import Settings
from webui.tabs.extension_list import extensions_html


@pytest.fixture
def paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Paths:
    monkeypatch.setattr(sys, "path", list(sys.path))
    return Paths(home=tmp_path / "home", project_root=tmp_path / "project").ensure()


def host_of(paths: Paths) -> ExtensionHost:
    host = ExtensionHost(paths, Settings.load(paths, environment={}))
    host.load()
    return host


def test_no_extension_says_so(paths: Paths) -> None:
    assert "There are no extensions" in extensions_html(host_of(paths))


def test_a_failing_one_is_shown_with_its_traceback_and_nothing_of_it_is_html(paths: Paths) -> None:
    for name, code in {
        "listed_bad": "raise RuntimeError('<script>')",
        "listed_good": '"""Does <b>good</b>."""',
        "not-a-name": "",
    }.items():
        (paths.extensions / name).mkdir()
        (paths.extensions / name / "__init__.py").write_text(code)
    shown = extensions_html(host_of(paths))
    assert "listed_bad: failed." in shown
    assert "listed_bad, import: RuntimeError: &lt;script&gt;" in shown
    assert "Traceback (" in shown
    assert "listed_good: loaded. Does &lt;b&gt;good&lt;/b&gt;." in shown
    assert "not-a-name, import: the folder&#x27;s name must be a Python name" in shown
    assert "<script>" not in shown
