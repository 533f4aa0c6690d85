"""A process that plays cells: `python -m tests.faults.host FOLDER`. Cells come by their ids on standard input, one a
line; what came of each goes to standard output as one line of JSON.

The app runs in this very process. If a cell ends it, the cell has failed. It ends itself after a cell that left the
app unfit for another one.
"""

from __future__ import annotations

import asyncio
import ctypes
import json
import os
import sys
import tempfile
import time
import traceback
from pathlib import Path
from typing import Any

from tests.builders.gguf import tiny_llama_spm
from tests.builders.llama import Shape
from tests.builders.transformers_dir import tiny_llama_dir
from tests.faults import engine_cells, file_cells, package_cells, request_cells, resource_cells, signal_cells
from tests.faults.cells import BY_ID, Cell, Kind
from tests.faults.stage import KNOWN, Prototypes, Stage, open_stage

CELL_SECONDS = 120.0
SHAPE = Shape(blocks=4, width=256, heads=8, heads_kv=4, feed_forward=512)
"""Tiny, and slow enough that a reply can be caught in the middle."""
CAPABILITY_VERSION, DAC_OVERRIDE, PR_CAPBSET_DROP = 0x20080522, 1 << 1, 24
PLAYERS = {
    Kind.ENGINE: engine_cells.play,
    Kind.SIGNAL: signal_cells.play,
    Kind.FILE: file_cells.play,
    Kind.PACKAGE: package_cells.play,
    Kind.REQUEST: request_cells.play,
    Kind.MEMORY: resource_cells.play,
    Kind.DISK: resource_cells.play,
    Kind.PORT: resource_cells.play,
}


def make_prototypes(folder: Path) -> None:
    """The models that all hosts share, in `folder`."""
    tiny_llama_spm(folder / "model.gguf", shape=SHAPE)
    tiny_llama_spm(folder / "small.gguf")
    tiny_llama_dir(folder / "directory", shape=SHAPE)


async def play(stage: Stage, cell: Cell) -> dict[str, Any]:
    """One cell, as a record of what came of it."""
    began, used = time.monotonic(), processor_seconds()
    stage.context.loaders.update(KNOWN)
    try:
        async with asyncio.timeout(CELL_SECONDS), stage.cell():
            try:
                await PLAYERS[cell.fault.kind](stage, cell)
            except Exception:  # noqa: BLE001 (whatever escapes here is a problem of the cell's, and told as one)
                stage.problems.append("the cell broke: " + traceback.format_exc()[-1500:])
    except TimeoutError:
        stage.spoilt = True
        stage.problems.append(f"not done after {CELL_SECONDS:.0f} s")
    return {
        "id": cell.id,
        "problems": stage.problems,
        "seconds": round(time.monotonic() - began, 2),
        "processor_seconds": round(processor_seconds() - used, 2),
        "spoilt": stage.spoilt,
        **stage.notes,
    }


def processor_seconds() -> float:
    """What this process and those it has ended took of the processors so far."""
    return sum(os.times()[:4])


def obey_permissions() -> None:
    """Give up what lets an administrator write where nobody may, in this process and those it starts (Linux)."""
    if os.geteuid() != 0:
        return
    library = ctypes.CDLL(None, use_errno=True)
    header = (ctypes.c_uint32 * 2)(CAPABILITY_VERSION, 0)
    sets = (ctypes.c_uint32 * 6)()
    if library.capget(header, sets) == 0:
        sets[0] &= ~DAC_OVERRIDE
        library.prctl(PR_CAPBSET_DROP, DAC_OVERRIDE.bit_length() - 1)
        library.capset(header, sets)


async def main(folder: Path) -> None:
    temporary = Path(tempfile.mkdtemp(dir=folder))
    tempfile.tempdir = str(temporary)
    os.environ["TMPDIR"] = str(temporary)
    prototypes = Prototypes(folder / "model.gguf", folder / "small.gguf", folder / "directory")
    home = Path(tempfile.mkdtemp(dir=folder))
    os.environ["GGUF_HOME"] = str(home)
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    async with open_stage(home, prototypes) as stage:
        while line := await asyncio.to_thread(sys.stdin.readline):
            outcome = await play(stage, BY_ID[line.strip()])
            answers.write(json.dumps(outcome) + "\n")
            answers.flush()
            if stage.spoilt:
                os._exit(1)


if __name__ == "__main__":
    obey_permissions()
    asyncio.run(main(Path(sys.argv[1])))
