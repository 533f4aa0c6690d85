"""`run` when loaders fail: the steps as they are told, what is remembered for the next time, and the history."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

from tests.builders.gguf import tiny_llama_spm
from webui.cli import main
from webui.paths import PROJECT_ROOT, Paths

EXTENSION = '''
"""Backends that fail, each in its own way, and one that needs a smaller word."""

import signal

from webui.errors import EngineRefused
from webui.hooks import hook
from webui.loaders.contract import Availability, Chunk, Finished, LoadedModel, Loader, LoaderSpec, Verdict
from webui.loaders.parameters import Parameters
from webui.models.facts import ModelFormat


class Nothing(Parameters):
    pass


class Crashing(Loader[Nothing]):
    def load(self, progress):
        progress("reading the file", 0.5)
        signal.raise_signal(signal.SIGSEGV)

    def tokenize(self, text, *, add_bos):
        return []

    def generate(self, request, cancelled):
        yield Finished("stop", 0, 0, 0.0, 0.0)


class Refusing(Crashing):
    def load(self, progress):
        raise EngineRefused("Refusing does not like the file.", cause="it likes none")


class Working(Crashing):
    def load(self, progress):
        return LoadedModel(context_size=64, device="CPU", device_kind="cpu", engine="working", engine_version="1")

    def generate(self, request, cancelled):
        yield Chunk("It works.")
        yield Finished("stop", 1, 1, 0.0, 0.0)


@hook
def add_loaders():
    return [
        LoaderSpec(
            name=name, title=name.capitalize(), summary="", parameters=Nothing, loader=loader,
            formats=frozenset({ModelFormat.GGUF}), devices=("cpu",), samplers=frozenset(),
            can_open=lambda facts: Verdict(True, "it opens anything"),
            find=lambda spec, facts, parameters: Availability(True, "there", "1.0"),
        )
        for name, loader in (("crashing", Crashing), ("refusing", Refusing), ("working", Working))
    ]
'''
ALL = ("crashing", "refusing", "working")
PLAIN = {"ctransformers", "transformers", "llamafile", "xllamacpp", "llama-cpp-python"}


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return tiny_llama_spm(tmp_path / "tiny.gguf")


def furnish(*order: str, fallback: bool = True) -> Paths:
    """A home whose only backends are those of the extension that `order` names."""
    paths = Paths.from_environment().ensure()
    (paths.extensions / "faulty").mkdir(exist_ok=True)
    (paths.extensions / "faulty" / "__init__.py").write_text(EXTENSION)
    paths.settings_file.write_text(
        json.dumps(
            {
                "backends": {
                    "fallback_order": list(order),
                    "fallback_enabled": fallback,
                    "disabled": sorted(PLAIN | (set(ALL) - set(order))),
                }
            }
        )
    )
    return paths


def run(model: Path, *more: str) -> subprocess.CompletedProcess[str]:
    """`python3 app.py run` as a process of its own, its output in pipes."""
    script = "import sys; from webui.cli import main; sys.exit(main())"
    return subprocess.run(
        [sys.executable, "-c", script, "run", str(model), "hello", *more],
        cwd=PROJECT_ROOT,
        env=dict(os.environ),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_the_story_is_told_in_order_and_the_second_time_is_quiet(model: Path) -> None:
    furnish("crashing", "refusing", "working")
    first = run(model)
    assert (first.returncode, first.stdout) == (0, "It works.\n"), first.stderr
    lines = first.stderr.splitlines()
    steps = [line for line in lines if line[:1] in "✗✓–"]
    assert steps[0].startswith("✗ crashing: crashed (SIGSEGV), ")
    assert steps[0].endswith("→ trying: next loader (refusing)")
    assert steps[1].startswith("✗ refusing: does not like the file, ")
    assert steps[1].endswith("→ trying: next loader (working)")
    assert steps[2].startswith("✓ working: next loader, ")
    assert len(steps) == 3
    second = run(model)
    assert (second.returncode, second.stdout) == (0, "It works.\n"), second.stderr
    assert "✗" not in second.stderr, "what failed is remembered"


def test_json_holds_the_ladder(model: Path) -> None:
    furnish("refusing", "working")
    done = run(model, "--json")
    report = json.loads(done.stdout)
    assert done.returncode == 0
    assert [(step["loader"], step["state"], step["code"]) for step in report["ladder"]] == [
        ("refusing", "failed", "engine_refused"),
        ("working", "worked", None),
    ]
    assert report["ladder"][0]["message"] == "Refusing does not like the file."
    assert all(step["seconds"] >= 0 and step["step"] for step in report["ladder"])
    assert report["degraded"] is None or report["degraded"]["sentence"]


def test_when_all_failed_it_ends_with_cause_and_hint(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    furnish("crashing", "refusing")
    done = run(model)
    assert (done.returncode, done.stdout) == (1, "")
    lines = done.stderr.splitlines()
    assert [line[0] for line in lines[:2]] == ["✗", "✗"]
    assert "→" not in lines[1], "nothing comes after the last"
    assert lines[-2].startswith("Error: ")
    assert lines[-1].startswith("Hint: ")
    assert "Traceback" not in done.stderr
    assert main(["failures", "--json"]) == 0
    kept = json.loads(capsys.readouterr().out)
    assert [failure["loader"] for failure in kept["failures"]] == ["refusing", "crashing"]
    assert [(story["outcome"], len(story["rungs"])) for story in kept["loads"]] == [("failed", 2)]
    assert {rate["loader"]: (rate["attempts"], rate["failures"]) for rate in kept["rates"]} == {
        "crashing": (1, 1),
        "refusing": (1, 1),
    }


def test_without_falling_back_the_first_failure_is_the_last(model: Path) -> None:
    furnish("refusing", "working", fallback=False)
    done = run(model)
    assert done.returncode == 1
    assert "→" not in done.stderr
    assert "Error: Refusing does not like the file" in done.stderr


@pytest.mark.skipif(sys.platform == "win32", reason="needs a pseudo-terminal")
def test_on_a_terminal_the_lines_stay_above_the_progress(model: Path) -> None:
    furnish("crashing", "working")
    controller, terminal = pty.openpty()
    script = "import sys; from webui.cli import main; sys.exit(main())"
    process = subprocess.Popen(
        [sys.executable, "-c", script, "run", str(model), "hello"],
        cwd=PROJECT_ROOT,
        env=dict(os.environ),
        stdout=subprocess.PIPE,
        stderr=terminal,
    )
    os.close(terminal)
    seen = b""
    while True:
        try:
            seen += os.read(controller, 4096)
        except OSError:  # the other end is closed
            break
    os.close(controller)
    out, _ = process.communicate(timeout=60)
    assert (process.returncode, out) == (0, b"It works.\n")
    lines = [line.rpartition("\r")[2] for line in seen.decode().replace("\r\n", "\n").split("\n")]
    assert any(line.startswith("✗ crashing: crashed (SIGSEGV)") for line in lines), lines
    assert any(line.startswith("✓ working") for line in lines), lines
