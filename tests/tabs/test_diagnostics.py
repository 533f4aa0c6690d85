"""What the Diagnostics tab shows: workers and lines of the log."""

from __future__ import annotations

import logging

from webui.diagnostics.log import LogLine
from webui.pool import WorkerFacts
from webui.tabs.diagnostics import SHOWN_LINES, log_lines_html, workers_html

EVIL = "<img src=x onerror=alert(1)>"


def test_workers_are_listed_with_their_memory() -> None:
    html = workers_html([WorkerFacts(4711, "toy", EVIL, "serving", 3 << 20, 100.0)], now=175.0)
    for part in ("4711", "toy", "serving", "3.00 MiB", "1 min"):
        assert part in html
    assert "<img" not in html
    assert "No worker" in workers_html([], now=0)


def test_the_log_shows_its_last_lines_as_text() -> None:
    lines = [LogLine(number, 0.0, logging.WARNING, "webui.pool", f"line {number} {EVIL}") for number in range(500)]
    html = log_lines_html(lines)
    assert f"line {500 - SHOWN_LINES - 1} " not in html
    assert f"line {500 - SHOWN_LINES} " in html
    assert "WARNING" in html
    assert "pool: line 499" in html
    assert "<img" not in html
