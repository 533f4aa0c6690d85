"""The cells in which the machine gives no more: memory, disk, the port."""

from __future__ import annotations

import contextlib
import resource
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from tests.fakes import executable
from tests.faults.cells import Cell, Kind, Phase
from tests.faults.engine_cells import begun, check_reply, finish, load_failed
from tests.faults.stage import Stage
from webui.errors import AppError
from webui.loaders.sampling import SamplingParameters
from webui.models.inspect import inspect_model

LIMIT_MEBIBYTES = {"transformers": 150}
"""What importing torch alone exceeds; the others need more than the general limit for their cache."""
GENERAL_LIMIT = 400
LARGE_CONTEXT = 1_000_000
"""Its cache takes several times the limit."""
OFTEN = 1000
SHORT_REPLY = SamplingParameters(max_tokens=300, temperature=0)


async def play(stage: Stage, cell: Cell) -> None:
    """The cell from its first step to the next message."""
    limit = LIMIT_MEBIBYTES.get(cell.loader, GENERAL_LIMIT) if cell.fault.kind is Kind.MEMORY else 0
    stage.configure(limits__worker_memory_mib=limit)
    facts = inspect_model(stage.copy_model(cell.loader))
    parameters = stage.parameters(cell.loader, **_wanted(cell)) | _executable(stage, cell)
    if cell.phase is Phase.SWAP:
        await stage.load_one_before()
        stage.prober.asking.set()
    try:
        with _disk_trouble(stage, cell, Phase.LOAD):
            await stage.load(cell.loader, facts, parameters)
            await stage.expect_answer()
    except AppError as error:
        stage.prober.asking.clear()
        await load_failed(stage, cell, error)
        return
    finally:
        stage.prober.asking.clear()
    if not stage.expect(not cell.fault.expected(cell.phase), "the load worked"):
        return
    with _disk_trouble(stage, cell, Phase.IDLE):
        await stage.expect_answer()
    if cell.phase is Phase.MID_STREAM:
        await _reply(stage, cell)
    await stage.expect_answer()


async def _reply(stage: Stage, cell: Cell) -> None:
    """A reply in the middle of which the trouble begins."""
    job = await begun(stage, SHORT_REPLY)
    with _disk_trouble(stage, cell, Phase.MID_STREAM):
        await finish(stage, job)
    await check_reply(stage, cell, job)


def _wanted(cell: Cell) -> dict[str, Any]:
    return {"context_size": LARGE_CONTEXT} if cell.fault.kind is Kind.MEMORY else {}


def _executable(stage: Stage, cell: Cell) -> dict[str, str]:
    """The server behind a program that has its port taken: once, or each time."""
    if cell.fault.kind is not Kind.PORT:
        return {}
    times = 1 if cell.fault.name == "port-taken-once" else OFTEN
    server = executable(stage.folder, "real-server", "llama_server")
    counter = str(stage.folder / "starts")
    thief = executable(stage.folder, "llama-server", "port_thief", str(times), counter, str(server))
    return {"executable": str(thief)}


def _disk_trouble(stage: Stage, cell: Cell, phase: Phase) -> AbstractContextManager[None]:
    """The fault of the disk, if `phase` is when it is to come."""
    if cell.fault.kind is not Kind.DISK or cell.phase is not phase:
        return contextlib.nullcontext()
    return full_disk() if cell.fault.name == "full-disk" else read_only(stage.context.paths.home)


@contextlib.contextmanager
def full_disk() -> Iterator[None]:
    """No file can grow, in this process and in those it starts: what a full disk is to a program."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@contextlib.contextmanager
def read_only(folder: Path) -> Iterator[None]:
    """Nothing beneath `folder` can be written, made or removed."""
    modes = {path: path.stat().st_mode for path in (folder, *folder.rglob("*"))}
    for path, mode in modes.items():
        path.chmod(mode & ~0o222)
    try:
        with contextlib.suppress(PermissionError):
            (folder / "new").touch()
            raise RuntimeError("this account writes where nobody may")
        yield
    finally:
        for path, mode in modes.items():
            path.chmod(mode)
