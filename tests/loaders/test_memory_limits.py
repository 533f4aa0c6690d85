"""Real engines with too little memory, by the limit of a worker and by the kernel's hand: never an unknown error."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.loaders.conftest import NEEDS, LivingEngine, Models
from tests.loaders.test_rogue_workers import running, write
from webui.errors import HostOutOfMemory
from webui.loaders import LOADERS
from webui.loaders.memory_kills import MemoryKills
from webui.loaders.supervisor import WorkerLimits, WorkerProcess

pytestmark = [pytest.mark.engine, pytest.mark.skipif(sys.platform != "linux", reason="the limits are Linux's")]

GROUPS = Path("/sys/fs/cgroup/memory")
TOO_LITTLE = {
    "ctransformers": (16, 30),
    "transformers": (16, 80, 150, 200),
    "llamafile": (16, 40, 110, 150),
    "xllamacpp": (16, 40, 90, 130),
    "llama-cpp-python": (16, 40, 115, 160),
}
"""MiB that let each engine come to a different step: threads, import, vocabulary, cache, computation."""


@pytest.mark.parametrize(("name", "mib"), [(name, mib) for name, each in TOO_LITTLE.items() for mib in each])
def test_an_engine_below_its_need_runs_out_of_memory_and_of_nothing_else(
    name: str, mib: int, models: Models, tmp_path: Path
) -> None:
    needed = NEEDS[name](tmp_path) if name in NEEDS else {}
    spec = LOADERS[name]
    living = LivingEngine(spec, models.for_loader(spec), needed)
    living.worker = WorkerProcess(spec, limits=WorkerLimits(memory_bytes=mib << 20, load_seconds=60))
    try:
        with pytest.raises(HostOutOfMemory) as caught:
            living.load()
        assert caught.value.facts["limit_bytes"] == mib << 20
        assert f"{mib} MiB" in caught.value.message
        assert caught.value.evidence
    finally:
        living.close()


@pytest.mark.parametrize("name", LOADERS)
def test_a_limit_above_the_need_is_not_felt(name: str, models: Models, tmp_path: Path) -> None:
    needed = NEEDS[name](tmp_path) if name in NEEDS else {}
    spec = LOADERS[name]
    living = LivingEngine(spec, models.for_loader(spec), needed)
    living.worker = WorkerProcess(spec, limits=WorkerLimits(memory_bytes=2048 << 20))
    try:
        assert living.load().ask("one two three", max_tokens=2).finished.completion_tokens == 2
    finally:
        living.close()


@pytest.fixture
def group() -> Iterator[Callable[[int, int], None]]:
    """Moves a process into a control group of its own, with so many bytes of memory."""
    folder = GROUPS / f"gguf-loader-tests-{os.getpid()}"
    try:
        folder.mkdir()
    except OSError:
        pytest.skip("control groups cannot be made here")

    def move(pid: int, most: int) -> None:
        (folder / "memory.limit_in_bytes").write_text(str(most))
        (folder / "cgroup.procs").write_text(str(pid))

    yield move
    folder.rmdir()


async def test_what_the_kernel_kills_for_memory_ran_out_of_memory(group: Callable[[int, int], None]) -> None:
    async with running() as worker:
        assert worker.pid is not None
        group(worker.pid, 96 << 20)
        text, error = await write(worker, "eat:500")
        assert type(error) is HostOutOfMemory
        assert text == "before "
        assert error.facts["signal"] == "SIGKILL"


def test_nobodys_kill_is_no_kill_for_memory() -> None:
    assert not MemoryKills(os.getpid()).rose()
    assert not MemoryKills(None).rose()
