"""The shipped extension: fills placeholders, and only those."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

from extensions.placeholders import fill
from webui.extensions import ExtensionHost, ExtensionState
from webui.paths import Paths
from webui.settings import Settings

NOW = datetime(2026, 3, 14, 15, 9)


def test_placeholders_are_filled_and_other_text_is_not() -> None:
    assert fill("Today is [[weekday]], [[date]], [[time]].", NOW) == "Today is Saturday, 2026-03-14, 15:09."
    assert fill("{{date}} [date] [[dates]] [[ date ]]", NOW) == "{{date}} [date] [[dates]] [[ date ]]"


def test_it_ships_switched_on(tmp_path: Path) -> None:
    paths = Paths(home=tmp_path).ensure()
    host = ExtensionHost(paths, Settings.load(paths, environment={}))
    host.load()
    assert [(item.name, item.state) for item in host.extensions] == [("placeholders", ExtensionState.LOADED)]
    assert host.problems == []
    assert host.change_prompt("plain") == "plain"
    assert str(datetime.now().year) in host.change_prompt("It is [[date]].")
