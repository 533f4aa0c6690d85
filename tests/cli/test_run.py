"""`run` with a real engine, as a person starts it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.builders.gguf import tiny_llama_spm
from webui.cli import main
from webui.paths import PROJECT_ROOT

pytestmark = pytest.mark.engine

FIELDS = {
    "loader",
    "device",
    "load_seconds",
    "prompt_tokens",
    "completion_tokens",
    "first_token_seconds",
    "prompt_tokens_per_second",
    "tokens_per_second",
    "text",
    "peak_memory_bytes",
}
COMMON = ["--set", "threads=1", "--set", "context_size=512", "--preset", "deterministic"]


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return tiny_llama_spm(tmp_path / "tiny.gguf")


def start(*arguments: str, **options: object) -> subprocess.Popen[str]:
    script = "import sys; from webui.cli import main; sys.exit(main())"
    return subprocess.Popen(
        [sys.executable, "-c", script, *arguments],
        cwd=PROJECT_ROOT,
        env=dict(os.environ),
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        **options,  # type: ignore[call-overload]
    )


@pytest.mark.parametrize("loader", ["xllamacpp", "ctransformers"])
def test_run_reports_as_json(loader: str, model: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["run", str(model), "the sea", "--loader", loader, *COMMON, "--set", "max_tokens=12", "--json"]) == 0
    report = json.loads(capfd.readouterr().out)
    assert set(report) >= FIELDS
    assert report["loader"] == loader
    assert report["completion_tokens"] == 12
    assert report["prompt_tokens"] > 2
    assert report["text"]
    assert report["device"].startswith("CPU")
    for name in ("load_seconds", "first_token_seconds", "prompt_tokens_per_second", "tokens_per_second"):
        assert report[name] > 0, name
    assert report["peak_memory_bytes"] > 1_000_000


def test_run_streams_text_and_ends_with_a_summary(model: Path, capfd: pytest.CaptureFixture[str]) -> None:
    arguments = ["run", str(model), "the sea", "--loader", "xllamacpp", *COMMON, "--set", "max_tokens=8"]
    assert main(arguments) == 0
    captured = capfd.readouterr()
    assert captured.out.strip()
    assert "xllamacpp" in captured.err
    assert "8 tokens" in captured.err
    assert main([*arguments, "--json"]) == 0
    assert json.loads(capfd.readouterr().out)["text"] == captured.out.removesuffix("\n")


def test_the_prompt_may_come_from_standard_input(model: Path) -> None:
    process = start("run", str(model), "--loader", "xllamacpp", *COMMON, "--set", "max_tokens=4", stdin=subprocess.PIPE)
    out, err = process.communicate("the old man and the sea", timeout=120)
    assert process.returncode == 0, err
    assert out.strip()


@pytest.mark.skipif(sys.platform == "win32", reason="there is no way to send Ctrl-C to one process")
def test_ctrl_c_ends_a_reply_and_its_worker(model: Path) -> None:
    process = start(
        "run", str(model), "the sea", "--loader", "xllamacpp", "--set", "threads=1", "--set", "max_tokens=-1"
    )
    assert process.stdout is not None
    assert process.stdout.read(5)  # the reply has begun
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in err
    assert "Cancelled" in err
