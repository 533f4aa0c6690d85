"""A loader that breaks every rule it can reach: its channel, its output, its process, its memory, its end."""

from __future__ import annotations

import ctypes
import json
import mmap
import os
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Annotated, Any, cast

from webui.errors import EngineCrashed
from webui.loaders.contract import (
    Chunk,
    Finished,
    GenerationRequest,
    LoadedModel,
    Loader,
    LoaderSpec,
    ReportProgress,
    Verdict,
)
from webui.loaders.parameters import Control, Parameters
from webui.models.facts import ModelFormat

MIB = 1024 * 1024


class RogueParameters(Parameters):
    while_loading: Annotated[str, Control("While loading", "A fault.", section="Rogue")] = ""
    on_close: Annotated[str, Control("On close", "A fault.", section="Rogue")] = ""


class RogueLoader(Loader[RogueParameters]):
    """Does to its process what the prompt, or a parameter, names."""

    def load(self, progress: ReportProgress) -> LoadedModel:
        self.do(self.parameters.while_loading)
        if self.parameters.while_loading == "wrong model":
            return LoadedModel(cast(Any, "many"), "CPU", "cpu", "rogue", "1")
        if self.parameters.while_loading == "many slots":
            return LoadedModel(64, "CPU", "cpu", "rogue", "1", slots=10**9)
        return LoadedModel(64, "CPU", "cpu", "rogue", "1")

    def tokenize(self, text: str, *, add_bos: bool) -> list[int]:
        return cast(Any, ["one", "two"]) if text == "wrong tokens" else list(range(len(text)))

    def generate(self, request: GenerationRequest, cancelled: threading.Event) -> Iterator[Chunk | Finished]:
        yield Chunk("before ")
        self.do(request.prompt)
        if request.prompt == "wrong end":
            yield Finished(cast(Any, "bored"), 1, 1, 0.0, 0.0)
        yield Finished("stop", 1, 1, 0.0, 0.0)

    def close(self) -> None:
        self.do(self.parameters.on_close)

    def do(self, fault: str) -> None:
        name, _, value = fault.partition(":")
        if action := getattr(self, "_" + name.replace(" ", "_"), None):
            cast(Callable[[str], None], action)(value)

    # --- the channel --------------------------------------------------------------------------------------------

    def _send(self, data: bytes) -> None:
        channel = cast(Any, self.died).__self__._answers
        channel.write(data)
        channel.flush()

    def _garbage(self, _: str) -> None:
        self._send(b"this is not a message\n" * 200_000)

    def _raw(self, text: str) -> None:
        self._send(text.encode() + b"\n")
        time.sleep(3600)

    def _nested(self, _: str) -> None:
        self._send(b"[" * 500_000 + b"\n")

    def _endless_line(self, _: str) -> None:
        for _n in range(256):
            self._send(b"a" * MIB)

    def _flood(self, _: str) -> None:
        """Text without end, in messages that are right."""
        line = json.dumps({"id": self._request(), "kind": "chunk", "text": "x" * 60_000, "tokens": 1}).encode() + b"\n"
        for _n in range(4000):
            self._send(line)

    def _small_flood(self, _: str) -> None:
        line = json.dumps({"id": self._request(), "kind": "progress", "step": "x", "share": None}).encode() + b"\n"
        self._send(line * 300_000)

    def _request(self) -> int:
        return max(cast(Any, self.died).__self__._cancelled)

    def _closed(self, _: str) -> None:
        cast(Any, self.died).__self__._answers.close()
        time.sleep(3600)

    def _noise(self, _: str) -> None:
        for _n in range(100):
            os.write(2, b"noise " * (MIB // 6) + b"\n")
            os.write(2, b"\n" * MIB)

    # --- the process --------------------------------------------------------------------------------------------

    def _say(self, text: str) -> None:
        """Say `text`, which ends in a signal's name or an exit status, and die of it."""
        line, _, end = text.rpartition("|")
        os.write(2, line.encode() + b"\n")
        if end.isdigit():
            os._exit(int(end))
        if end == "SIGABRT":
            os.abort()
        os.kill(os.getpid(), signal.Signals[end])
        time.sleep(60)

    def _truncated(self, path: str) -> None:
        """Read a mapped file that somebody has cut."""
        with open(path, "r+b") as file:  # noqa: PTH123
            mapped = mmap.mmap(file.fileno(), 0)
            file.truncate(10)
            print(mapped[100_000])

    def _processor_time(self, _: str) -> None:
        resource.setrlimit(resource.RLIMIT_CPU, (1, resource.RLIM_INFINITY))
        while True:
            pass

    def _stopped(self, _: str) -> None:
        self._print("begun")
        os.kill(os.getpid(), signal.SIGSTOP)

    def _native(self, _: str) -> None:
        """Hang in a native call that keeps the interpreter to itself."""
        self._print("begun")
        ctypes.PyDLL(None).sleep(3600)

    def _spin(self, _: str) -> None:
        self._print("begun")
        while True:
            pass

    def _hang(self, _: str) -> None:
        self._print("begun")
        time.sleep(3600)

    def _print(self, text: str) -> None:
        os.write(2, text.encode() + b"\n")

    def _raise(self, text: str) -> None:
        raise RuntimeError(text)

    def _untellable(self, _: str) -> None:
        class UntellableError(Exception):
            def __str__(self) -> str:
                raise ValueError("the words are lost")

        raise UntellableError

    def _died(self, _: str) -> None:
        self.died(EngineCrashed("The rogue's engine is gone.", signal="SIGSEGV"))

    def _children(self, _: str) -> None:
        """Start a program in a session of its own, and crash."""
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True)
        os.write(2, f"child {child.pid}\n".encode())
        os.kill(os.getpid(), signal.SIGSEGV)

    def _eat(self, mib: str) -> None:
        held = []
        for _n in range(int(mib)):
            held.append(bytearray(MIB))


SPEC = LoaderSpec(
    name="rogue",
    title="Rogue",
    summary="Misbehaves.",
    parameters=RogueParameters,
    loader=RogueLoader,
    formats=frozenset(ModelFormat),
    devices=("cpu",),
    samplers=frozenset({"max_tokens"}),
    can_open=lambda facts: Verdict(True, "opens anything"),
)
