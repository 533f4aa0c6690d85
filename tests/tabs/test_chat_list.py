"""The list of conversations."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from webui.tabs.chat_list import list_html

NOW = datetime(2026, 3, 10, 15, 0)


@dataclass(frozen=True)
class Entry:
    id: str
    title: str
    updated_at: float


def entry(name: str, ago: timedelta) -> Entry:
    return Entry(name, f"Title {name}", (NOW - ago).timestamp())


def test_conversations_stand_under_their_day() -> None:
    html = list_html(
        [
            entry("a", timedelta(hours=1)),
            entry("b", timedelta(hours=16)),
            entry("c", timedelta(days=3)),
            entry("d", timedelta(days=30)),
        ],
        "b",
        now=NOW,
    )
    headings = [html.index(f"<h3>{name}</h3>") for name in ("Today", "Yesterday", "Last seven days", "Earlier")]
    assert headings == sorted(headings)
    assert html.count("<ul") == html.count("</ul>") == 4
    assert html.count("aria-current") == 1
    assert html.index("Title a") < headings[1] < html.index("Title b")


def test_a_clock_that_went_back_does_not_matter() -> None:
    assert "<h3>Today</h3>" in list_html([entry("a", -timedelta(days=2))], "", now=NOW)


def test_a_title_is_only_ever_text() -> None:
    html = list_html([Entry('"><x', "<img src=x onerror=alert(1)>", NOW.timestamp())], "", now=NOW)
    assert "<img" not in html
    assert "&quot;&gt;&lt;x" in html


def test_an_empty_list_says_why() -> None:
    assert "Nothing found for “&lt;b&gt;”" in list_html([], "", searched="<b>")
    assert "will be listed" in list_html([], "")
