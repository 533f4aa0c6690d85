"""The log buffer: what it keeps, what it hides."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from webui.diagnostics.log import KEPT_LINES, LogBuffer, redact, start_logging, stop_logging

LOG = logging.getLogger("webui.test")


@pytest.fixture
def buffer(tmp_path: Path) -> Iterator[LogBuffer]:
    started = start_logging(tmp_path / "logs", debug=True)
    yield started
    stop_logging(started)


def test_lines_are_filtered_by_level_and_text(buffer: LogBuffer) -> None:
    LOG.debug("small talk")
    LOG.warning("Disk is nearly full")
    assert [line.text for line in buffer.lines(logging.WARNING)] == ["Disk is nearly full"]
    assert [line.text for line in buffer.lines(search="SMALL")] == ["small talk"]
    assert buffer.count == 2


def test_only_so_many_lines_are_kept_and_the_count_goes_on(buffer: LogBuffer) -> None:
    for number in range(KEPT_LINES + 10):
        LOG.info("line %d", number)
    assert len(buffer.lines()) == KEPT_LINES
    assert buffer.count == KEPT_LINES + 10


@pytest.mark.parametrize(
    "line",
    [
        "Authorization: Bearer sk-verysecret",
        "api_key=sk-verysecret",
        '{"api-key": "sk-verysecret"}',
        "password: sk-verysecret",
        "--auth=sk-verysecret",
    ],
)
def test_secrets_are_blacked_out_in_memory_and_on_disk(buffer: LogBuffer, tmp_path: Path, line: str) -> None:
    LOG.error(line)
    assert "verysecret" not in buffer.lines()[-1].text
    assert "verysecret" not in (tmp_path / "logs" / "app.log").read_text(encoding="utf-8")
    assert redact("nothing to hide here") == "nothing to hide here"


def test_an_exception_keeps_its_trace(buffer: LogBuffer) -> None:
    try:
        raise ValueError("broken")
    except ValueError:
        LOG.exception("it broke")
    assert "ValueError: broken" in buffer.lines()[-1].text


def test_a_folder_that_cannot_be_made_is_told_and_not_fatal(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    buffer = start_logging(tmp_path / "file" / "logs", debug=False)
    assert "No log file" in buffer.lines()[0].text
    stop_logging(buffer)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_a_full_disk_is_told_once_and_not_on_the_screen(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "app.log").symlink_to("/dev/full")
    buffer = start_logging(tmp_path, debug=False)
    try:
        LOG.warning("first")
        LOG.warning("second")
    finally:
        stop_logging(buffer)
    told = [line.text for line in buffer.lines(search="not written")]
    assert told == ["The log is not written to the disk for now: No space left on device"]
    assert [line.text for line in buffer.lines() if line.text not in told] == ["first", "second"]
    assert capfd.readouterr().err == ""
