"""The worker process: one engine, at most one model, one channel to the parent (`python -m webui.loaders.worker`).

Messages are JSON, one a line. Requests come on standard input and carry an `id`; every answer names the request's id,
so several generations share the channel. The channel back is a private copy of standard output: what engines print goes
to standard error instead, where the parent keeps it as evidence. When standard input ends, the parent is gone or done,
and so is the worker.

    parent → worker   {"id", "op": "load", "loader", "parameters_class", "facts", "parameters"}
                      {"id", "op": "tokenize", "text", "add_bos"}
                      {"id", "op": "generate", "request"}
                      {"id", "op": "cancel"}                          the id of the generation to end
    worker → parent   {"kind": "hello", "pid"}
                      {"id", "kind": "progress", "step", "share"}     while loading
                      {"id", "kind": "chunk", "text", "tokens"}       while generating
                      {"id", "kind": "result", "value"}               the end of a request
                      {"id", "kind": "error", "error"}                the other end of a request
"""

from __future__ import annotations

import contextlib
import ctypes
import faulthandler
import importlib
import json
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable
from typing import Any, BinaryIO

from webui.errors import AppError, EngineRefused, HostOutOfMemory, NotLoaded
from webui.loaders.contract import Chunk, GenerationRequest, Loader
from webui.loaders.sampling import SamplingParameters
from webui.models.facts import facts_from_dict

CLOSE_SECONDS = 3.0
"""How long the engine may take to close before the process ends anyway."""


class Worker:
    """Reads requests in the main thread; each one runs in a thread of its own, so that a cancel is always heard."""

    def __init__(self, requests: BinaryIO, answers: BinaryIO) -> None:
        self._requests = requests
        self._answers = answers
        self._lock = threading.Lock()
        self._cancelled: dict[int, threading.Event] = {}
        self._loader: Loader[Any] | None = None

    def run(self) -> None:
        """Serve until the parent closes the channel."""
        self._send({"kind": "hello", "pid": os.getpid()})
        for line in self._requests:
            message = json.loads(line)
            request_id = int(message["id"])
            if message["op"] == "cancel":
                if event := self._cancelled.get(request_id):
                    event.set()
                continue
            if message["op"] == "generate":
                # Registered before the thread starts: a cancel that follows at once must find it.
                self._cancelled[request_id] = threading.Event()
            threading.Thread(target=self._answer, args=(request_id, message), daemon=True).start()
        self._close()

    def _answer(self, request_id: int, message: dict[str, Any]) -> None:
        handlers: dict[str, Callable[[int, dict[str, Any]], Any]] = {
            "load": self._load,
            "tokenize": self._tokenize,
            "generate": self._generate,
        }
        try:
            value = handlers[message["op"]](request_id, message)
            answer = {"id": request_id, "kind": "result", "value": value}
        except AppError as error:
            answer = {"id": request_id, "kind": "error", "error": error.to_dict()}
        except MemoryError:
            lost = HostOutOfMemory("The machine's memory does not suffice for this model.", evidence=_trace())
            answer = {"id": request_id, "kind": "error", "error": lost.to_dict()}
        except Exception as error:  # noqa: BLE001 - the edge of the process: whatever an engine raises is reported
            refused = EngineRefused(
                f"The engine refused: {_first_line(error)}", cause=type(error).__name__, evidence=_trace()
            )
            answer = {"id": request_id, "kind": "error", "error": refused.to_dict()}
        self._send(answer)

    def _load(self, request_id: int, message: dict[str, Any]) -> Any:
        loader_class = _resolve(message["loader"])
        parameters = _resolve(message["parameters_class"]).model_validate(message["parameters"])
        loader = loader_class(facts_from_dict(message["facts"]), parameters)

        def progress(step: str, share: float | None = None) -> None:
            self._send({"id": request_id, "kind": "progress", "step": step, "share": share})

        self._loader = loader
        return loader.load(progress).to_dict()

    def _tokenize(self, request_id: int, message: dict[str, Any]) -> Any:
        return self._loaded().tokenize(message["text"], add_bos=message["add_bos"])

    def _generate(self, request_id: int, message: dict[str, Any]) -> Any:
        fields = message["request"]
        request = GenerationRequest(
            prompt=fields["prompt"],
            sampling=SamplingParameters.model_validate(fields["sampling"]),
            stop=tuple(fields["stop"]),
            cache_key=fields["cache_key"],
        )
        cancelled = self._cancelled[request_id]
        try:
            for event in self._loaded().generate(request, cancelled):
                if isinstance(event, Chunk):
                    self._send({"id": request_id, "kind": "chunk", "text": event.text, "tokens": event.tokens})
                else:
                    return event.to_dict()
        finally:
            del self._cancelled[request_id]
        raise EngineRefused("The engine ended the reply without saying why.")

    def _loaded(self) -> Loader[Any]:
        if self._loader is None:
            raise NotLoaded("This worker holds no model.")
        return self._loader

    def _send(self, message: dict[str, Any]) -> None:
        line = json.dumps(message, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace") + b"\n"
        # A broken pipe means that the parent is gone; the reading side sees it too and ends the process.
        with self._lock, contextlib.suppress(BrokenPipeError):
            self._answers.write(line)
            self._answers.flush()

    def _close(self) -> None:
        """End the engine's own child processes and files, then the process, whatever threads still do."""
        if self._loader is not None:
            closing = threading.Thread(target=self._loader.close, daemon=True)
            closing.start()
            closing.join(CLOSE_SECONDS)
        os._exit(0)


def _resolve(reference: str) -> Any:
    """The class named `module:qualified.name`."""
    module, _, name = reference.partition(":")
    found: Any = importlib.import_module(module)
    for part in name.split("."):
        found = getattr(found, part)
    return found


def _first_line(error: BaseException) -> str:
    text = str(error).strip() or type(error).__name__
    return text.splitlines()[0][:300]


def _trace() -> list[str]:
    return traceback.format_exc().rstrip().splitlines()


def _die_with_parent() -> None:
    """Linux: ask the kernel to end this process with its parent, even in the middle of a native call.

    Elsewhere the end of standard input does it, as soon as the reading thread runs.
    """
    if sys.platform == "linux":
        pr_set_pdeathsig = 1
        ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGKILL)


def main() -> None:
    """Take the channel away from standard output, then serve."""
    _die_with_parent()
    faulthandler.enable()
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    Worker(sys.stdin.buffer, answers).run()


if __name__ == "__main__":
    main()
