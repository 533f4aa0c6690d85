"""The record of use: kept over restarts, thinned out to sums, and never in the way of the pool."""

from __future__ import annotations

import logging
import os
import sqlite3
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from webui.planning.record import Conditions, LoadRecord, Record, ReplyRecord
from webui.pool.database import DAY_SECONDS
from webui.pool.metrics import KEPT, Metrics
from webui.pool.metrics_file import SCHEMA_VERSION, Kept

NOW = 1.8e9
UNDER = Conditions("m", "toy", "1.0", "nvidia 550", "s1", 4096, "cpu")
MIB = 1 << 20


@pytest.fixture
def open_metrics() -> Iterator[Callable[..., Metrics]]:
    opened: list[Metrics] = []

    def make(path: Path | None, at: float = NOW, kept: Kept = KEPT) -> Metrics:
        opened.append(Metrics(path, kept=kept, clock=lambda: at))
        return opened[-1]

    yield make
    for metrics in opened:
        metrics.close()


def load(at: float = NOW, code: str = "", **changes: object) -> LoadRecord:
    found = LoadRecord(
        at, UNDER, "failed" if code else "worked", 2.0, 100 * MIB, 105 * MIB, code, "hardware" if code else ""
    )
    return replace(found, **changes)  # type: ignore[arg-type]


def reply(at: float = NOW, code: str = "", **changes: object) -> ReplyRecord:
    found = ReplyRecord(
        at,
        UNDER,
        "failed" if code else "done",
        life=NOW,
        queued=0.25,
        first_token=0.5,
        prompt_tokens=100,
        read=60,
        tokens=41,
        prompt_speed=300.0,
        speed=20.0,
        memory=120 * MIB,
        code=code,
        category="hardware" if code else "",
    )
    return replace(found, **changes)  # type: ignore[arg-type]


def content(record: Record) -> tuple[object, ...]:
    return (
        list(record.loads),
        list(record.replies),
        list(record.days),
        sorted(map(str, record.errors)),
        dict(record.settings),
    )


@pytest.mark.parametrize("on_disk", [True, False])
def test_what_was_added_is_told_at_once_and_after_a_restart(
    tmp_path: Path, open_metrics: Callable[..., Metrics], on_disk: bool
) -> None:
    path = tmp_path / "metrics.sqlite3" if on_disk else None
    metrics = open_metrics(path)
    metrics.add_load(load(), {"threads": 4})
    metrics.add_load(load(NOW + 1, "device_out_of_memory"))
    metrics.add_reply(reply(NOW + 2, gpu_use=80.0, gpu_memory=5))
    metrics.add_reply(reply(NOW + 3, "engine_crashed", speed=None, memory=None))
    before = content(metrics.record())
    metrics.close()
    again = open_metrics(path) if on_disk else metrics
    assert content(again.record()) == before
    loads, replies, (day,), errors, settings = before
    assert (len(loads), len(replies), len(errors), settings) == (2, 2, 2, {"s1": {"threads": 4}})  # type: ignore[arg-type]
    assert (day.loads, day.loads_failed, day.load_seconds) == (2, 1, 2.0)
    assert (day.replies, day.replies_failed, day.tokens, day.memory) == (2, 1, 82, 120 * MIB)
    assert (day.timed_tokens, day.seconds, day.timed_read, day.prompt_seconds) == (40, 2.0, 120, 0.4)
    assert (day.first_tokens, day.first_token_seconds) == (2, 1.0)


def test_single_records_are_thrown_away_after_weeks_and_sums_after_a_year(
    tmp_path: Path, open_metrics: Callable[..., Metrics]
) -> None:
    path, kept = tmp_path / "metrics.sqlite3", Kept(days=42, sums=400)
    for days in (0, 43, 401):
        metrics = open_metrics(path, NOW + days * DAY_SECONDS, kept)
        metrics.add_load(load(NOW + days * DAY_SECONDS, "timed_out"))
        metrics.add_reply(reply(NOW + days * DAY_SECONDS))
        metrics.close()
        found = open_metrics(path, NOW + days * DAY_SECONDS, kept).record(1000)
        assert (len(found.loads), len(found.replies)) == (1, 1), "of the last weeks"
        assert len(found.days) == {0: 1, 43: 2, 401: 2}[days]
        assert len(found.errors) == len(found.days)


def test_records_are_bounded_in_number_and_sums_count_them_all(
    tmp_path: Path, open_metrics: Callable[..., Metrics]
) -> None:
    path = tmp_path / "metrics.sqlite3"
    metrics = open_metrics(path, kept=Kept(records=10))
    for place in range(40):
        metrics.add_reply(reply(NOW + place))
    metrics.close()
    found = open_metrics(path).record()
    assert [one.at for one in found.replies] == [NOW + place for place in range(30, 40)]
    assert found.days[0].replies == 40


def test_where_nothing_can_be_written_memory_serves_and_the_disk_gets_it_later(
    tmp_path: Path, open_metrics: Callable[..., Metrics], caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "not there yet"
    metrics = open_metrics(folder / "metrics.sqlite3")
    with caplog.at_level(logging.WARNING):
        for place in range(5):
            metrics.add_reply(reply(NOW + place))
        assert len(metrics.record().replies) == 5
        assert metrics.record().days[0].replies == 5
    folder.mkdir()
    metrics.add_reply(reply(NOW + 5))
    metrics.close()
    found = open_metrics(folder / "metrics.sqlite3").record()
    assert (len(found.replies), found.days[0].replies) == (6, 6)
    assert caplog.text.count("not kept on disk") <= 1


@pytest.mark.parametrize("damage", ["no database", "torn pages"])
def test_a_damaged_file_is_set_aside(
    tmp_path: Path, open_metrics: Callable[..., Metrics], caplog: pytest.LogCaptureFixture, damage: str
) -> None:
    path = tmp_path / "metrics.sqlite3"
    if damage == "no database":
        path.write_bytes(b"this is no database, and long enough to be one" * 400)
    else:
        first = open_metrics(path)
        for place in range(300):
            first.add_reply(reply(NOW + place))
        first.close()
        torn = bytearray(path.read_bytes())
        torn[4096:] = os.urandom(len(torn) - 4096)
        path.write_bytes(torn)
    with caplog.at_level(logging.WARNING):
        metrics = open_metrics(path)
        metrics.add_reply(reply(NOW + 7))
        metrics.close()
    assert [one.at for one in open_metrics(path).record().replies] == [NOW + 7]
    assert (tmp_path / "metrics.damaged").exists()
    assert "The record of use was damaged" in caplog.text


def test_a_file_of_a_newer_version_is_left_alone(tmp_path: Path, open_metrics: Callable[..., Metrics]) -> None:
    path = tmp_path / "metrics.sqlite3"
    with sqlite3.connect(path) as database:
        database.execute(f"PRAGMA user_version={SCHEMA_VERSION + 1}")
    database.close()
    metrics = open_metrics(path)
    metrics.add_reply(reply())
    assert len(metrics.record().replies) == 1
    metrics.close()
    with sqlite3.connect(path) as database:
        assert database.execute("SELECT name FROM sqlite_master").fetchall() == []
    database.close()


def test_threads_may_add_and_ask_at_once(tmp_path: Path, open_metrics: Callable[..., Metrics]) -> None:
    path = tmp_path / "metrics.sqlite3"
    metrics = open_metrics(path)
    counts: list[int] = []

    def work() -> None:
        for place in range(50):
            metrics.add_reply(reply(NOW + place))
            if place % 10 == 0:
                counts.append(len(metrics.record().replies))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = metrics.record()
    assert (len(found.replies), found.days[0].replies) == (200, 200)
    assert max(counts) <= 200, "nothing is told twice"
    metrics.close()
    assert len(open_metrics(path).record().replies) == 200


def test_what_was_dismissed_stays_so_over_a_restart(tmp_path: Path, open_metrics: Callable[..., Metrics]) -> None:
    path = tmp_path / "metrics.sqlite3"
    metrics = open_metrics(path)
    metrics.dismiss("slower-since|m|toy|version", 1.4)
    assert metrics.dismissed() == {"slower-since|m|toy|version": 1.4}
    metrics.close()
    assert open_metrics(path).dismissed() == {"slower-since|m|toy|version": 1.4}


def test_a_footprint_is_made_of_what_earlier_runs_left(tmp_path: Path, open_metrics: Callable[..., Metrics]) -> None:
    path = tmp_path / "metrics.sqlite3"
    metrics = open_metrics(path)
    for place in range(4):
        metrics.add_load(load(NOW + place))
        metrics.add_reply(reply(NOW + place, life=NOW + place))
        metrics.add_reply(reply(NOW + place, life=NOW + place, memory=150 * MIB))
    assert metrics.footprint("m", "other", 4096) is None
    metrics.close()
    again = open_metrics(path)
    again.dismissed()  # waits until what was before is there
    found = again.footprint("m", "toy", 4096)
    assert found is not None
    assert (found.loads, round(found.ratio, 2), found.growth) == (4, 1.05, 30 * MIB)
