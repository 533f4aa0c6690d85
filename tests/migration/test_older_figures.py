"""How fast models ran in the older app is seen after its settings were carried over, and nowhere taken for our own."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from webui.cli import main
from webui.migration.older_figures import older_figures
from webui.paths import Paths
from webui.tabs.trends import older_html

RECORDS = [
    {"model": "/m/phi.gguf", "backend": "llamacpp", "tokens_per_second": 30, "load_time": 2.5, "timestamp": 1738576800},
    {"model": "phi.gguf", "backend": "llamacpp", "tokens_per_second": 40, "timestamp": 1741000000},
    {"model": "old <b>", "backend": "exllama", "tokens_per_sec": 80},
]


@pytest.fixture
def home(isolation: Path, monkeypatch: pytest.MonkeyPatch) -> Paths:
    monkeypatch.setenv("HOME", str(isolation))
    paths = Paths.from_environment().ensure()
    (paths.home / "performance").mkdir()
    (paths.home / "performance" / "metrics.json").write_text(json.dumps({"records": RECORDS}))
    return paths


def test_they_are_listed_after_the_migration_and_gone_when_it_is_undone(
    home: Paths, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["migrate", "--yes"]) == 0
    capsys.readouterr()
    assert main(["stats"]) == 0
    nothing, _, head, titles, first, second = capsys.readouterr().out.splitlines()
    assert nothing.startswith("Nothing was recorded") and "older app" in head and titles.split()[0] == "model"
    assert first.split() == ["phi", "llama-cpp-python", "2", "35.0", "–", "2.50", "s", "2025-02-03", "2025-03-03"]
    assert second.split()[:3] == ["old", "<b>", "exllama"]
    assert main(["stats", "--json", "--model", "phi"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["models"] == report["trends"] == [] and [one["speed"] for one in report["older"]] == [35]
    assert not home.metrics.exists()
    assert main(["migrate", "--rollback"]) == 0
    assert older_figures(home.older_speeds) == [] and main(["stats", "--model", "phi"]) == 1


def test_the_page_shows_them_as_the_older_apps(home: Paths) -> None:
    assert older_html(older_figures(home.older_speeds)) == ""
    assert main(["migrate", "--yes"]) == 0
    shown = older_html(older_figures(home.older_speeds))
    assert "Measured by the older app" in shown and "old &lt;b&gt;" in shown and "03 Feb 2025 – 03 Mar 2025" in shown


def test_a_file_that_somebody_spoilt_says_what_it_can(tmp_path: Path) -> None:
    file = tmp_path / "older_speeds.json"
    items = [{"model": "a", "tokens_per_second": 5, "at": 1e300, "load_seconds": "x"}, {"tokens_per_second": "fast"}, 3]
    file.write_text(json.dumps(items))
    (one,) = older_figures(file)
    assert (one.model, one.loader, one.count, one.speed, one.load_seconds, one.first) == ("a", "", 1, 5.0, None, None)
    file.write_text("{")
    assert older_figures(file) == []
