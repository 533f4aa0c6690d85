"""Every fault and every phase of every loader. What is asserted of each cell stands in `tests.faults.stage` and the
`*_cells` modules; `python -m tests.faults.matrix` shows the table, and with `--run` plays all of it.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest

from tests.faults.board import Board, open_board
from tests.faults.cells import BY_ID, CELLS
from tests.faults.matrix import HOSTS, table

pytestmark = [
    pytest.mark.engine,
    pytest.mark.skipif(sys.platform != "linux", reason="limits, signals and the accounts of processes are Linux's"),
]
FEWEST_CELLS = 150
FAR = 4
"""A fault that strikes in more phases than this is played in two of them here."""


def chosen() -> list[str]:
    """Each fault of each loader in one phase or two, others for the next fault, and each phase of each loader."""
    phases: dict[tuple[str, str], list[str]] = {}
    for cell in CELLS:
        phases.setdefault((cell.loader, cell.fault.name), []).append(cell.id)
    played = {ids[number % len(ids)] for number, ids in enumerate(phases.values())}
    played |= {ids[(number + len(ids) // 2) % len(ids)] for number, ids in enumerate(phases.values()) if len(ids) > FAR}
    covered = {(cell.loader, cell.phase) for cell in CELLS if cell.id in played}
    first = {(cell.loader, cell.phase): cell.id for cell in reversed(CELLS)}
    played |= {first[missing] for missing in first.keys() - covered}
    return [cell.id for cell in CELLS if cell.id in played]


@pytest.fixture(scope="module")
def board(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Board]:
    """Plays the cells that were chosen, ahead of the tests that ask for them."""
    chosen = [
        item.callspec.params["cell"]
        for item in request.session.items
        if isinstance(item, pytest.Function) and item.originalname == "test_cell"
    ]
    with open_board(tmp_path_factory.mktemp("cells"), chosen, HOSTS) as board:
        yield board


@pytest.mark.parametrize("cell", chosen())
def test_cell(board: Board, cell: str) -> None:
    outcome = board.result(cell)
    assert outcome["problems"] == [], outcome


def test_the_matrix_is_as_large_as_promised_and_can_be_read() -> None:
    assert len(CELLS) == len(BY_ID) > len(chosen()) >= FEWEST_CELLS
    text = "\n".join(table(CELLS, {}))
    assert all(f"| {cell.fault.name} |" in text for cell in CELLS)
