"""The llamafile loader against programs: a real llama.cpp server behind llama-server's flags, and older llamafiles."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.fakes import ROOT, executable
from tests.loaders.running import TWO_TURNS, Collected, collect, gguf_facts
from webui.errors import (
    BrokenPackage,
    ContextTooLong,
    CorruptFile,
    DeviceOutOfMemory,
    EngineCrashed,
    MissingPackage,
)
from webui.loaders.contract import Chunk, Finished, GenerationRequest, LoadedModel
from webui.loaders.llamafile import SPEC, LlamafileLoader, LlamafileParameters
from webui.loaders.sampling import SamplingParameters
from webui.models.facts import ModelFormat

Open = Callable[..., tuple[LlamafileLoader, LoadedModel]]


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A file for programs that do not open it."""
    path = tmp_path / "model.gguf"
    path.write_bytes(b"GGUF")
    return path


@pytest.fixture
def open_loader() -> Iterator[Open]:
    """Loads and closes; every server has ended afterwards."""
    loaders: list[LlamafileLoader] = []

    def opened(program: Path, model: Path, **parameters: Any) -> tuple[LlamafileLoader, LoadedModel]:
        wanted = {"executable": str(program), "context_size": 512, "threads": 1, **parameters}
        loader = LlamafileLoader(gguf_facts(model), LlamafileParameters.parse(wanted))
        loaders.append(loader)
        return loader, loader.load(lambda step, share: None)

    yield opened
    for loader in loaders:
        loader.close()
        loader.close()
        assert loader._process is None or not psutil.pid_exists(loader._process._guard.pid)


def ask(loader: LlamafileLoader, prompt: str, stop: tuple[str, ...] = (), **sampling: Any) -> Collected:
    request = GenerationRequest(prompt, SamplingParameters.parse({"temperature": 0.0, **sampling}), stop)
    return collect(loader.generate(request, threading.Event()))


def server_process(loader: LlamafileLoader) -> psutil.Process:
    """The server itself, behind its guard (and the shell script that started it)."""
    assert loader._process is not None
    return psutil.Process(loader._process._guard.pid).children(recursive=True)[-1]


def wait_until(condition: Callable[[], bool], seconds: float = 20.0) -> bool:
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.02)
    return True


# --- a real engine ---------------------------------------------------------------------------------------------------


@pytest.mark.engine
@pytest.mark.parametrize("as_llamafile", [False, True])
def test_a_real_server(tmp_path: Path, starter_model: Path, open_loader: Open, as_llamafile: bool) -> None:
    words = ("--as-llamafile", "0.10.0") if as_llamafile else ()
    program = executable(tmp_path, "llama-server", "llama_server", *words)
    loader, loaded = open_loader(program, starter_model)
    assert (loaded.context_size, loaded.slots, loaded.device, loaded.notes) == (512, 4, "CPU", ())
    assert loaded.engine == ("llamafile" if as_llamafile else "llama-server")
    assert loaded.engine_version == ("0.10.0" if as_llamafile else "6543")

    first = ask(loader, TWO_TURNS[0], max_tokens=16)
    assert first.finished.reason == "length"
    assert first.finished.completion_tokens == 16 == first.tokens
    assert first.finished.prompt_tokens == len(loader.tokenize(TWO_TURNS[0], add_bos=True))
    second = ask(loader, TWO_TURNS[0] + first.text + TWO_TURNS[1], max_tokens=4)
    assert second.finished.cached_tokens >= first.finished.prompt_tokens

    word = first.text.split()[3]
    stopped = ask(loader, TWO_TURNS[0], stop=(word,), max_tokens=16)
    assert (stopped.text, stopped.finished.stop_string) == (first.text[: first.text.index(word)], word)

    with pytest.raises(ContextTooLong) as caught:
        ask(loader, "word " * 600)
    assert caught.value.facts["context_size"] == 512
    assert caught.value.facts["prompt_tokens"] > 600


@pytest.mark.engine
def test_a_real_server_is_cancelled(tmp_path: Path, starter_model: Path, open_loader: Open) -> None:
    loader, _ = open_loader(executable(tmp_path, "llama-server", "llama_server"), starter_model, slots=1)
    cancelled = threading.Event()
    request = GenerationRequest(TWO_TURNS[0], SamplingParameters.parse({"temperature": 0.0, "max_tokens": 400}))
    events = list(_cancelling(loader, request, cancelled))
    assert isinstance(events[-1], Finished)
    assert events[-1].reason == "cancelled"
    assert events[-1].completion_tokens < 400
    assert ask(loader, TWO_TURNS[0], max_tokens=2).finished.completion_tokens == 2  # the one slot is free again


def _cancelling(loader: LlamafileLoader, request: GenerationRequest, cancelled: threading.Event) -> Iterator[Any]:
    for event in loader.generate(request, cancelled):
        cancelled.set()
        yield event


@pytest.mark.engine
def test_a_real_server_says_why_it_cannot(tmp_path: Path, starter_model: Path, open_loader: Open) -> None:
    cut = tmp_path / "cut.gguf"
    cut.write_bytes(starter_model.read_bytes()[:40_000_000])
    with pytest.raises(CorruptFile) as caught:
        open_loader(executable(tmp_path, "llama-server", "llama_server"), cut)
    assert any("cut.gguf" in line for line in caught.value.evidence)


def told_arguments(loader: LlamafileLoader) -> str:
    """The command line that the fake program says it got; its output may come a moment after its first answer."""
    assert loader._process is not None
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        for line in loader._process.lines():
            if line.startswith("arguments"):
                return line
        time.sleep(0.02)
    raise AssertionError("the program did not tell its arguments")


# --- older generations -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("generation", ["auto", "v2"])
def test_old_generations(tmp_path: Path, model: Path, open_loader: Open, generation: str) -> None:
    loader, loaded = open_loader(
        executable(tmp_path, "llamafile", "old_llamafile"), model, generation=generation, flash_attention="on"
    )
    assert (loaded.engine, loaded.engine_version, loaded.slots) == ("llamafile", "0.9.3", 1)
    assert loaded.context_size == 512
    arguments = told_arguments(loader)
    assert ('"--v2"' in arguments) == (generation == "v2")
    assert ('"-fa"' in arguments or '"--flash-attn"' in arguments) == (generation == "auto")
    assert bool(loaded.notes) == (generation == "v2")

    reply = ask(loader, "say some numbers please", max_tokens=5)
    assert reply.text == " one two three four five"
    bos = 1 if generation == "v2" else 0
    assert (reply.finished.reason, reply.finished.completion_tokens, reply.tokens) == ("length", 5, 5)
    assert reply.finished.prompt_tokens == 4 + bos == len(loader.tokenize("say some numbers please", add_bos=True))
    assert ask(loader, "numbers", stop=("o th",), max_tokens=9).text == " one tw"
    assert ask(loader, "numbers", max_tokens=9).finished.stop_string is None
    with pytest.raises(ContextTooLong):
        ask(loader, "word " * 600)


def test_the_v2_server_says_what_it_ignores(tmp_path: Path, model: Path, open_loader: Open) -> None:
    loader, _ = open_loader(executable(tmp_path, "llamafile", "old_llamafile"), model, generation="v2")
    warm = ask(loader, "numbers", max_tokens=2, temperature=3.0, repeat_penalty=1.2)
    assert "repeat_penalty" in warm.finished.ignored_sampling
    assert "temperature" not in warm.finished.ignored_sampling


def test_the_first_generation_divides_the_context(tmp_path: Path, model: Path, open_loader: Open) -> None:
    _, loaded = open_loader(executable(tmp_path, "llamafile", "old_llamafile"), model, slots=3)
    assert (loaded.context_size, loaded.slots) == (512, 3)


def test_a_port_that_is_taken_is_given_up(
    tmp_path: Path, model: Path, open_loader: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_FOLDER", str(tmp_path))
    program = executable(tmp_path, "llamafile", "old_llamafile", "--manner", "port-taken")
    loader, _ = open_loader(program, model)
    assert (tmp_path / "started").exists()
    assert ask(loader, "numbers", max_tokens=1).text == " one"


def test_out_of_memory_is_named(tmp_path: Path, model: Path, open_loader: Open) -> None:
    program = executable(tmp_path, "llamafile", "old_llamafile", "--manner", "out-of-memory")
    with pytest.raises(DeviceOutOfMemory):
        open_loader(program, model)


def test_a_server_that_crashes_leaves_its_text_and_its_signal(tmp_path: Path, model: Path, open_loader: Open) -> None:
    loader, _ = open_loader(executable(tmp_path, "llamafile", "old_llamafile", "--manner", "crash"), model)
    seen = ""
    with pytest.raises(EngineCrashed) as caught:
        for event in loader.generate(GenerationRequest("numbers"), threading.Event()):
            assert isinstance(event, Chunk)
            seen += event.text
    assert seen == " one two three"
    assert caught.value.facts["signal"] == "SIGSEGV"


def test_a_silent_server_can_be_left(tmp_path: Path, model: Path, open_loader: Open) -> None:
    loader, _ = open_loader(executable(tmp_path, "llamafile", "old_llamafile", "--manner", "silent"), model)
    cancelled = threading.Event()
    threading.Timer(0.3, cancelled.set).start()
    reply = collect(loader.generate(GenerationRequest("numbers"), cancelled))
    assert (reply.text, reply.finished.reason, reply.finished.completion_tokens) == (" one two three", "cancelled", 3)


# --- life and death --------------------------------------------------------------------------------------------------


@pytest.mark.skipif(sys.platform == "win32", reason="needs signals that can be ignored")
def test_a_stubborn_server_is_ended_with_its_children(tmp_path: Path, model: Path, open_loader: Open) -> None:
    loader, _ = open_loader(executable(tmp_path, "llamafile", "old_llamafile", "--manner", "stubborn"), model)
    assert loader._process is not None
    family = psutil.Process(loader._process._guard.pid).children(recursive=True)
    assert len(family) >= 2
    loader.close()
    assert not [process for process in family if _alive(process)]


@pytest.mark.parametrize("victim", ["worker", "guard"])
def test_nothing_is_left_when_the_worker_is_killed(tmp_path: Path, model: Path, victim: str) -> None:
    if victim == "guard" and sys.platform != "linux":
        pytest.skip("only Linux ends a child with its parent")
    program = executable(tmp_path, "llamafile", "old_llamafile")
    script = (
        "import sys, threading, time\n"
        "from pathlib import Path\n"
        "from tests.loaders.running import gguf_facts\n"
        "from webui.loaders.llamafile import LlamafileLoader, LlamafileParameters\n"
        "wanted = LlamafileParameters.parse({'executable': sys.argv[1]})\n"
        "loader = LlamafileLoader(gguf_facts(Path(sys.argv[2])), wanted)\n"
        "thread = threading.Thread(target=loader.load, args=(lambda step, share: None,))\n"
        "thread.start(); thread.join()\n"  # a thread that ends: the server must outlive it
        "print(loader._process._guard.pid, flush=True)\n"
        "time.sleep(600)\n"
    )
    worker = subprocess.Popen(
        [sys.executable, "-c", script, str(program), str(model)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    with worker:
        try:
            assert worker.stdout is not None
            guard = psutil.Process(int(worker.stdout.readline()))
            family = [guard, *guard.children(recursive=True)]
            assert len(family) >= 2
            assert all(map(_alive, family))
            os.kill(worker.pid if victim == "worker" else guard.pid, signal.SIGKILL)
            assert wait_until(lambda: not any(_alive(process) for process in family))
        finally:
            worker.kill()


def _alive(process: psutil.Process) -> bool:
    try:
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


# --- which program ---------------------------------------------------------------------------------------------------


@pytest.mark.skipif(sys.platform == "win32", reason="Windows runs such a file itself")
def test_what_the_kernel_refuses_is_run_by_the_shell(tmp_path: Path, model: Path, open_loader: Open) -> None:
    program = executable(tmp_path, "llamafile", "old_llamafile", ape=True)
    loader, loaded = open_loader(program, model)
    assert loaded.engine_version == "0.9.3"
    assert ask(loader, "numbers", max_tokens=1).text == " one"


def test_a_llamafile_brings_its_weights(tmp_path: Path) -> None:
    program = executable(tmp_path, "model.llamafile", "old_llamafile")
    loader = LlamafileLoader(gguf_facts(program, ModelFormat.LLAMAFILE), LlamafileParameters(context_size=512))
    try:
        loader.load(lambda step, share: None)
        assert loader._process is not None
        arguments = told_arguments(loader)
        assert '"-m"' not in arguments
    finally:
        loader.close()


def test_a_program_that_is_none(tmp_path: Path, model: Path, open_loader: Open) -> None:
    program = tmp_path / "llamafile"
    program.write_text("not a program")
    with pytest.raises(BrokenPackage):
        open_loader(program, model)
    with pytest.raises(MissingPackage):
        open_loader(tmp_path / "nowhere", model)


@pytest.mark.skipif(sys.platform == "win32", reason="the program is a shell script")
def test_its_version_is_asked_for_once_and_only_of_a_program_that_was_chosen(
    tmp_path: Path, isolation: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = tmp_path / "asked"

    def program(folder: Path, name: str, version: str = "0.9.3") -> Path:
        path = executable(folder, name, "old_llamafile")
        path.write_text(f'#!/bin/sh\necho "$0" "$@" >> {asked}\necho llamafile v{version}\n')
        return path

    monkeypatch.setenv("PATH", f"{tmp_path / 'path'}{os.pathsep}{os.environ['PATH']}")
    program(tmp_path / "path", "llama-server")
    other = program(tmp_path / "other", "rm")
    assert SPEC.availability().ok and SPEC.availability(parameters={"executable": str(other)}).ok
    assert not asked.exists()
    in_home = program(isolation / "bin", "llamafile-0.9")
    named = program(tmp_path / "named", "llamafile")
    for _ in range(3):
        assert SPEC.availability().version == "0.9.3"
        assert SPEC.availability(parameters={"executable": str(named)}).version == "0.9.3"
    assert asked.read_text().split() == [str(in_home), "--version", str(named), "--version"]
    program(isolation / "bin", "llamafile-0.9", "0.10.1")
    assert SPEC.availability().version == "0.10.1"
    in_home.write_text("not a program at all")
    assert SPEC.availability().ok and SPEC.availability().version is None
    monkeypatch.setenv("GGUF_LLAMAFILE", str(other))
    assert SPEC.availability().version == "0.9.3"


def test_where_it_is_looked_for(tmp_path: Path, isolation: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path / "path"))
    assert not SPEC.availability().ok
    on_path = executable(tmp_path / "path", "llama-server", "old_llamafile")
    assert str(on_path) in SPEC.availability().reason
    in_home = executable(isolation / "bin", "llamafile-0.9.3", "old_llamafile")
    assert str(in_home) in SPEC.availability().reason
    monkeypatch.setenv("GGUF_LLAMAFILE", str(on_path))
    assert str(on_path) in SPEC.availability().reason
    monkeypatch.setenv("GGUF_LLAMAFILE", str(tmp_path / "gone"))
    assert "gone" in SPEC.availability().reason
    inside = gguf_facts(in_home, ModelFormat.LLAMAFILE)
    assert SPEC.availability(inside).ok and SPEC.availability(inside).version is None
    assert SPEC.can_open(inside).ok
