"""Speeds are kept per file, machine and engine; replies become a running median."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

import pytest

from tests.pool.test_experience import model
from webui.pool import measurements as measurements_module
from webui.pool.measurements import Measurements, Speed

BENCH = Speed("toy", {"gpu_layers": -1}, 40.0, 300.0, 1.5, 1 << 30, 512, 100.0, "bench")
REPLY = replace(BENCH, source="reply", load_seconds=None, memory_bytes=None, depth=90)
VERSIONS = {"toy": "1.0", "other": None}


def opened(folder: Path, machine: str = "this one") -> Measurements:
    return Measurements(folder / "measurements.json", lambda: machine)


def test_what_was_measured_is_there_after_a_restart(tmp_path: Path) -> None:
    facts = model(tmp_path)
    deeper = replace(BENCH, depth=4096, tokens_per_second=31.0)
    other = replace(BENCH, loader="other", prompt_tokens_per_second=None)
    for speed in (BENCH, deeper):
        opened(tmp_path).add(facts, "1.0", speed)
    opened(tmp_path).add(facts, None, other)
    assert opened(tmp_path).of(facts, VERSIONS) == (BENCH, deeper, other)
    assert opened(tmp_path).of(facts, {"other": None}) == (other,)
    assert opened(tmp_path).of(model(tmp_path, "another"), VERSIONS) == ()


def test_another_file_machine_or_engine_was_not_measured(tmp_path: Path) -> None:
    facts = model(tmp_path)
    opened(tmp_path).add(facts, "1.0", BENCH)
    assert opened(tmp_path).of(facts, {"toy": "1.1"}) == ()
    opened(tmp_path).add(facts, "1.0", BENCH)
    assert opened(tmp_path, "with a new GPU").of(facts, VERSIONS) == ()
    opened(tmp_path).add(facts, "1.0", BENCH)
    facts.files[1].write_bytes(b"other weights")
    assert opened(tmp_path).of(facts, VERSIONS) == ()


def test_a_new_engine_begins_with_new_measurements(tmp_path: Path) -> None:
    facts = model(tmp_path)
    kept = opened(tmp_path)
    kept.add(facts, "1.0", replace(REPLY, tokens_per_second=10.0))
    kept.add(facts, "2.0", replace(REPLY, tokens_per_second=50.0))
    assert [speed.recent for speed in kept.of(facts, {"toy": "2.0"})] == [(50.0,)]


def test_measured_again_replaces_and_other_settings_stand_beside(tmp_path: Path) -> None:
    facts, kept = model(tmp_path), opened(tmp_path)
    tuned = replace(BENCH, parameters={"gpu_layers": 12}, source="tune")
    again = replace(BENCH, tokens_per_second=44.0, measured_at=200.0)
    for speed in (BENCH, tuned, again):
        kept.add(facts, "1.0", speed)
    assert kept.of(facts, VERSIONS) == (tuned, again)


def test_replies_become_a_running_median_by_depth(tmp_path: Path) -> None:
    facts = model(tmp_path)
    for second, speed in enumerate((40.0, 42.0, 5.0)):  # the last while the machine did something else
        opened(tmp_path).add(
            facts, "1.0", replace(REPLY, tokens_per_second=speed, measured_at=second, depth=90 + second)
        )
    opened(tmp_path).add(facts, "1.0", replace(REPLY, tokens_per_second=20.0, depth=5000))
    shallow, deep = opened(tmp_path).of(facts, VERSIONS)
    assert (shallow.tokens_per_second, shallow.recent, shallow.depth) == (40.0, (40.0, 42.0, 5.0), 0)
    assert shallow.measured_at == 2
    assert (deep.tokens_per_second, deep.depth) == (20.0, 4096)


def test_a_reply_that_tells_no_prompt_speed_keeps_the_one_known(tmp_path: Path) -> None:
    facts, kept = model(tmp_path), opened(tmp_path)
    kept.add(facts, "1.0", REPLY)
    kept.add(facts, "1.0", replace(REPLY, prompt_tokens_per_second=None))
    assert [speed.prompt_tokens_per_second for speed in kept.of(facts, VERSIONS)] == [300.0]


def test_it_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measurements_module, "MOST_FILES", 2)
    monkeypatch.setattr(measurements_module, "MOST_PER_LOADER", 3)
    kept = opened(tmp_path)
    facts = [model(tmp_path, f"model{number}") for number in range(3)]
    for one in facts:
        kept.add(one, None, replace(BENCH, loader="other"))
        for depth in range(5):
            kept.add(one, "1.0", replace(BENCH, depth=depth))
    assert [len(kept.of(one, VERSIONS)) for one in facts] == [0, 4, 4]
    for _ in range(20):
        kept.add(facts[2], "1.0", REPLY)
    assert len(kept.of(facts[2], {"toy": "1.0"})[-1].recent) == 9


def test_forget(tmp_path: Path) -> None:
    facts, kept = model(tmp_path), opened(tmp_path)
    kept.add(facts, "1.0", BENCH)
    kept.forget(facts)
    assert opened(tmp_path).of(facts, VERSIONS) == ()


@pytest.mark.parametrize(
    "known",
    [
        '{"loader": "toy"}',
        '{"loader": "toy", "parameters": {}, "tokens_per_second": "fast", "recent": []}',
        '{"loader": "toy", "parameters": [], "tokens_per_second": 1.0, "recent": []}',
        '{"loader": "toy", "parameters": {}, "tokens_per_second": 0, "recent": [], "colour": "red"}',
        "7",
    ],
)
def test_what_cannot_be_a_measurement_is_left_out(tmp_path: Path, known: str) -> None:
    facts, file = model(tmp_path), tmp_path / "measurements.json"
    kept = opened(tmp_path)
    kept.add(facts, "1.0", BENCH)
    text = file.read_text()
    entry = text[text.index("[{") + 1 : text.rindex("]}}")]
    broken = entry.replace(entry[entry.index('"known": ') + 9 : -1], known)
    file.write_text(text.replace(entry, f"{broken}, {entry}"))
    assert kept.of(facts, VERSIONS) == (BENCH,)


def test_a_disk_that_takes_nothing_costs_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "a file").write_text("")
    facts, kept = model(tmp_path), Measurements(tmp_path / "a file" / "measurements.json", lambda: "this one")
    with caplog.at_level(logging.WARNING):
        for depth in (0, 512):
            kept.add(facts, "1.0", replace(BENCH, depth=depth))
    assert len(kept.of(facts, VERSIONS)) == 2
    assert caplog.text.count("What was measured is not kept on disk for now") == 1


def test_another_choice_of_gpus_has_measurements_of_its_own(tmp_path: Path) -> None:
    facts, chosen = model(tmp_path), [""]
    kept = Measurements(tmp_path / "measurements.json", lambda: "this one", lambda: chosen[0])
    kept.add(facts, "1.0", BENCH)
    chosen[0] = "GPU-one"
    assert kept.of(facts, VERSIONS) == ()
    one = replace(BENCH, tokens_per_second=20.0)
    kept.add(facts, "1.0", one)
    assert kept.of(facts, VERSIONS) == (one,)
    chosen[0] = ""
    assert kept.of(facts, VERSIONS) == (BENCH,)
