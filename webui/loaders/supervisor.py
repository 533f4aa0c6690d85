"""The parent's end of a worker: starts the process, speaks its protocol, keeps its output, explains its death.

What a `Loader` raises and any way the process can end arrive here as one `AppError` with the engine's last lines as
evidence. Whatever the process sends or fails to do costs the app neither memory nor time: see `webui.loaders.channel`.
Deciding what to do about a failure is `webui.pool`'s business.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import logging
import sys
import uuid
from collections import deque
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from webui.errors import AppError, TimedOut
from webui.loaders import processes
from webui.loaders.causes import explain_exception, explain_exit, name_damage, name_limit, proof, typed
from webui.loaders.channel import BLOCK, Garbled, Inbox, garbled, lines_of, parse, read_model, read_out, read_tokens
from webui.loaders.contract import GenerationRequest, LoadedModel, LoaderSpec
from webui.loaders.generation import Generation
from webui.loaders.memory_kills import MemoryKills
from webui.loaders.parameters import Parameters
from webui.loaders.process_state import watch
from webui.loaders.references import reference
from webui.loaders.worker_output import WorkerOutput, readable, within
from webui.models.facts import ModelFacts, facts_to_dict

log = logging.getLogger(__name__)

EARLY_LINES = 100
"""Lines that may stand on the channel before the first message: what others print while Python starts."""

STOP_SECONDS = 4.0
"""How long a worker may take to end by itself: its engine's own limit (3 s) and a little."""
KILL_SECONDS = 5.0
"""How long the system may take to end a process by force; one that waits for a broken device takes for ever."""
CLOSED_SECONDS = 1.0
"""How long a worker whose channel has ended may take to end itself."""
TOKENIZE_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class WorkerLimits:
    """Bounds in seconds on the start of the process and on loading a model, and on the memory each of its processes
    may take.

    `memory_bytes` bounds what a process can write to (RLIMIT_DATA, on Linux; without effect elsewhere), not the weights
    it maps from a file, which the system can take back at any time. `environment` holds the variables that say which
    GPUs it may see.
    """

    start_seconds: float = 60.0
    load_seconds: float = 600.0
    memory_bytes: int | None = None
    environment: Mapping[str, str] = field(default_factory=dict)


class WorkerProcess:
    """One child process for one loader. Start it, load once, then generate; `stop` ends it for good.

    Must be started from a thread that lives as long as the worker should: on Linux the kernel ends the worker with it.
    """

    def __init__(self, spec: LoaderSpec, *, limits: WorkerLimits | None = None) -> None:
        self.spec = spec
        self.limits = limits or WorkerLimits()
        self.exited: asyncio.Event = asyncio.Event()
        self.exit_status: int | None = None
        self._ended = asyncio.Event()  # the process has; `exited` is set when its last words are in, too
        self._mark = uuid.uuid4().hex
        self._stopping = False
        self._verdict: AppError | None = None
        self._ids = itertools.count(1)
        self._inboxes: dict[int, Inbox] = {}
        self._hello: asyncio.Future[int] | None = None
        self._process: asyncio.subprocess.Process | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._descendants: list[psutil.Process] = []
        self._files: dict[Path, int] = {}
        self._kills = MemoryKills(None)
        self._output = WorkerOutput()

    @property
    def output(self) -> deque[str]:
        """The last lines that the process printed."""
        return self._output.lines

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process else None

    @property
    def _greeted(self) -> bool:
        hello = self._hello  # cancelled once it was waited for in vain
        return hello is not None and hello.done() and not hello.cancelled() and hello.exception() is None

    async def start(self) -> None:
        """Start the process and wait until it speaks. Raises the cause if it does not."""
        self._hello = asyncio.get_running_loop().create_future()
        try:
            process = await asyncio.create_subprocess_exec(
                *[sys.executable, "-P", "-m", "webui.loaders.worker", str(self.limits.memory_bytes or 0)],
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                limit=BLOCK,
                env=processes.environment(self._mark, self.limits.environment),
                **processes.OWN_GROUP,
            )
        except OSError as error:
            raise explain_exception(self.spec.title, "start its worker", error) from error
        self._process = process
        self._kills = MemoryKills(process.pid)
        assert process.stderr is not None
        channel = asyncio.create_task(self._read_channel(process))
        output = asyncio.create_task(self._output.drain(process.stderr))
        self._tasks = [channel, output, asyncio.create_task(self._watch(process, channel, output))]
        try:
            async with asyncio.timeout(self.limits.start_seconds):
                await self._hello
        except TimeoutError:
            await self.record_state()
            late = TimedOut(
                f"The {self.spec.title} worker did not start within {self.limits.start_seconds:.0f} s.",
                evidence=self.output,
            )
            await self.stop()
            raise late from None
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
            "title": self.spec.title,
            "loader": reference(self.spec.loader),
            "parameters_class": reference(type(parameters)),
            "facts": facts_to_dict(facts),
            "parameters": parameters.model_dump(mode="json"),
        }
        self._files = processes.sizes(facts.files)
        try:
            with self.checking():
                async with asyncio.timeout(self.limits.load_seconds):
                    async with contextlib.aclosing(self.ask(message)) as answers:
                        async for answer in answers:
                            if answer["kind"] == "result":
                                return read_model(answer["value"])
                            if answer["kind"] != "progress":
                                raise Garbled(f"a {answer['kind']} while it was to load")
                            progress(answer["step"][:200], answer.get("share"))
        except TimeoutError:
            await self.record_state()
            raise TimedOut(
                f"{self.spec.title} did not load the model within {self.limits.load_seconds:.0f} s.",
                evidence=self.output,
            ) from None
        raise AssertionError("a load ends with a result or an error")

    async def tokenize(self, text: str, *, add_bos: bool = True) -> list[int]:
        """Token ids of `text`, special tokens parsed, with BOS if asked for and the model wants one."""
        tokens: list[int] = []
        request = {"op": "tokenize", "text": text, "add_bos": add_bos}
        try:
            with self.checking():
                async with asyncio.timeout(TOKENIZE_SECONDS):
                    async with contextlib.aclosing(self.ask(request)) as answers:
                        async for answer in answers:
                            if answer["kind"] not in ("part", "result"):
                                raise Garbled(f"a {answer['kind']} while it was to tokenise")
                            tokens += read_tokens(answer["value"])
        except TimeoutError:
            raise TimedOut(f"{self.spec.title} did not tokenise the text within {TOKENIZE_SECONDS:.0f} s.") from None
        return tokens

    def generate(self, request: GenerationRequest) -> Generation:
        """A generation to iterate over (`events`) and to cancel; it starts with the first event asked for."""
        return Generation(self, request)

    def memory_bytes(self) -> int | None:
        """Resident memory of the worker and its children; `None` when it has ended."""
        return processes.sum_memory(self._family(), processes.resident)

    def peak_memory_bytes(self) -> int | None:
        """Largest resident memory so far, of the worker and its living children, where the system keeps it."""
        return processes.sum_memory(self._family(), processes.peak_resident)

    async def record_state(self) -> None:
        """Put into `output` what a process that hangs is doing: its Python stacks, and the state of its threads.

        Takes half a second, and comes back whatever state the process is in. To be called before it is ended.
        """
        if pids := [process.pid for process in self._family()]:
            self._output.add(await watch(pids, dumps_stacks=self._greeted))

    async def stop(self) -> None:
        """End the process and everything it started: politely first, then by force. Safe to call twice."""
        process = self._process
        if process is None:
            return
        first, self._stopping = not self._stopping, True
        asked = not self.exited.is_set()
        self._remember_descendants()
        if process.stdin is not None:
            process.stdin.close()
        polite = await within(STOP_SECONDS, self.exited)
        self._kill_group()
        if not await within(KILL_SECONDS, self.exited):
            log.error("%s (process %s) cannot be ended: it waits for a device or a disk", self.spec.title, self.pid)
            return
        for task in self._tasks:
            if not task.cancelled() and (fault := task.exception()):
                log.error("Watching %s broke", self.spec.title, exc_info=fault)
        if first and asked and self._verdict is None:
            self._report_end(polite)

    def _report_end(self, polite: bool) -> None:
        """Unloading has succeeded once the process is gone; how it went is worth a line all the same."""
        if not polite:
            log.warning("%s did not end within %.0f s and was ended by force", self.spec.title, STOP_SECONDS)
        elif self.exit_status:
            end = explain_exit(self.spec.title, self.exit_status, self._output.latest())
            log.warning("%s failed while it was unloaded: %s", self.spec.title, end.cause or end.message)

    async def end_hung(self, error: AppError) -> None:
        """Record what the silent process is doing as evidence of `error`, and end it; its death is then that error.

        Also where the look itself ends it: stacks are read without the interpreter's lock, which now and then fails.
        """
        self._verdict = self._verdict or error
        await self.record_state()
        error.evidence = tuple(self.output)
        self.kill()

    def kill(self, because: AppError | None = None) -> None:
        """End the process at once; its death is then reported like any other, or as `because`."""
        self._verdict = self._verdict or because
        self._remember_descendants()
        self._kill_group()

    def death(self) -> AppError:
        """What the end of this process means; to be asked once `exited` is set."""
        if self._verdict is not None:
            return AppError.from_dict(self._verdict.to_dict())
        return self._in_context(
            explain_exit(
                self.spec.title,
                self.exit_status,
                self._output.latest(),
                expected=self._stopping,
                killed_for_memory=self._kills.rose(),
                started=self._greeted,
            )
        )

    # --- the protocol -------------------------------------------------------------------------------------------

    def new_id(self) -> int:
        return next(self._ids)

    async def ask(self, message: dict[str, Any], request_id: int | None = None) -> AsyncGenerator[dict[str, Any], None]:
        """Send a request and yield its answers up to the last; an error answer is raised.

        A worker that died before it saw the request raises its death with the fact `before_start`.
        """
        request_id = self.new_id() if request_id is None else request_id
        inbox = self._open(request_id)
        started = False
        try:
            self.send({"id": request_id, **message})
            while True:
                try:
                    answer = await inbox.get()
                except AppError as death:
                    if not started:
                        death.facts["before_start"] = True
                    raise
                started = True
                if answer["kind"] == "started":
                    continue
                if answer["kind"] == "error":
                    raise await self._complete(AppError.from_dict(answer["error"]), request_id)
                yield answer
                if answer["kind"] == "result":
                    return
        finally:
            inbox.close()
            del self._inboxes[request_id]
            self._output.forget(request_id)
            if not self._inboxes and not self.exited.is_set():
                self._output.turn_page()

    def _open(self, request_id: int) -> Inbox:
        inbox = Inbox()
        if not self._inboxes and not self.exited.is_set():
            self._output.turn_page()
            self._kills.refresh()
        self._inboxes[request_id] = inbox
        self._output.expect(request_id)
        if self.exited.is_set():
            inbox.end(self.death)
        return inbox

    def send(self, message: dict[str, Any]) -> None:
        """Hand a message to the pipe. Nobody waits for the worker to read it: one that hangs is noticed elsewhere."""
        pipe = self._process.stdin if self._process else None
        if pipe is not None and not pipe.is_closing():
            pipe.write(json.dumps(message).encode() + b"\n")

    async def _read_channel(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdout is not None
        early = 0
        try:
            async for line in lines_of(process.stdout):
                try:
                    message = parse(line)
                except Garbled:
                    early += 1
                    if self._greeted or early > EARLY_LINES:
                        raise
                    self._output.add([readable(line)])
                    continue
                await self._take(message)
        except Garbled as fault:
            self.kill(garbled(self.spec.title, str(fault), self._output.latest()))
            return
        if await within(CLOSED_SECONDS, self._ended) or self._stopping:
            return
        self.kill(garbled(self.spec.title, "the end of its answers, and went on running", self._output.latest()))

    async def _take(self, message: dict[str, Any]) -> None:
        if message["kind"] == "hello":
            if self._hello is not None and not self._hello.done():
                self._hello.set_result(message["pid"])
        elif message["kind"] == "dying":
            self.kill(self._in_context(AppError.from_dict(message["error"])))
        elif inbox := self._inboxes.get(message["id"]):
            await inbox.put(message)

    async def _watch(self, process: asyncio.subprocess.Process, *readers: asyncio.Task[None]) -> None:
        """Note the end of the process, then tell everybody who waits for an answer."""
        waiting = asyncio.ensure_future(process.wait())  # waits for the ends of its pipes too, which others may hold
        while process.returncode is None:
            await asyncio.wait([waiting], timeout=0.2)
        self._ended.set()
        self.exit_status = process.returncode
        self._kill_group()
        await asyncio.to_thread(processes.kill_marked, self._mark)
        # The last lines are the evidence; a grandchild that survived a kill must not hold us up for them.
        await asyncio.wait(readers, timeout=2.0)
        for task in (*readers, waiting):
            task.cancel()
        await asyncio.wait([*readers, waiting])
        await read_out(process.stdout, process.stderr)
        self.exited.set()
        for inbox in self._inboxes.values():
            inbox.end(self.death)
        if self._hello is not None and not self._hello.done():
            self._hello.set_exception(self.death())

    # --- errors -------------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def checking(self) -> Iterator[None]:
        """End a worker whose answer in the block turned out not to be one."""
        try:
            yield
        except Garbled as fault:
            error = garbled(self.spec.title, str(fault), self._output.latest())
            self.kill(error)
            raise error from None

    async def _complete(self, error: AppError, request_id: int) -> AppError:
        """An error raised inside the worker, which does not see what its engine printed: add it, and what it proves."""
        if error.facts.get("unknown"):
            await self._output.all_of(request_id)
            if known := typed(self.spec.title, self._output.latest()):
                error = known
        if not error.evidence and self.output:
            error.evidence = tuple(proof(self._output.latest() or list(self.output)))
        return self._in_context(error)

    def _in_context(self, error: AppError) -> AppError:
        """The error with what only this side knows: the worker's limit, and the file as it was at first."""
        error = name_damage(self.spec.title, error, processes.damage(self._files))
        return name_limit(self.spec.title, error, self.limits.memory_bytes).concerning(self.spec.name)

    # --- the process --------------------------------------------------------------------------------------------

    def _family(self) -> list[psutil.Process]:
        return [] if self.exited.is_set() else processes.family(self.pid)

    def _remember_descendants(self) -> None:
        """Children are found through their parent; once it is gone they could no longer be."""
        self._descendants = self._family()[1:] or self._descendants

    def _kill_group(self) -> None:
        if self.pid is not None and not self.exited.is_set():  # by then all is gone, and the number may be another's
            processes.kill_group(self.pid)
            processes.kill_all(self._descendants)
