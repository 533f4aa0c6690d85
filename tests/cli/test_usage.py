"""Arguments, exit statuses and what is written where, without loading a model."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.builders.gguf import tiny_llama_bpe, tiny_llama_spm
from webui.cli import main
from webui.cli.assignments import known_loader, read_assignments, sort_out
from webui.cli.columns import amount, rate, seconds, size
from webui.cli.ending import FAILED, INTERRUPTED, WRONG_USAGE, WrongUsage, status_of
from webui.cli.models import INSPECTED
from webui.cli.session import in_app
from webui.context import AppContext
from webui.errors import CorruptFile
from webui.loaders import LOADERS
from webui.loaders.sampling import SamplingParameters
from webui.paths import PROJECT_ROOT, Paths
from webui.planning.speed import Speed

HEAVY = {"gradio", "numpy", "pydantic", "fastapi", "torch", "transformers", "llama_cpp", "xllamacpp", "ctransformers"}
COMMANDS = ("run", "models", "inspect", "bench", "tune", "failures", "config", "migrate", "setup", "doctor", "test")


@pytest.fixture
def models() -> Path:
    folder = Paths.from_environment().ensure().models
    tiny_llama_spm(folder / "tiny.gguf")
    tiny_llama_bpe(folder / "byte-level.gguf", quantization="Q8_0")
    (folder / "broken.gguf").write_bytes(b"GGUF\x03\x00\x00\x00")
    return folder


def test_help_lists_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    out = capsys.readouterr().out
    for command in COMMANDS:
        assert command in out
    for option in (
        "--host",
        "--port",
        "--share",
        "--auth",
        "--api-key",
        "--model",
        "--loader",
        "--models-dir",
        "--no-setup",
    ):
        assert option in out


@pytest.mark.parametrize("command", [name for name in COMMANDS if name != "test"])
def test_every_command_has_help(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([command, "--help"]) == 0
    assert command in capsys.readouterr().out


def test_help_imports_nothing_heavy() -> None:
    """Help must come at once: neither the page's library nor numbers nor an engine may be imported for it."""
    script = (
        "import sys\n"
        "from webui.cli import main\n"
        "status = main(['--help'])\n"
        f"heavy = sorted({HEAVY} & set(sys.modules))\n"
        "sys.exit(', '.join(heavy) if heavy else status)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=PROJECT_ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ["frobnicate"],
        ["--port", "70000"],
        ["run"],
        ["run", "tiny", "hello", "--set", "nonsense"],
        ["run", "tiny", "hello", "--set", "temprature=1"],
        ["run", "tiny", "hello", "--set", "temperature=9"],
        ["run", "tiny", "hello", "--loader", "xllama"],
        ["run", "tiny", "   "],
        ["bench", "tiny", "--runs", "0"],
        ["inspect"],
    ],
)
def test_wrong_usage_is_status_2(arguments: list[str], models: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == WRONG_USAGE
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "Error: " in captured.err
    assert "Traceback" not in captured.err


@pytest.mark.parametrize(
    ("arguments", "cause"),
    [
        (["inspect", "no-such-model"], "There is no model called"),
        (["inspect", "broken"], "broken.gguf"),
        (["run", "no-such-model", "hello"], "There is no model called"),
        (["run", "byte-level", "hello", "--loader", "ctransformers"], "BPE tokenizer"),
        (["run", "tiny", "hello", "--preset", "nobodys"], "no preset nobodys"),
        (["--share"], "--auth"),
        (["--host", "0.0.0.0"], "--api-key"),
        (["--host", "example.org", "--auth", "a:b"], "--api-key"),
    ],
)
def test_failures_are_one_line_of_cause_and_one_of_hint(
    arguments: list[str], cause: str, models: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == FAILED
    captured = capsys.readouterr()
    lines = captured.err.strip().split("\n")
    assert captured.out == ""
    assert len(lines) == 2
    assert lines[0].startswith("Error: ")
    assert cause in lines[0]
    assert lines[1].startswith("Hint: ")


def test_models_lists_what_is_there(models: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models"]) == 0
    lines = capsys.readouterr().out.strip().split("\n")
    assert [line.split()[0] for line in lines] == ["model", "broken", "byte-level", "tiny"]
    assert "damaged" in lines[1]
    assert main(["models", "--json"]) == 0
    entries = {entry["id"]: entry for entry in json.loads(capsys.readouterr().out)}
    assert entries["tiny"]["quantization"] == "F16"
    assert entries["broken"]["error"]["code"] == "corrupt_file"


def test_models_of_another_folder(models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models", "--models-dir", str(tmp_path)]) == 0
    assert "No models" in capsys.readouterr().out


def test_inspect_reports_the_facts_and_judges_every_loader(models: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", str(models / "byte-level.gguf"), "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert set(INSPECTED) <= set(report)
    assert (report["architecture"], report["quantization"], report["gguf_version"]) == ("llama", "Q8_0", 3)
    assert (report["block_count"], report["head_count"], report["head_count_kv"]) == (2, 4, 2)
    loaders = {entry["loader"]: entry for entry in report["compatible_loaders"]}
    assert set(LOADERS) <= set(loaders)
    assert all(entry["reason"] for entry in loaders.values())
    assert not loaders["ctransformers"]["compatible"]
    assert "tokenizer" in loaders["ctransformers"]["reason"]
    assert loaders["xllamacpp"]["compatible"]
    assert main(["inspect", "byte-level"]) == 0
    assert "BPE tokenizer" in capsys.readouterr().out


def test_inspect_names_the_loader_that_a_load_would_take(models: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def ready() -> list[str]:
        assert main(["inspect", "byte-level", "--json"]) == 0
        return [one["loader"] for one in json.loads(capsys.readouterr().out)["compatible_loaders"] if one["ready"]]

    async def measured(context: AppContext) -> list[str]:
        """From now on the second of the loaders that were ready is known to be the fastest here."""
        facts = context.catalogue.find("byte-level")
        for name, tokens in zip(before, (10, 50), strict=False):
            version = context.loaders[name].availability(facts, {}).version
            context.measurements.add(facts, version, Speed(name, context.full_parameters(name, {}), tokens))
        return [one.loader for one in context.pool.rank(facts) if one.suitable]

    before = ready()
    assert in_app(measured) == ready() == [before[1], before[0], *before[2:]]


def test_an_unforeseen_error_is_a_sentence_and_a_traceback_only_on_request(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken() -> int:
        raise KeyError("lost")

    assert status_of(broken) == FAILED
    error = capsys.readouterr().err
    assert "KeyError: 'lost'" in error
    assert "GGUF_DEBUG=1" in error
    assert "Traceback" not in error
    monkeypatch.setenv("GGUF_DEBUG", "1")
    with pytest.raises(KeyError):
        status_of(broken)


def test_statuses_of_endings(capsys: pytest.CaptureFixture[str]) -> None:
    def ends_with(error: BaseException) -> int:
        def work() -> int:
            raise error

        return status_of(work)

    assert status_of(lambda: None) == 0
    assert status_of(lambda: 7) == 7
    assert ends_with(KeyboardInterrupt()) == INTERRUPTED
    assert ends_with(WrongUsage("no")) == WRONG_USAGE
    assert ends_with(CorruptFile("no")) == FAILED


# --- --set ----------------------------------------------------------------------------------------------------------


def test_sampling_and_loader_parameters_have_different_names() -> None:
    """`--set` sorts by name alone, so a name must belong to one side."""
    for spec in LOADERS.values():
        assert not set(spec.parameters.model_fields) & set(SamplingParameters.model_fields), spec.name


def test_assignments_become_values_of_their_types() -> None:
    given = read_assignments(
        ["temperature=0.5", "context-size=2048", "use_mmap=off", "stop=a=b", "max_tokens=1", "max_tokens=9"]
    )
    sampling, loader = sort_out(given, LOADERS, "xllamacpp")
    assert sampling == {"temperature": 0.5, "stop": "a=b", "max_tokens": 9}
    assert loader == {"context_size": 2048, "use_mmap": False}


@pytest.mark.parametrize(
    ("pair", "loader", "hint"),
    [
        ("contextsize=1", "xllamacpp", "context_size"),
        ("context_size=many", "xllamacpp", ""),
        ("context_size=-1", None, ""),
        ("no such thing", None, "NAME=VALUE"),
        ("=1", None, ""),
        ("qqqqqqq=1", None, "docs/parameters.md"),
    ],
)
def test_wrong_assignments_are_refused(pair: str, loader: str | None, hint: str) -> None:
    with pytest.raises(WrongUsage) as caught:
        sort_out(read_assignments([pair]), LOADERS, loader)
    assert hint in f"{caught.value.message} {caught.value.hint}"


def test_auto_is_no_choice() -> None:
    assert known_loader(None, LOADERS) is None
    assert known_loader("auto", LOADERS) is None
    assert known_loader("xllamacpp", LOADERS) == "xllamacpp"
    with pytest.raises(WrongUsage) as caught:
        known_loader("llamacpp", LOADERS)
    assert "xllamacpp" in caught.value.hint


@pytest.mark.parametrize(
    ("shown", "expected"),
    [
        (size(98_362_432), "98.4 MB"),
        (size(999_600), "1.0 MB"),
        (size(512), "512 B"),
        (size(None), "–"),
        (amount(134_515_008), "135M"),
        (amount(7_240_000_000), "7.2B"),
        (amount(12), "12"),
        (seconds(0.0314), "31 ms"),
        (seconds(12.345), "12.35 s"),
        (rate(31.25), "31.2"),
    ],
)
def test_figures(shown: str, expected: str) -> None:
    assert shown == expected
