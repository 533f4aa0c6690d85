"""Where a cell is played: the app's real server in this process, watched from all sides.

A thread asks `/health` all the while, over a real connection; each answer has to come within a second. After a cell the
app must be as it was before: no process, no port, no descriptor, no temporary file, no traceback.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import logging
import os
import shutil
import sys
import tempfile
import time
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import psutil
import uvicorn

from tests.fakes import misbehaving
from tests.faults.prober import Prober, message
from tests.loaders import toy
from tests.loaders.conftest import NEEDS
from webui.context import AppContext
from webui.loaders import LOADERS
from webui.models.facts import ModelFacts
from webui.models.inspect import inspect_model
from webui.paths import Paths
from webui.pool import Failure, LoadRequest, Pool
from webui.server import bind, create_api
from webui.settings import Settings

SETTLE_SECONDS = 5.0
UNLOAD_SECONDS = 15.0
GROWTH_BYTES = 128 * 1024 * 1024
"""What the app's own process may grow in one cell: less than the engine's floods by far, more than a library's
caches."""
LATEST = 20
"""More failures than one cell can have."""
MARKER = "GGUF_FAULT_CELL"
COMMON = {"context_size": 2000, "threads": 1, "slots": 2, "batch_size": 256}
KNOWN = {toy.SPEC.name: toy.SPEC, misbehaving.SPEC.name: misbehaving.SPEC, **LOADERS}


class Tracebacks(logging.Handler):
    """Every record of the log that carries an exception."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        if record.exc_info or "Traceback" in record.getMessage():
            self.found.append(f"{record.name}: {record.getMessage()} ({record.exc_info and record.exc_info[1]!r})")


class Tee(io.TextIOBase):
    """Standard error, kept to be looked through."""

    def __init__(self, original: Any) -> None:
        self.original = original
        self.text = ""

    def write(self, text: str) -> int:
        self.text += text
        self.original.write(text)
        return len(text)

    def flush(self) -> None:
        self.original.flush()


@dataclass
class Prototypes:
    """The model files that cells take their copies of."""

    gguf: Path
    small: Path
    directory: Path


@dataclass
class Stage:
    """One app, for many cells one after the other."""

    context: AppContext
    client: httpx.AsyncClient
    url: str
    prototypes: Prototypes
    listening: set[int]
    loop_errors: list[str] = field(default_factory=list)
    tracebacks: Tracebacks = field(default_factory=Tracebacks)
    errors: Tee = field(default_factory=lambda: Tee(sys.stderr))
    folder: Path = Path()
    problems: list[str] = field(default_factory=list)
    notes: dict[str, Any] = field(default_factory=dict)
    prober: Prober = field(default_factory=lambda: Prober("", lambda: None))
    began: float = 0.0
    pid_before: int | None = None
    descriptors: int = 0
    spoilt: bool = False
    """A cell has left the app in a state that the next ones must not begin with."""
    known_settings: dict[str, Settings] = field(default_factory=dict)

    @property
    def pool(self) -> Pool:
        return self.context.pool

    def expect(self, condition: bool, otherwise: str) -> bool:
        """Note `otherwise` as a problem of this cell unless `condition`."""
        if not condition:
            self.problems.append(otherwise)
        return condition

    def configure(self, **values: Any) -> None:
        """Settings for this cell: `limits__load_timeout_seconds=1`. Nothing falls back unless it is asked for."""
        dotted = {"backends.fallback_enabled": False} | {
            name.replace("__", "."): value for name, value in values.items()
        }
        key = repr(dotted)
        if key not in self.known_settings:
            self.known_settings[key] = Settings.load(
                self.context.paths, environment={}, command_line=dotted, loaders=KNOWN
            )
        self.context.settings = self.known_settings[key]

    def copy_model(self, loader: str) -> Path:
        """A model of this cell's own for `loader`."""
        if loader == "transformers":
            return Path(shutil.copytree(self.prototypes.directory, self.folder / "directory"))
        source = self.prototypes.gguf if loader in LOADERS else self.prototypes.small
        return Path(shutil.copy(source, self.folder / f"{loader}.gguf"))

    def parameters(self, loader: str, **values: Any) -> dict[str, Any]:
        """What `loader` needs here, with `values`."""
        fields = KNOWN[loader].parameters.model_fields
        needed = NEEDS[loader](self.folder) if loader in NEEDS else {}
        found = {**{name: value for name, value in COMMON.items() if name in fields}, **needed}
        return {**found, **values} if loader in LOADERS else values

    async def load(self, loader: str, facts: ModelFacts, parameters: dict[str, Any]) -> None:
        """Load with `loader` and no other. Raises as the pool does; nothing remembered plays a part."""
        await self.pool.load(LoadRequest(facts, loader, parameters, afresh=True))

    async def load_one_before(self) -> None:
        """A healthy model that is there before the cell's own."""
        path = Path(shutil.copy(self.prototypes.small, self.folder / "before.gguf"))
        await self.load(toy.SPEC.name, inspect_model(path), {"context_size": 512})
        self.pid_before = self.pool.status.pid

    async def ask(self, text: str = "say something", seconds: float = 45.0) -> httpx.Response:
        """A message as a client sends it."""
        return await self.client.post("/v1/chat/completions", json=message(text), timeout=seconds)

    async def expect_answer(self) -> None:
        """The next message is answered."""
        try:
            response = await self.ask()
        except httpx.HTTPError as error:
            self.problems.append(f"the next message: {type(error).__name__}")
            return
        self.notes["next"] = "answered" if response.status_code == 200 else response.text
        if self.expect(response.status_code == 200, f"the next message: {response.status_code} {response.text[:300]}"):
            content = response.json()["choices"][0]["message"]["content"]
            self.expect(bool(content), "the next message: an empty reply")

    async def expect_refusal(self) -> None:
        """The next message is refused at once, with a reason a client can show."""
        try:
            response = await self.ask(seconds=10)
        except httpx.HTTPError as error:
            self.problems.append(f"the next message: {type(error).__name__}")
            return
        self.expect(response.status_code == 503, f"the next message: {response.status_code} instead of a refusal")
        if response.status_code != 200:
            error = response.json()["error"]
            self.notes["next"] = f"refused: {error['message']}"
            self.expect(error["code"] == "not_loaded" and bool(error["message"]), f"an unclear refusal: {error}")

    def failures(self) -> list[Failure]:
        """What went on record in this cell, oldest first."""
        return [failure for failure in reversed(self.pool.failures(LATEST)) if failure.at >= self.began]

    async def until(self, what: str, condition: Callable[[], Any], seconds: float = 15.0) -> bool:
        """Wait for `condition`; a problem named `what` if it does not come."""
        deadline = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > deadline:
                self.problems.append(f"never happened within {seconds:.0f} s: {what}")
                return False
            await asyncio.sleep(0.02)
        return True

    # --- before and after ---------------------------------------------------------------------------------------

    @contextlib.asynccontextmanager
    async def cell(self) -> AsyncIterator[None]:
        """Everything is watched from here to the end of the block, and looked over after it."""
        marker = uuid.uuid4().hex
        os.environ[MARKER] = marker
        self.problems, self.notes = [], {}
        self.loop_errors.clear()
        self.tracebacks.found.clear()
        self.errors.text = ""
        memory = psutil.Process().memory_info().rss
        self.prober = Prober(self.url, lambda: self.pool.status.pid)
        self.began = time.time()
        self.prober.start()
        with tempfile.TemporaryDirectory(dir=self.context.paths.home) as folder:
            self.folder = Path(folder)
            with import_paths_kept():
                try:
                    yield
                finally:
                    self.prober.asking.clear()
                    await self._unload()
                    await self.until("something else is answered", lambda: self.prober.count, SETTLE_SECONDS)
                    await asyncio.to_thread(self.prober.finish)
                    await self._look_over(marker, memory)

    async def _unload(self) -> None:
        try:
            await asyncio.wait_for(self.pool.unload(), UNLOAD_SECONDS)
        except TimeoutError:
            self.spoilt = True
            self.problems.append("the pool cannot be emptied any more")

    async def _look_over(self, marker: str, memory: int) -> None:
        own = psutil.Process()
        self.problems += self.prober.problems[:5]
        self.notes["worst_seconds"] = round(self.prober.worst, 3)
        await self.until("all workers are gone", lambda: not self.pool.workers(), SETTLE_SECONDS)
        orphans = processes_with(marker)
        if orphans:
            await asyncio.to_thread(psutil.wait_procs, orphans, 1.0)
            orphans = processes_with(marker)
        self.expect(not orphans, f"left behind: {[' '.join(one.cmdline())[-120:] for one in orphans]}")
        for process in orphans:
            process.kill()
        self.expect(listening_ports(own) == self.listening, "a port is still open")
        await self.until("all descriptors are closed", lambda: own.num_fds() <= self.descriptors, SETTLE_SECONDS)
        left = list(Path(tempfile.gettempdir()).iterdir())
        self.expect(not left, f"temporary files are left: {[path.name for path in left]}")
        for path in left:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        grown = own.memory_info().rss - memory
        self.notes["grown_mib"] = grown // 1024 // 1024
        self.expect(grown < GROWTH_BYTES, f"the app grew by {grown / 1024 / 1024:.0f} MiB")
        self.problems += [f"unhandled in the event loop: {text}" for text in self.loop_errors]
        self.problems += [f"a traceback in the log: {text}" for text in self.tracebacks.found]
        self.expect("Traceback" not in self.errors.text, f"a traceback on the screen: {self.errors.text[-600:]}")


def processes_with(marker: str) -> list[psutil.Process]:
    """Processes other than this one that were started under `marker`, whoever their parent is now."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.pid == os.getpid() or process.status() == psutil.STATUS_ZOMBIE:
                continue
            if process.environ().get(MARKER) == marker:
                found.append(process)
    return found


def listening_ports(process: psutil.Process) -> set[int]:
    found = [one for child in [process, *process.children(recursive=True)] for one in child.net_connections("tcp")]
    return {one.laddr.port for one in found if one.status == psutil.CONN_LISTEN}


@contextlib.contextmanager
def import_paths_kept() -> Iterator[None]:
    """What a cell changes of the ways modules are found, here and in its workers, ends with it."""
    path, finders = list(sys.path), list(sys.meta_path)
    try:
        yield
    finally:
        sys.path[:], sys.meta_path[:] = path, finders


@contextlib.asynccontextmanager
async def open_stage(home: Path, prototypes: Prototypes) -> AsyncIterator[Stage]:
    """The app's server without its page, at home in `home`."""
    paths = Paths(home)
    paths.ensure()
    loaded = Settings.load(paths, environment={}, loaders=KNOWN)
    context = AppContext.create(paths, loaded, loaders=KNOWN)
    listener = bind("127.0.0.1", 0)
    port = listener.getsockname()[1]
    config = uvicorn.Config(
        create_api(context), log_config=None, ws="none", timeout_graceful_shutdown=1, timeout_keep_alive=3600
    )
    server = uvicorn.Server(config)
    task = asyncio.create_task(server.serve(sockets=[listener]))
    while not server.started:
        await asyncio.sleep(0.01)
    url = f"http://127.0.0.1:{port}"
    async with httpx.AsyncClient(base_url=url, trust_env=False) as client:
        stage = Stage(context, client, url, prototypes, {port})
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _loop, found: stage.loop_errors.append(str(found.get("exception") or found)))
        logging.getLogger().addHandler(stage.tracebacks)
        sys.stderr = stage.errors
        try:
            await _warm_up(stage)
            yield stage
        finally:
            sys.stderr = stage.errors.original
            logging.getLogger().removeHandler(stage.tracebacks)
            server.should_exit = True
            await task
            listener.close()


async def _warm_up(stage: Stage) -> None:
    """One ordinary life of a model, so that what is opened and imported once is there before anything is counted."""
    stage.configure()
    stage.descriptors = 1 << 20
    async with stage.cell():
        await stage.load_one_before()
        await stage.expect_answer()
    stage.descriptors = psutil.Process().num_fds()
