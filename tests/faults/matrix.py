"""The matrix for a person to read: `python -m tests.faults.matrix [--run] [--hosts N] [PATTERN …]`.

Prints one Markdown table a loader, faults down and phases across, of the cells whose ids match a pattern (default all).
With `--run` they are played, each mark tells how it went, and what went wrong follows.
"""

from __future__ import annotations

import argparse
import fnmatch
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from tests.faults.board import Outcome, open_board
from tests.faults.cells import CELLS, Cell, Phase

HOSTS = 3


def table(cells: Sequence[Cell], outcomes: Mapping[str, Outcome]) -> Iterator[str]:
    """The lines of the tables. A cell says what its fault has to become, `✗` that it did not; `·` is no cell."""
    for loader in dict.fromkeys(cell.loader for cell in cells):
        own = {(cell.fault.name, cell.phase): cell for cell in cells if cell.loader == loader}
        phases = [phase for phase in Phase if any(phase == column for _, column in own)]
        yield f"\n### {loader}: {len(own)} cells\n"
        yield "| fault | " + " | ".join(phases) + " |"
        yield "|---|" + "---|" * len(phases)
        for fault in dict.fromkeys(name for name, _ in own):
            marks = [_mark(own.get((fault, phase)), outcomes) for phase in phases]
            yield f"| {fault} | " + " | ".join(marks) + " |"


def _mark(cell: Cell | None, outcomes: Mapping[str, Outcome]) -> str:
    if cell is None:
        return "·"
    expected = (cell.fault.expected(cell.phase) or "no harm").replace("_", " ")
    outcome = outcomes.get(cell.id)
    if outcome is None:
        return expected
    return f"✗ {expected}" if outcome["problems"] else f"✓ {expected} ({outcome['worst_seconds'] * 1000:.0f} ms)"


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(description="The matrix of faults, phases and loaders.")
    parser.add_argument("patterns", nargs="*", default=["*"], help="ids of cells, with * for anything")
    parser.add_argument("--run", action="store_true", help="play the cells")
    parser.add_argument("--hosts", type=int, default=HOSTS, help="how many at once")
    wanted = parser.parse_args(arguments)
    cells = [cell for cell in CELLS if any(fnmatch.fnmatch(cell.id, pattern) for pattern in wanted.patterns)]
    ids = [cell.id for cell in cells]
    outcomes: dict[str, Outcome] = {}
    if wanted.run:
        with tempfile.TemporaryDirectory() as folder, open_board(Path(folder), ids, wanted.hosts) as board:
            for outcome in board.outcomes():
                outcomes[outcome["id"]] = outcome
                sys.stderr.write("✗" if outcome["problems"] else ".")
                sys.stderr.flush()
    sys.stdout.write("\n".join(table(cells, outcomes)) + "\n")
    failed = [outcome for outcome in outcomes.values() if outcome["problems"]]
    for outcome in failed:
        sys.stdout.write(f"\n{outcome['id']}\n" + "".join(f"    {text}\n" for text in outcome["problems"]))
    seconds = sorted((outcome.get("seconds", 0.0), cell) for cell, outcome in outcomes.items())
    sys.stdout.write(
        f"\n{len(cells)} cells" + (f", {len(failed)} failed; slowest {seconds[-3:]}\n" if outcomes else "\n")
    )
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
