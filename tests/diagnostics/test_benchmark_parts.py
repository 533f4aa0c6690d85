"""The parts of a benchmark without an engine: requests, prompts, figures, comparisons, what is kept."""

from __future__ import annotations

import json
import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.diagnostics.benchmark_runs import depth, loader, run
from webui.diagnostics.benchmark_comparison import LOAD, PEAK_MEMORY, PROMPT, SPEED, compare
from webui.diagnostics.benchmark_loader import parameters_for
from webui.diagnostics.benchmark_prompts import Prompts, text_of
from webui.diagnostics.benchmark_request import BenchmarkRequest, default_depths, read_depths
from webui.diagnostics.benchmark_results import Figure, figure, run_from_json, run_to_dict, run_to_json
from webui.diagnostics.benchmark_store import BenchmarkStore, new_id
from webui.errors import EngineCrashed, InvalidRequest, NotFound, StorageFailed
from webui.loaders import LOADERS
from webui.models.facts import ModelFacts, ModelFormat

FACTS = ModelFacts(Path("/models/tiny.gguf"), ModelFormat.GGUF, (Path("/models/tiny.gguf"),), 1000, "tiny")


def request(**changes: Any) -> BenchmarkRequest:
    return BenchmarkRequest(**{"facts": FACTS, "loaders": ("xllamacpp",), "depths": (0, 1024), **changes})


# --- what is asked for ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "depths"),
    [("", ()), ("0", (0,)), ("4096, 0,1024", (0, 1024, 4096)), ("1k;2K", (1024, 2048)), ("5,5, 5,", (5,))],
)
def test_depths_are_read_as_people_write_them(text: str, depths: tuple[int, ...]) -> None:
    assert read_depths(text) == depths


@pytest.mark.parametrize("text", ["deep", "-1", "1.5", "k", "0x10", "٣", "9999999999", "1 2"])
def test_what_is_no_depth_is_named(text: str) -> None:
    with pytest.raises(InvalidRequest, match="is not a depth"):
        read_depths(text)


@pytest.mark.parametrize(
    "wrong",
    [
        {"loaders": ()},
        {"depths": ()},
        {"depths": tuple(range(13))},
        {"depths": (2_000_000,)},
        {"runs": 0},
        {"reply_tokens": 1},
    ],
)
def test_what_cannot_be_measured_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequest):
        request(**wrong)


@pytest.mark.parametrize(
    ("trained", "depths"), [(None, (0, 1024, 4096)), (8192, (0, 1024, 4096)), (4096, (0, 1024)), (100, (0,))]
)
def test_usual_depths_are_those_the_model_was_trained_for(trained: int | None, depths: tuple[int, ...]) -> None:
    assert default_depths(replace(FACTS, context_length=trained)) == depths


@pytest.mark.parametrize(
    ("changes", "configured", "trained", "context"),
    [
        ({}, {}, 8192, None),  # the usual context is large enough
        ({"depths": (4096,)}, {}, 8192, 4352),  # as large as needed, in steps
        ({"depths": (4096,)}, {}, 4200, 4200),  # no larger than trained for
        ({"depths": (4096,)}, {"context_size": 16384}, 32768, None),  # configured larger
        ({"depths": (4096,)}, {"context_size": 0}, 8192, None),  # the whole of it
        ({"depths": (4096,), "parameters": {"context_size": 512}}, {}, 8192, 512),  # chosen
    ],
)
def test_the_context_follows_the_depths(
    changes: dict[str, Any], configured: dict[str, Any], trained: int, context: int | None
) -> None:
    asked = request(**{**changes, "facts": replace(FACTS, context_length=trained)})
    wanted, notes = parameters_for(asked, LOADERS["xllamacpp"], configured)
    assert wanted.get("context_size") == context
    assert notes == ()


def test_a_parameter_that_a_loader_does_not_have_is_said() -> None:
    wanted, notes = parameters_for(request(parameters={"micro_batch_size": 64}), LOADERS["transformers"], {})
    assert "micro_batch_size" not in wanted
    assert notes == ("transformers has no parameter micro_batch_size.",)


# --- prompts -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("tokens", [1, 2, 64, 1000, 5000])
@pytest.mark.parametrize("letters", [1, 3, 40])
async def test_prompts_have_as_many_tokens_as_wanted(tokens: int, letters: int) -> None:
    """Whatever the tokenizer: `letters` letters a token, and one token at the beginning."""

    async def tokenize(text: str) -> list[int]:
        return [0] * (1 + -(-len(text) // letters))

    prompts = Prompts(tokenize)
    text = await prompts.of(tokens, 1)
    longest_word = -(-13 // letters) + 1
    assert abs(len(await tokenize(text)) - tokens) <= max(longest_word, 0.005 * tokens)


def test_runs_share_no_beginning_and_are_the_same_next_week() -> None:
    texts = [text_of(40, f"1024/{number}") for number in range(200)]
    assert len({text.split()[0] for text in texts}) == 200
    assert texts[7] == text_of(40, "1024/7")


# --- figures -------------------------------------------------------------------------------------------------------


def test_a_figure_knows_its_spread() -> None:
    found = figure([10.0, None, 12.0, 11.0])
    assert found is not None
    assert (found.median, found.lowest, found.highest) == (11.0, 10.0, 12.0)
    assert found.spread == pytest.approx(1 / 11)
    assert Figure((5.0,)).spread is None
    assert figure([None]) is None


def test_a_run_survives_the_way_to_json_and_back() -> None:
    failed = replace(loader("transformers"), error=EngineCrashed("It crashed.", cause="SIGSEGV").to_dict())
    before = run(loader(), failed, parameters={"threads": 2, "path": None})
    after = run_from_json(run_to_json(before))
    assert after == before
    assert isinstance(after.results[1].failure, EngineCrashed)
    told = run_to_dict(before)
    json.dumps(told)
    assert told["results"][0]["tokens_per_second"] == 50.0
    assert told["results"][0]["depths"][1]["tokens_per_second"] == 40.0


# --- comparing -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("before", "now", "factors", "verdict"),
    [
        (50.0, 60.0, (0.99, 1.0, 1.01), "better"),
        (50.0, 40.0, (0.99, 1.0, 1.01), "worse"),
        (50.0, 50.3, (1.0, 1.0, 1.0), "noise"),  # however constant the runs, one per cent is nothing
        (50.0, 52.0, (0.9, 1.0, 1.1), "noise"),
        (50.0, 60.0, (0.9, 1.0, 1.1), "noise"),  # ±20 % on both sides together
        (50.0, 100.0, (1.0, 1.0), "unknown"),  # too few runs
    ],
)
def test_only_differences_beyond_the_noise_count(
    before: float, now: float, factors: tuple[float, ...], verdict: str
) -> None:
    earlier = run(loader("toy", depth(0, before, factors=factors)))
    found = compare(run(loader("toy", depth(0, now, factors=factors))), earlier).at("toy", 0, SPEED)
    assert found is not None
    assert found.change == pytest.approx(now / before - 1)
    assert found.verdict == verdict


def test_less_time_is_better() -> None:
    slower = replace(loader("toy", depth()), load=Figure((2.0, 2.0, 2.0)))
    found = compare(run(loader("toy", depth())), run(slower))
    load = found.at("toy", None, LOAD)
    assert load is not None
    assert (load.verdict, load.change) == ("better", pytest.approx(-0.745))
    assert found.beyond_noise == (load,)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"machine": "another | 8 GiB"}, "different machines"),
        ({"file_bytes": 2000}, "different files"),
        ({"model": "other"}, "different files"),
        ({"disturbed": True}, "disturbed"),
        ({"state": "stopped"}, "did not come to its end"),
        ({"results": (loader("xllamacpp", depth(0, tokens=90)),)}, "differ in length"),
    ],
)
def test_what_makes_runs_incomparable_is_said(changes: dict[str, Any], said: str) -> None:
    assert compare(run(), run()).warnings == ()
    (warning,) = compare(run(), run(**changes)).warnings
    assert said in warning


def test_what_may_explain_a_difference_is_said() -> None:
    earlier = replace(loader(version="0"), parameters={"threads": 4}, device="GPU")
    remarks = " ".join(compare(run(), run(earlier, reply_tokens=64, app_version="0.0.9")).remarks)
    for part in ("64", "0.0.9", "llama.cpp 0", "threads = 4 before, 2 now", "on GPU before"):
        assert part in remarks


def test_memory_is_compared_where_the_same_depths_were_measured() -> None:
    one, both = run(loader("a", depth(0)), depths=(0,)), run(loader("a", depth(0), depth(1024)))
    assert compare(one, one).at("a", None, PEAK_MEMORY) is not None
    found = compare(one, both)
    assert found.at("a", None, PEAK_MEMORY) is None
    assert found.at("a", 0, SPEED) is not None
    assert found.remarks == ("The depths were 0, 1,024 before, 0 now: memory cannot be compared.",)


def test_loaders_and_depths_of_one_side_only() -> None:
    now, before = run(loader("a", depth(0)), loader("b", depth(0))), run(loader("a", depth(9)), loader("c", depth(0)))
    found = compare(now, before)
    assert found.missing == ("b was not measured before.", "c was measured before, and is not now.")
    assert found.at("a", 0, PROMPT) is None


# --- keeping -------------------------------------------------------------------------------------------------------


def named(number: int) -> str:
    return f"20260101-0000{number:02d}-00aa"


def test_the_newest_runs_are_kept(tmp_path: Path) -> None:
    store = BenchmarkStore(tmp_path / "benchmarks", most_runs=3)
    for number in range(5):
        assert store.save(run(name=named(number))) == ""
    assert [one.id for one in store.runs()] == [named(4), named(3), named(2)]
    assert [one.id for one in BenchmarkStore(tmp_path / "benchmarks").runs()] == [named(4), named(3), named(2)]
    assert len(list((tmp_path / "benchmarks").iterdir())) == 3


def test_runs_are_found_by_name_beginning_and_age(tmp_path: Path) -> None:
    store = BenchmarkStore(tmp_path)
    for number in range(12):
        store.save(run(name=named(number)))
    store.save_baseline("before the change", run(name=named(3)))
    assert store.find("last").run.id == named(11)
    assert store.find(named(3)[:-5]).run.id == named(3)
    assert store.find("before the change") == store.baselines()[0]
    for key, said in (("20260101-00001", "2 benchmarks"), ("nothing", "no benchmark"), ("", "no benchmark")):
        with pytest.raises(NotFound, match=said):
            store.find(key)


@pytest.mark.parametrize("name", ["", "../up", "a/b", ".hidden", "last", named(1), "x" * 41, "a\nb"])
def test_names_that_are_no_names(name: str, tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest):
        BenchmarkStore(tmp_path / "benchmarks").save_baseline(name, run())
    assert list(tmp_path.iterdir()) == []


def test_what_is_deleted_is_gone_and_nothing_else(tmp_path: Path) -> None:
    store = BenchmarkStore(tmp_path / "benchmarks")
    store.save(run(name=named(1)))
    store.save_baseline("base", run(name=named(1)))
    (tmp_path / "secret.json").write_text("{}")
    for key in ("../secret", "secret", named(2), ""):
        with pytest.raises(NotFound):
            store.delete(key)
    store.delete(named(1))
    assert [one.key for one in store.all()] == ["base"]
    store.delete("base")
    assert store.all() == []
    assert (tmp_path / "secret.json").exists()


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b"{}", b"\xff\xfe", b"[" * 100_000, run_to_json(run()).replace(b"50.0", b'"fast"')],
    ids=["empty", "cut", "list", "nothing", "bytes", "deep", "words"],
)
def test_a_damaged_file_is_left_aside(content: bytes, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    store = BenchmarkStore(tmp_path)
    store.save(run(name=named(1)))
    (tmp_path / f"{named(2)}.json").write_bytes(content)
    with caplog.at_level(logging.WARNING):
        assert [one.id for one in store.runs()] == [named(1)]
        assert [one.id for one in store.runs()] == [named(1)]
    assert len(caplog.records) == 1  # said once
    assert (tmp_path / f"{named(2)}.json").read_bytes() == content


def test_a_full_disk_costs_the_copy_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*args: object, **options: object) -> None:
        raise OSError(28, "No space left on device")

    store = BenchmarkStore(tmp_path)
    store.save(run(name=named(1)))
    monkeypatch.setattr("webui.diagnostics.benchmark_store.write_atomically", full)
    assert "No space left" in store.save(run(name=named(2)))
    assert [one.id for one in store.runs()] == [named(2), named(1)]
    assert store.find(named(2)).run.id == named(2)
    with pytest.raises(StorageFailed, match="not saved"):
        store.save_baseline("base", run())
    store.delete(named(2))
    assert [one.id for one in store.runs()] == [named(1)]


def test_ids_sort_by_date() -> None:
    assert new_id(1_000_000.0)[:15] < new_id(1_000_001.0)[:15]
