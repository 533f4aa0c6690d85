"""The worker process: one engine, at most one model, one channel to the parent (`python -m webui.loaders.worker`).

Messages are JSON, one a line. Requests come on standard input and carry an `id`; every answer names the request's id,
so several generations share the channel. The channel back is a private copy of standard output: what engines print goes
to standard error instead, where the parent keeps it as evidence. When standard input ends, the parent is gone or done,
and so is the worker.

    parent → worker   {"id", "op": "load", "title", "loader", "parameters_class", "facts", "parameters"}
                      {"id", "op": "tokenize", "text", "add_bos"}
                      {"id", "op": "generate", "request"}
                      {"id", "op": "cancel"}                          the id of the generation to end
    worker → parent   {"kind": "hello", "pid"}
                      {"id", "kind": "started"}                       the request has been read
                      {"id", "kind": "progress", "step", "share"}     while loading
                      {"id", "kind": "chunk", "text", "tokens"}       while generating
                      {"id", "kind": "part", "value"}                 the beginning of a long list of tokens
                      {"id", "kind": "result", "value"}               the end of a request
                      {"id", "kind": "error", "error"}                the other end of a request
                      {"kind": "dying", "error"}                      the engine has ended, and the worker follows

The command line's one argument bounds the memory of the process in bytes; 0 does not. On standard error a line that
begins with the character 0x1e and a request's id says that all output about that request stands before it.
"""

from __future__ import annotations

import contextlib
import ctypes
import faulthandler
import json
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable
from typing import Any, BinaryIO, NoReturn

from webui.errors import AppError, EngineRefused, HostOutOfMemory, NotLoaded
from webui.loaders.causes import explain_exception
from webui.loaders.contract import Chunk, GenerationRequest, Loader
from webui.loaders.references import resolve
from webui.loaders.sampling import SamplingParameters
from webui.models.facts import facts_from_dict

CLOSE_SECONDS = 3.0
"""How long the engine may take to close before the process ends anyway."""

CLOSE_FAILED, ENGINE_GONE, OUT_OF_MEMORY, CANNOT_TELL = 3, 4, 5, 6
"""Exit statuses: the engine did not close properly; it ended by itself; no memory is left to say what happened, or it
could not be said for another reason.
"""

FULL_SHARE = 0.85
"""From here on memory counts as full: what is left may be too scattered, or less than what was asked for."""

PART_TOKENS = 50_000
TEXT_CHARACTERS = 2000
_DOING = {"load": "load the model", "tokenize": "tokenise the text", "generate": "answer"}


class Worker:
    """Reads requests in the main thread; each one runs in a thread of its own, so that a cancel is always heard."""

    def __init__(self, requests: BinaryIO, answers: BinaryIO) -> None:
        self._requests = requests
        self._answers = answers
        self._lock = threading.Lock()
        self._cancelled: dict[int, threading.Event] = {}
        self._loader: Loader[Any] | None = None
        self._title = "The engine"

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
            self._send({"id": request_id, "kind": "started"})
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
            try:
                value = handlers[message["op"]](request_id, message)
                answer = {"id": request_id, "kind": "result", "value": value}
            except BaseException as error:  # noqa: BLE001 - the edge of the process: whatever an engine raises is told
                answer = self._failure(request_id, _DOING[message["op"]], error)
            self._send(answer)
        except BaseException as error:  # noqa: BLE001 - without an answer, the parent would wait for one
            _end(error)

    def _failure(self, request_id: int, doing: str, error: BaseException) -> dict[str, Any]:
        failure = explain_exception(self._title, doing, error)
        if failure.facts.get("unknown") and _memory_is_full():
            failure = HostOutOfMemory(
                f"{self._title} ran out of memory.", cause=failure.message, evidence=failure.evidence
            )
        if failure.facts.get("unknown"):
            _flush_output(request_id)
        return {"id": request_id, "kind": "error", "error": _shortened(failure.to_dict())}

    def _load(self, request_id: int, message: dict[str, Any]) -> Any:
        loader_class = resolve(message["loader"])
        parameters = resolve(message["parameters_class"]).model_validate(message["parameters"])
        loader = loader_class(facts_from_dict(message["facts"]), parameters)
        loader.died = self._end_with_engine
        self._title = message["title"]

        def progress(step: str, share: float | None = None) -> None:
            self._send({"id": request_id, "kind": "progress", "step": step, "share": share})

        self._loader = loader
        return loader.load(progress).to_dict()

    def _tokenize(self, request_id: int, message: dict[str, Any]) -> Any:
        tokens = self._loaded().tokenize(message["text"], add_bos=message["add_bos"])
        while len(tokens) > PART_TOKENS:
            self._send({"id": request_id, "kind": "part", "value": tokens[:PART_TOKENS]})
            tokens = tokens[PART_TOKENS:]
        return tokens

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

    def _end_with_engine(self, error: AppError) -> None:
        """The engine is gone and so is the use of this process: say why, and end."""
        self._send({"kind": "dying", "error": _shortened(error.to_dict())})
        os._exit(ENGINE_GONE)

    def _close(self) -> None:
        """End the engine's own child processes and files, then the process, whatever threads still do."""
        if self._loader is not None:
            _end_late()
            try:
                self._loader.close()
            except Exception:  # noqa: BLE001 - the process ends now; the parent reports what stands on standard error
                sys.stderr.write(traceback.format_exc())
                os._exit(CLOSE_FAILED)
        os._exit(0)


def _end_late() -> None:
    """See that the process ends even if closing hangs in a native call.

    Without a new thread where that is possible: there may be no memory for one.
    """
    if sys.platform != "win32":
        signal.setitimer(signal.ITIMER_REAL, CLOSE_SECONDS)
    else:
        threading.Timer(CLOSE_SECONDS, os._exit, (CLOSE_FAILED,)).start()


def _shortened(error: dict[str, Any]) -> dict[str, Any]:
    """An error whose texts an engine did not write a book into."""
    for name in ("message", "cause", "hint"):
        error[name] = error[name][:TEXT_CHARACTERS]
    error["evidence"] = [line[:TEXT_CHARACTERS] for line in error["evidence"]]
    return error


def _flush_output(request_id: int) -> None:
    """Hand over what the engine's own buffers hold, and mark that all about this request has been printed."""
    if sys.platform != "win32":
        ctypes.CDLL(None).fflush(None)
    sys.stderr.flush()
    os.write(2, f"\n\x1e{request_id}\n".encode())


def _limit_memory(most: int) -> None:
    """Bound what this process, and each that it starts, may write to; mapped files do not count (Linux)."""
    if most and sys.platform == "linux":
        import resource

        resource.setrlimit(resource.RLIMIT_DATA, (most, most))


def _memory_is_full() -> bool:
    """Whether this process has nearly all it may take: then what failed in an odd way failed for want of memory."""
    if sys.platform != "linux":
        return False
    import resource

    most, _ = resource.getrlimit(resource.RLIMIT_DATA)
    with open("/proc/self/status", "rb") as status:  # noqa: PTH123 - as bytes, since there may be no room for a codec
        held = next((int(line.split()[1]) * 1024 for line in status if line.startswith(b"VmData:")), 0)
    return most != resource.RLIM_INFINITY and held > FULL_SHARE * most


def _end(error: BaseException) -> NoReturn:
    """Too little is left of this process to answer: the parent reads from its last lines what `error` it was."""
    status = CANNOT_TELL
    try:
        if isinstance(error, MemoryError) or _memory_is_full():
            status = OUT_OF_MEMORY
            os.write(2, b"\nMemoryError\n")
        else:
            traceback.print_exception(error)
    finally:
        os._exit(status)


def _answer_signals() -> None:
    """Let the parent see the Python stacks of a process that hangs: faulthandler prints them even in a native call."""
    faulthandler.enable()
    if sys.platform != "win32":
        faulthandler.register(signal.SIGUSR1, all_threads=True)


def _show_output_at_once() -> None:
    """Engines that print with C's stdout would keep their last words in its buffer when they crash."""
    if sys.platform == "linux":
        library = ctypes.CDLL(None)
        by_lines = 1
        library.setvbuf(ctypes.c_void_p.in_dll(library, "stdout"), None, by_lines, 0)


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
    _limit_memory(int(sys.argv[1]))
    _answer_signals()
    _show_output_at_once()
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    Worker(sys.stdin.buffer, answers).run()


if __name__ == "__main__":
    main()
