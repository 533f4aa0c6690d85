"""The parent's end of a worker: starts the process, speaks its protocol, keeps its output, explains its death.

What a `Loader` raises and any way the process can end arrive here as one `AppError` with the engine's last lines as
evidence. Deciding what to do about it is `webui.pool`'s business.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import os
import signal
import subprocess
import sys
from collections import deque
from collections.abc import AsyncGenerator, Callable
from dataclasses import asdict, dataclass
from typing import Any

import psutil

from webui.errors import AppError, EngineCrashed, TimedOut
from webui.loaders.contract import Chunk, Finished, GenerationRequest, LoadedModel, LoaderSpec
from webui.loaders.parameters import Parameters
from webui.models.facts import ModelFacts, facts_to_dict

OUTPUT_LINES = 400
LINE_LIMIT = 64 * 1024 * 1024
"""Longest message on the channel, bytes: a tokenised book, not more."""
OUTPUT_LINE_CHARACTERS = 2000
STOP_SECONDS = 4.0
"""How long a worker may take to end by itself: its engine's own limit (3 s) and a little."""


@dataclass(frozen=True, slots=True)
class WorkerLimits:
    """Bounds in seconds on the start of the process and on loading a model."""

    start_seconds: float = 60.0
    load_seconds: float = 600.0


class WorkerProcess:
    """One child process for one loader. Start it, load once, then generate; `stop` ends it for good.

    Must be started from a thread that lives as long as the worker should: on Linux the kernel ends the worker with it.
    """

    def __init__(self, spec: LoaderSpec, *, limits: WorkerLimits | None = None) -> None:
        self.spec = spec
        self.limits = limits or WorkerLimits()
        self.output: deque[str] = deque(maxlen=OUTPUT_LINES)
        self.exited: asyncio.Event = asyncio.Event()
        self.exit_status: int | None = None
        self._stopping = False
        self._ids = itertools.count(1)
        self._inboxes: dict[int, asyncio.Queue[dict[str, Any]]] = {}
        self._hello: asyncio.Future[int] | None = None
        self._process: asyncio.subprocess.Process | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._descendants: list[psutil.Process] = []

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process else None

    async def start(self) -> None:
        """Start the process and wait until it speaks. Raises `EngineCrashed` or `TimedOut`."""
        environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
            "PYTHONUNBUFFERED": "1",
            "PYTHONIOENCODING": "utf-8",
        }
        # A group of its own: Ctrl-C in the terminal is for the app, and the group can be ended as one.
        options: dict[str, Any] = {"start_new_session": True}
        if sys.platform == "win32":
            options = {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP}
        self._hello = asyncio.get_running_loop().create_future()
        self._process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-P",
            "-m",
            "webui.loaders.worker",
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            limit=LINE_LIMIT,
            env=environment,
            **options,
        )
        channel = asyncio.create_task(self._read_channel(self._process))
        output = asyncio.create_task(self._read_output(self._process))
        self._tasks = [channel, output, asyncio.create_task(self._watch(self._process, channel, output))]
        try:
            async with asyncio.timeout(self.limits.start_seconds):
                await self._hello
        except TimeoutError:
            error = TimedOut(
                f"The {self.spec.title} worker did not start within {self.limits.start_seconds:.0f} s.",
                evidence=self.output,
            )
            await self.stop()
            raise error from None
        except asyncio.CancelledError:
            await asyncio.shield(self.stop())
            raise

    async def load(
        self,
        facts: ModelFacts,
        parameters: Parameters,
        progress: Callable[[str, float | None], None] = lambda step, share: None,
    ) -> LoadedModel:
        """Load the model; `progress` is called with (step, share done or None)."""
        message = {
            "op": "load",
            "loader": _reference(self.spec.loader),
            "parameters_class": _reference(type(parameters)),
            "facts": facts_to_dict(facts),
            "parameters": parameters.model_dump(mode="json"),
        }
        try:
            async with asyncio.timeout(self.limits.load_seconds):
                async with contextlib.aclosing(self._ask(message)) as answers:
                    async for answer in answers:
                        if answer["kind"] == "progress":
                            progress(answer["step"], answer["share"])
                        else:
                            return LoadedModel.from_dict(answer["value"])
        except TimeoutError:
            raise TimedOut(
                f"{self.spec.title} did not load the model within {self.limits.load_seconds:.0f} s.",
                evidence=self.output,
            ) from None
        raise AssertionError("a load ends with a result or an error")

    async def tokenize(self, text: str, *, add_bos: bool = True) -> list[int]:
        """Token ids of `text`, special tokens parsed, with BOS if asked for and the model wants one."""
        async with contextlib.aclosing(self._ask({"op": "tokenize", "text": text, "add_bos": add_bos})) as answers:
            async for answer in answers:
                return list(answer["value"])
        raise AssertionError("a request ends with a result or an error")

    def generate(self, request: GenerationRequest) -> Generation:
        """A generation to iterate over (`events`) and to cancel; it starts with the first event asked for."""
        return Generation(self, request)

    def memory_bytes(self) -> int | None:
        """Resident memory of the worker and its children; `None` when it has ended."""
        return self._sum_memory(lambda process: int(process.memory_info().rss))

    def peak_memory_bytes(self) -> int | None:
        """Largest resident memory so far, of the worker and its living children, where the system keeps it."""
        return self._sum_memory(_peak_memory)

    async def stop(self) -> None:
        """End the process and everything it started: politely first, then by force. Safe to call twice."""
        process = self._process
        if process is None:
            return
        self._stopping = True
        self._remember_descendants()
        if process.stdin is not None:
            process.stdin.close()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(STOP_SECONDS):
                await self.exited.wait()
        self._kill_group()
        await self.exited.wait()
        await asyncio.gather(*self._tasks)

    def kill(self) -> None:
        """End the process at once; its death is then reported like any other."""
        self._remember_descendants()
        self._kill_group()

    # --- the protocol -------------------------------------------------------------------------------------------

    def _new_id(self) -> int:
        return next(self._ids)

    async def _ask(
        self, message: dict[str, Any], request_id: int | None = None
    ) -> AsyncGenerator[dict[str, Any], None]:
        """Send a request and yield its answers up to the last; an error answer is raised."""
        request_id = self._new_id() if request_id is None else request_id
        inbox = self._open(request_id)
        try:
            await self._send({"id": request_id, **message})
            while True:
                answer = await inbox.get()
                if answer["kind"] == "error":
                    raise self._with_output(AppError.from_dict(answer["error"]))
                yield answer
                if answer["kind"] == "result":
                    return
        finally:
            self._inboxes.pop(request_id, None)

    def _open(self, request_id: int) -> asyncio.Queue[dict[str, Any]]:
        inbox: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self._inboxes[request_id] = inbox
        if self.exited.is_set():
            inbox.put_nowait({"kind": "error", "error": self.death().to_dict()})
        return inbox

    async def _send(self, message: dict[str, Any]) -> None:
        if self.exited.is_set() or self._process is None or self._process.stdin is None:
            return  # the inbox already holds, or will hold, the account of the death
        self._process.stdin.write(json.dumps(message).encode() + b"\n")
        with contextlib.suppress(ConnectionError):
            await self._process.stdin.drain()

    async def _read_channel(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdout is not None
        while line := await process.stdout.readline():
            try:
                message = json.loads(line)
            except ValueError:
                self.output.append(f"not a message: {line[:200]!r}")
                continue
            if message.get("kind") == "hello":
                if self._hello is not None and not self._hello.done():
                    self._hello.set_result(message["pid"])
            elif inbox := self._inboxes.get(message.get("id")):
                inbox.put_nowait(message)

    async def _read_output(self, process: asyncio.subprocess.Process) -> None:
        """Drain standard error for as long as it is open: a full pipe would stop the engine."""
        assert process.stderr is not None
        pending = b""
        while block := await process.stderr.read(65536):
            *lines, pending = (pending + block).replace(b"\r", b"\n").split(b"\n")
            self.output.extend(_readable(line) for line in lines if line.strip())
            pending = pending[-OUTPUT_LINE_CHARACTERS:]
        if pending.strip():
            self.output.append(_readable(pending))

    async def _watch(self, process: asyncio.subprocess.Process, *readers: asyncio.Task[None]) -> None:
        """Note the end of the process, then tell everybody who waits for an answer."""
        self.exit_status = await process.wait()
        self._kill_group()
        # The last lines are the evidence; a grandchild that survived a kill must not hold us up for them.
        await asyncio.wait(readers, timeout=2.0)
        for reader in readers:
            reader.cancel()
        self.exited.set()
        death = {"kind": "error", "error": self.death().to_dict()}
        for inbox in self._inboxes.values():
            inbox.put_nowait(death)
        if self._hello is not None and not self._hello.done():
            self._hello.set_exception(self.death())

    def death(self) -> AppError:
        """What the end of this process means; to be asked once `exited` is set."""
        return explain_exit(self.spec.title, self.exit_status, list(self.output), expected=self._stopping)

    def _with_output(self, error: AppError) -> AppError:
        """Errors raised inside the worker carry no output of the engine; add what it printed."""
        if not error.evidence and self.output:
            error.evidence = tuple(self.output)[-20:]
        return error

    # --- the process --------------------------------------------------------------------------------------------

    def _processes(self) -> list[psutil.Process]:
        if self.pid is None or self.exited.is_set():
            return []
        try:
            own = psutil.Process(self.pid)
            return [own, *own.children(recursive=True)]
        except psutil.Error:
            return []

    def _sum_memory(self, measure: Callable[[psutil.Process], int]) -> int | None:
        total = 0
        for process in self._processes():
            with contextlib.suppress(psutil.Error, OSError):
                total += measure(process)
        return total or None

    def _remember_descendants(self) -> None:
        """Children are found through their parent; once it is gone they could no longer be."""
        self._descendants = self._processes()[1:] or self._descendants

    def _kill_group(self) -> None:
        if self._process is None:
            return
        if sys.platform != "win32":
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, signal.SIGKILL)
        elif self._process.returncode is None:
            self._process.kill()
        for child in self._descendants:
            with contextlib.suppress(psutil.Error):
                child.kill()


class Generation:
    """One generation of a worker: its events, and a `cancel` of its own."""

    def __init__(self, worker: WorkerProcess, request: GenerationRequest) -> None:
        self._worker = worker
        self._request = request
        self._id = worker._new_id()
        self._cancelled = False

    async def events(self) -> AsyncGenerator[Chunk | Finished, None]:
        """Chunks as they come, then one `Finished`; an `AppError` is raised if the engine or the worker fails."""
        if self._cancelled:
            yield Finished("cancelled", 0, 0, 0.0, 0.0)
            return
        fields = {**asdict(self._request), "sampling": self._request.sampling.model_dump(mode="json")}
        message = {"op": "generate", "request": fields}
        complete = False
        try:
            async with contextlib.aclosing(self._worker._ask(message, self._id)) as answers:
                async for answer in answers:
                    if answer["kind"] == "chunk":
                        yield Chunk(answer["text"], answer["tokens"])
                    else:
                        complete = True
                        value = answer["value"]
                        yield Finished(**{**value, "ignored_sampling": tuple(value["ignored_sampling"])})
        finally:
            if not complete:
                self.cancel()

    def cancel(self) -> None:
        """Ask the worker to end it; its `Finished` follows within a token's time."""
        self._cancelled = True
        process = self._worker._process
        if process is not None and process.stdin is not None and not process.stdin.is_closing():
            process.stdin.write(json.dumps({"id": self._id, "op": "cancel"}).encode() + b"\n")


def explain_exit(title: str, status: int | None, output: list[str], *, expected: bool = False) -> AppError:
    """What the end of a worker means. `status` is the exit status, negative for a signal as on POSIX."""
    if expected:
        return EngineCrashed(f"The {title} worker was stopped.", evidence=output, exit_status=status)
    if status is not None and status < 0:
        try:
            name = signal.Signals(-status).name
        except ValueError:
            name = f"signal {-status}"
        cause = f"its process was ended by {name}"
        if name == "SIGKILL":
            cause += ", which the system sends when memory runs out, or somebody sent by hand"
        return EngineCrashed(f"{title} crashed ({name}).", cause=cause, evidence=output, signal=name)
    return EngineCrashed(
        f"{title} ended unexpectedly (exit status {status}).",
        cause="its process ended by itself",
        evidence=output,
        exit_status=status,
    )


def _reference(cls: type) -> str:
    return f"{cls.__module__}:{cls.__qualname__}"


def _readable(line: bytes) -> str:
    return line.decode("utf-8", "replace")[:OUTPUT_LINE_CHARACTERS]


def _peak_memory(process: psutil.Process) -> int:
    """Peak resident bytes of a process: VmHWM on Linux, the peak working set on Windows, else what it holds now."""
    if sys.platform == "linux":
        with open(f"/proc/{process.pid}/status", encoding="ascii", errors="replace") as status:  # noqa: PTH123
            for line in status:
                if line.startswith("VmHWM:"):
                    return int(line.split()[1]) * 1024
    info = process.memory_info()
    return int(getattr(info, "peak_wset", info.rss))
