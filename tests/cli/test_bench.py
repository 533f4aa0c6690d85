"""`bench` with real engines: tables, JSON, what is kept, and comparisons."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.builders.gguf import tiny_llama_spm
from tests.diagnostics.benchmark_runs import depth, loader, run
from webui.cli import main
from webui.cli.ending import FAILED, WRONG_USAGE
from webui.diagnostics.benchmark_store import BenchmarkStore
from webui.paths import PROJECT_ROOT, Paths

QUICK = ["--runs", "1", "--depths", "0,200", "--tokens", "8", "--set", "threads=1"]


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return tiny_llama_spm(tmp_path / "tiny.gguf")


@pytest.fixture
def store() -> BenchmarkStore:
    return BenchmarkStore(Paths.from_environment().benchmarks)


def told(capfd: pytest.CaptureFixture[str]) -> Any:
    return json.loads(capfd.readouterr().out)


@pytest.mark.engine
def test_each_loader_at_each_depth(model: Path, store: BenchmarkStore, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", str(model), "--loaders", "xllamacpp,ctransformers", *QUICK, "--json"]) == 0
    report = told(capfd)
    for result in report["results"]:
        assert result["error"] is None, result
        assert result["parameters"]["threads"] == 1
        assert result["peak_memory_bytes"] >= result["memory_bytes"] > 1_000_000
        for name in ("load_seconds", "prompt_tokens_per_second", "tokens_per_second", "first_token_seconds"):
            assert result[name] > 0, name
        shallow, deep = result["depths"]
        assert abs(shallow["prompt_tokens"][0] - 64) <= 4
        assert abs(deep["prompt_tokens"][0] - 200) <= 4
        assert deep["tokens_per_second"] > 0
    assert [result["loader"] for result in report["results"]] == ["xllamacpp", "ctransformers"]
    assert [one.id for one in store.runs()] == [report["id"]]


@pytest.mark.engine
def test_a_run_against_a_baseline(starter_model: Path, capfd: pytest.CaptureFixture[str]) -> None:
    quick = ["--loaders", "xllamacpp,ctransformers", "--runs", "1", "--depths", "0", "--tokens", "8"]
    assert main(["bench", str(starter_model), *quick, "--save-baseline", "now"]) == 0
    out = capfd.readouterr().out
    assert "BPE tokenizer" in out  # the loader that cannot, and why
    assert "xllamacpp" in out
    assert main(["bench", str(starter_model), *quick, "--baseline", "now", "--json"]) == 0
    comparison = told(capfd)["comparison"]
    assert comparison["warnings"] == []
    assert comparison["missing"] == ["ctransformers was not measured before."]
    differences = {(one["what"], one["depth"]): one for one in comparison["differences"]}
    assert differences["generation speed", 0]["verdict"] == "unknown"  # one run says nothing of noise
    assert main(["bench", "--list"]) == 0
    lines = capfd.readouterr().out.splitlines()
    assert len(lines) == 4
    assert lines[1].startswith("now ")
    assert main(["bench", "--compare", "last"]) == 0
    assert "too few runs to tell" in capfd.readouterr().out


@pytest.mark.engine
@pytest.mark.skipif(sys.platform == "win32", reason="there is no way to send Ctrl-C to one process")
def test_ctrl_c_keeps_what_was_measured(model: Path, store: BenchmarkStore) -> None:
    script = "import sys; from webui.cli import main; sys.exit(main())"
    arguments = ["bench", str(model), "--loaders", "xllamacpp", "--runs", "1000", "--depths", "0", "--tokens", "2"]
    with subprocess.Popen(
        [sys.executable, "-c", script, *arguments], cwd=PROJECT_ROOT, text=True, stderr=subprocess.PIPE
    ) as process:
        assert process.stderr is not None
        assert any("run " in line for line in process.stderr)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in err
    (kept,) = store.runs()
    assert kept.state == "stopped"
    assert 0 < len(kept.results[0].depths[0].prompt_tokens) < 1000


@pytest.mark.engine
def test_nothing_could_be_measured(starter_model: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", str(starter_model), "--loaders", "ctransformers", "--runs", "1"]) == FAILED
    assert "BPE tokenizer" in capfd.readouterr().out


@pytest.mark.engine
def test_overhead_compares_the_app_with_the_bare_engine(model: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", str(model), "--loaders", "xllamacpp", "--runs", "1", "--overhead", "--json"]) == 0
    (result,) = told(capfd)["results"]
    assert result["app"]["completion_tokens"] == result["engine"]["completion_tokens"] == 128
    assert result["speed_ratio"] == pytest.approx(
        result["app"]["tokens_per_second"] / result["engine"]["tokens_per_second"]
    )


def test_overhead_needs_a_bare_engine(model: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", str(model), "--loaders", "ctransformers", "--overhead"]) == FAILED
    assert "bare engine" in capfd.readouterr().err


def test_runs_that_are_kept_are_compared(store: BenchmarkStore, capfd: pytest.CaptureFixture[str]) -> None:
    store.save_baseline("old", run(loader("xllamacpp", depth(0, 50.0)), name="20260101-000000-aaaa"))
    store.save(run(loader("xllamacpp", depth(0, 60.0)), name="20260102-000000-bbbb"))
    store.save(run(loader("xllamacpp", depth(0, 40.0)), name="20260103-000000-cccc", machine="another"))
    assert main(["bench", "--baseline", "old"]) == 0
    out = capfd.readouterr().out
    assert "! They ran on different machines: a processor | 16 GiB before, another now." in out
    (line,) = (line for line in out.splitlines() if "generation speed" in line)
    assert line.split() == [
        "xllamacpp",
        "0",
        "generation",
        "speed",
        *["50.0", "tok/s", "40.0", "tok/s", "-20.0%", "±1.8%", "worse"],
    ]
    assert main(["bench", "--compare", "last", "--json"]) == 0
    comparison = told(capfd)["comparison"]
    assert (comparison["before"], comparison["now"]) == ("20260102-000000-bbbb", "20260103-000000-cccc")
    assert main(["bench", "--save-baseline", "new"]) == 0
    assert store.find("new").run.id == "20260103-000000-cccc"
    capfd.readouterr()
    assert main(["bench", "--list", "--json"]) == 0
    assert [one["baseline"] for one in told(capfd)] == ["new", "old", None, None]


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        ([], WRONG_USAGE, "no FILE"),
        (["--compare", "last"], WRONG_USAGE, "no run"),
        (["--baseline", "nothing"], FAILED, "no benchmark called 'nothing'"),
        (["--baseline", "a", "--compare", "b"], WRONG_USAGE, "exclude"),
        (["FILE", "--depths", "deep"], FAILED, "not a depth"),
        (["FILE", "--set", "temperature=1"], WRONG_USAGE, "belongs to sampling"),
        (["FILE", "--set", "dtype=auto", "--loaders", "xllamacpp"], WRONG_USAGE, "no parameter"),
        (["FILE", "--loaders", "xlama"], WRONG_USAGE, "Did you mean"),
        (["FILE", "--baseline", "nothing"], FAILED, "no benchmark called"),
        (["FILE", "--save-baseline", "../x"], FAILED, "cannot be the name"),
    ],
)
def test_what_cannot_be_meant(
    arguments: list[str], status: int, said: str, model: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Said before anything is measured."""
    assert main(["bench", *(str(model) if one == "FILE" else one for one in arguments)]) == status
    assert said in capfd.readouterr().err


def test_an_empty_list(capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "--list"]) == 0
    assert "No benchmark is kept yet" in capfd.readouterr().out
