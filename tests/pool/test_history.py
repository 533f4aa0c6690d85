"""The history: bounded, kept over restarts, and never in the way of the pool."""

from __future__ import annotations

import json
import logging
import os
import shutil
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from webui.errors import AppError, BrokenPackage, DeviceOutOfMemory, EngineCrashed
from webui.planning.recovery import Attempt, Better, Degraded, StepKind
from webui.pool.database import DAY_SECONDS
from webui.pool.history import History, Rate
from webui.pool.history_file import SCHEMA_VERSION, Kept
from webui.pool.status import Failure, LoadStory, Rung

NOW = time.time()


@pytest.fixture
def open_history() -> Iterator[Callable[..., History]]:
    opened: list[History] = []

    def make(*arguments: object, **keywords: object) -> History:
        opened.append(History(*arguments, **keywords))  # type: ignore[arg-type]
        return opened[-1]

    yield make
    for history in opened:
        history.close()


def rung(loader: str, error: AppError | None = None, state: str | None = None) -> Rung:
    attempt = Attempt(
        StepKind.FEWER_LAYERS, loader, {"gpu_layers": 28, "stop": ["a"]}, {"gpu_layers": 28}, "It is full.", "speed"
    )
    return Rung(attempt, state or ("failed" if error else "worked"), NOW, 1.5, error)  # type: ignore[arg-type]


def story(number: int = 0, at: float = NOW, rungs: tuple[Rung, ...] | None = None) -> LoadStory:
    crash = EngineCrashed("It died.", cause="SIGSEGV", evidence=["line one", "line two"], signal="SIGSEGV")
    return LoadStory(
        model=f"model-{number}",
        path="/models/model.gguf",
        asked_loader="auto",
        cause="load",
        at=at,
        seconds=3.5,
        rungs=rungs if rungs is not None else (rung("toy", crash), rung("other")),
        outcome="loaded",
        loader="other",
        degraded=Degraded("Runs with less.", (Better("Try again as asked", "toy", {"gpu_layers": 33}),)),
    )


def failure(number: int = 0, at: float = NOW, error: AppError | None = None, loader: str = "toy") -> Failure:
    return Failure("load", loader, f"model-{number}", error or EngineCrashed("It died."), at=at)


def plain(error: AppError | None) -> object:
    return error and error.to_dict()


def test_a_story_comes_back_whole_after_a_restart(tmp_path: Path, open_history: Callable[..., History]) -> None:
    path = tmp_path / "history.sqlite3"
    first = open_history(path)
    told = story()
    first.add_load(told)
    first.add_failure(Failure("reply", "toy", "model", DeviceOutOfMemory("Full.", evidence=["no room"], layers=28)))
    first.add_reply("toy")
    before = (first.loads(), first.failures(), first.rates())
    first.close()
    again = open_history(path)
    for loads, failures, rates in (before, (again.loads(), again.failures(), again.rates())):
        (found,) = loads
        assert (found.model, found.outcome, found.loader, found.degraded) == (
            told.model,
            told.outcome,
            told.loader,
            told.degraded,
        )
        assert [one.attempt for one in found.rungs] == [one.attempt for one in told.rungs]
        assert [(one.state, one.seconds, plain(one.error)) for one in found.rungs] == [
            (one.state, one.seconds, plain(one.error)) for one in told.rungs
        ]
        (failed,) = failures
        assert isinstance(failed.error, DeviceOutOfMemory)
        assert (failed.phase, failed.error.facts, failed.error.evidence) == ("reply", {"layers": 28}, ("no room",))
        assert rates == [
            Rate("other", 1, 0),
            Rate("toy", 2, 1, {"hardware": 1}, {"device_out_of_memory": 1}),
        ]


def test_rates_count_every_attempt_and_every_failure(open_history: Callable[..., History]) -> None:
    history = open_history(None)
    broken, crashed = BrokenPackage("It does not import."), EngineCrashed("It died.")
    history.add_load(story(rungs=(rung("toy", broken), rung("toy", state="skipped"), rung("other"))))
    history.add_load(story(rungs=(rung("toy", state="running"),)))
    for _ in range(3):
        history.add_reply("toy")
    for error in (broken, crashed, crashed):
        history.add_failure(failure(error=error))
    other, toy = history.rates()
    assert (other.loader, other.attempts, other.failures, other.share) == ("other", 1, 0, 0.0)
    assert (toy.attempts, toy.failures, toy.share) == (4, 3, 0.75)
    assert toy.by_category == {"hardware": 2, "installation": 1}
    assert toy.by_code == {"engine_crashed": 2, "broken_package": 1}


def test_newest_first_and_no_more_than_asked_for(open_history: Callable[..., History]) -> None:
    history = open_history(None)
    for number in range(8):
        history.add_load(story(number))
        history.add_failure(failure(number))
    assert [one.model for one in history.loads(2)] == ["model-7", "model-6"]
    assert [one.model for one in history.failures(3)] == ["model-7", "model-6", "model-5"]


@pytest.mark.parametrize("restarted", [False, True])
def test_only_the_latest_are_kept(tmp_path: Path, open_history: Callable[..., History], restarted: bool) -> None:
    path, kept = tmp_path / "history.sqlite3", Kept(loads=5, failures=7, days=90)
    history = open_history(path, kept=kept)
    for number in range(20):
        history.add_load(story(number))
        history.add_failure(failure(number))
    if restarted:
        history.close()
        history = open_history(path, kept=Kept(loads=1000, failures=1000, days=90))
    assert [one.model for one in history.loads(99)] == [f"model-{number}" for number in range(19, 14, -1)]
    assert [one.model for one in history.failures(99)] == [f"model-{number}" for number in range(19, 12, -1)]
    assert next(rate for rate in history.rates() if rate.loader == "toy").failures == 20, "the counts are of all"


def test_what_is_older_than_the_days_kept_is_gone(tmp_path: Path, open_history: Callable[..., History]) -> None:
    path, day = tmp_path / "history.sqlite3", [0.0]
    history = open_history(path, clock=lambda: NOW + day[0] * DAY_SECONDS)
    history.add_load(story(1))
    history.add_failure(failure(1))
    day[0] = 91
    assert (history.loads(), history.failures(), history.rates()) == ([], [], [])
    history.add_failure(failure(2, at=NOW + 91 * DAY_SECONDS))
    history.close()
    with sqlite3.connect(path) as database:
        assert database.execute("SELECT count(*) FROM loads").fetchone() == (0,)
        assert database.execute("SELECT count(*) FROM failures").fetchone() == (1,)
        assert database.execute("SELECT count(*) FROM counts").fetchone() == (1,)
    database.close()


def test_evidence_is_kept_and_bounded(tmp_path: Path, open_history: Callable[..., History]) -> None:
    path = tmp_path / "history.sqlite3"
    history = open_history(path)
    flood = EngineCrashed("x" * 10**6, evidence=["y" * 10**6] * 100, output="z" * 10**6, items=list(range(10**5)))
    history.add_failure(failure(error=flood))
    kept = history.failures()[0].error
    assert len(kept.evidence) == 40
    assert set(kept.evidence[0]) == {"y"}
    history.close()
    with sqlite3.connect(path) as database:
        (record,) = database.execute("SELECT record FROM failures").fetchone()
    database.close()
    assert len(record) < 20_000


def test_a_kept_failure_keeps_no_frame_alive(open_history: Callable[..., History]) -> None:
    history = open_history(None)
    try:
        raise EngineCrashed("It died.")
    except EngineCrashed as error:
        history.add_failure(failure(error=error))
    assert history.failures()[0].error.__traceback__ is None


@pytest.mark.parametrize("damage", ["no database", "torn pages"])
def test_a_damaged_file_is_set_aside(
    tmp_path: Path, open_history: Callable[..., History], caplog: pytest.LogCaptureFixture, damage: str
) -> None:
    path = tmp_path / "history.sqlite3"
    if damage == "no database":
        path.write_bytes(b"this is no database, and long enough to be one" * 40)
    else:
        first = open_history(path)
        for number in range(200):
            first.add_failure(failure(number))
        first.close()
        content = bytearray(path.read_bytes())
        content[4096:] = os.urandom(len(content) - 4096)
        path.write_bytes(content)
    with caplog.at_level(logging.WARNING):
        history = open_history(path)
        history.add_failure(failure(7))
        history.close()
    assert [one.model for one in open_history(path).failures()] == ["model-7"]
    assert (tmp_path / "history.damaged").exists()
    assert "set aside" in caplog.text or "lies in" in caplog.text


def test_a_record_that_cannot_be_read_costs_itself_only(tmp_path: Path, open_history: Callable[..., History]) -> None:
    path = tmp_path / "history.sqlite3"
    history = open_history(path)
    for number in range(3):
        history.add_failure(failure(number))
    history.close()
    with sqlite3.connect(path) as database:
        database.execute("UPDATE failures SET record='{\"phase\": 1}' WHERE number=2")
    database.close()
    assert [one.model for one in open_history(path).failures()] == ["model-2", "model-0"]


def test_a_file_of_a_newer_version_is_left_alone(tmp_path: Path, open_history: Callable[..., History]) -> None:
    path = tmp_path / "history.sqlite3"
    with sqlite3.connect(path) as database:
        database.execute(f"PRAGMA user_version={SCHEMA_VERSION + 1}")
    database.close()
    history = open_history(path)
    history.add_failure(failure(1))
    assert [one.model for one in history.failures()] == ["model-1"]
    history.close()
    with sqlite3.connect(path) as database:
        assert database.execute("PRAGMA user_version").fetchone() == (SCHEMA_VERSION + 1,)
        assert database.execute("SELECT name FROM sqlite_master").fetchall() == []
    database.close()


def test_where_nothing_can_be_written_it_is_said_once_and_memory_serves(
    tmp_path: Path, open_history: Callable[..., History], caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "no such folder" / "history.sqlite3"
    with caplog.at_level(logging.WARNING):
        history = open_history(path)
        for number in range(5):
            history.add_failure(failure(number))
        assert len(history.failures()) == 5
        history.close()
    assert caplog.text.count("not kept on disk") == 1


@pytest.mark.skipif(not Path("/dev/full").exists() or shutil.which("mount") is None, reason="needs Linux")
def test_a_full_disk_costs_the_copy_only(
    tmp_path: Path, open_history: Callable[..., History], caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "small"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=128k", "tmpfs", str(folder)], capture_output=True)
    if mounted.returncode != 0:
        pytest.skip("needs the right to mount")
    try:
        with caplog.at_level(logging.WARNING):
            history = open_history(folder / "history.sqlite3")
            for number in range(100):
                history.add_failure(failure(number, error=EngineCrashed("It died.", evidence=["x" * 290] * 40)))
            assert len(history.failures()) == 100
            history.close()
        assert "not kept on disk" in caplog.text
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def test_adding_does_not_wait_for_a_disk_that_is_held_by_another(
    tmp_path: Path, open_history: Callable[..., History]
) -> None:
    path = tmp_path / "history.sqlite3"
    open_history(path).close()
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    try:
        history = open_history(path)
        began = time.monotonic()
        for number in range(50):
            history.add_failure(failure(number))
        assert time.monotonic() - began < 1
    finally:
        other.execute("ROLLBACK")
        other.close()
    history.close()
    assert len(open_history(path).failures()) == 50


def test_two_apps_with_one_home_both_keep_theirs(tmp_path: Path, open_history: Callable[..., History]) -> None:
    path = tmp_path / "history.sqlite3"
    script = (
        "import sys, pathlib, time\n"
        "from webui.errors import EngineHung\n"
        "from webui.pool.history import History\n"
        "from webui.pool.status import Failure\n"
        "history = History(pathlib.Path(sys.argv[1]))\n"
        "for number in range(100):\n"
        "    history.add_failure(Failure('load', 'second', f'model-{number}', EngineHung('It is silent.')))\n"
        "    time.sleep(0.001)\n"
        "history.close()\n"
    )
    history = open_history(path)
    second = subprocess.Popen([sys.executable, "-c", script, str(path)])
    for number in range(100):
        history.add_failure(failure(number, loader="first"))
        time.sleep(0.001)
    assert second.wait(60) == 0
    history.close()
    assert {rate.loader: rate.failures for rate in open_history(path).rates()} == {"first": 100, "second": 100}


def test_threads_may_add_and_ask_at_once(tmp_path: Path, open_history: Callable[..., History]) -> None:
    history = open_history(tmp_path / "history.sqlite3")

    def work() -> None:
        for number in range(50):
            history.add_failure(failure(number))
            history.failures()
            history.rates()

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(history.failures(1000)) == 200
    history.close()
    again = open_history(tmp_path / "history.sqlite3")
    assert (len(again.failures(1000)), again.rates()[0].failures) == (200, 200)


def test_the_file_holds_no_more_than_its_records_say(tmp_path: Path, open_history: Callable[..., History]) -> None:
    path = tmp_path / "history.sqlite3"
    history = open_history(path)
    history.add_load(story())
    history.close()
    with sqlite3.connect(path) as database:
        (record,) = database.execute("SELECT record FROM loads").fetchone()
    database.close()
    assert set(json.loads(record)) == {
        "model",
        "path",
        "asked_loader",
        "cause",
        "at",
        "seconds",
        "rungs",
        "outcome",
        "loader",
        "error",
        "degraded",
    }


def test_a_path_that_is_no_text_is_kept_like_any_other(tmp_path: Path, open_history: Callable[..., History]) -> None:
    odd = os.fsdecode(b"/models/caf\xe9.gguf")
    first = open_history(tmp_path / "history.sqlite3")
    first.add_load(replace(story(1), path=odd))
    first.add_load(story(2))
    first.close()
    second = open_history(tmp_path / "history.sqlite3")
    assert [one.path for one in second.loads()] == ["/models/model.gguf", odd]
