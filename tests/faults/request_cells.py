"""The cells in which somebody asks a real engine for what it cannot do."""

from __future__ import annotations

from tests.faults.cells import Cell
from tests.faults.engine_cells import check_reply, finish
from tests.faults.stage import Stage
from webui.loaders.contract import GenerationRequest
from webui.loaders.sampling import SamplingParameters
from webui.models.inspect import inspect_model

TOO_LONG = "one two three four five " * 400
"""More than the context has room for, in whatever tokens."""


async def play(stage: Stage, cell: Cell) -> None:
    """The cell from its first step to the next message, which the same worker answers."""
    stage.configure()
    await stage.load(cell.loader, inspect_model(stage.copy_model(cell.loader)), stage.parameters(cell.loader))
    worker = stage.pool.status.pid
    job = stage.pool.submit(GenerationRequest(TOO_LONG, SamplingParameters(max_tokens=4)), owner="cell")
    await finish(stage, job)
    await check_reply(stage, cell, job)
    await stage.expect_answer()
    stage.expect(stage.pool.status.pid == worker, "the worker was started again")
