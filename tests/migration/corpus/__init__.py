"""Older configurations, a hundred of them, and in `outcomes.txt` what becomes of every value, for people to read.

`python -m tests.migration.corpus --write` writes the table anew; read what has changed.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from tests.migration.corpus import app_settings, backend_sets, beside, damaged, flat, several
from tests.migration.corpus.layout import Case, cleared, lay_out
from webui.loaders import LOADERS
from webui.migration.plan import Plan
from webui.migration.survey import survey

CASES: dict[str, Case] = {
    name: case
    for part in (app_settings, backend_sets, flat, several, damaged, beside)
    for name, case in part.CASES.items()
}
OUTCOMES = Path(__file__).parent / "outcomes.txt"
MOST_LINES = 60


def table(root: Path) -> str:
    """What becomes of every value of every case."""
    parts = []
    for number, (name, case) in enumerate(CASES.items()):
        folder = root / f"{number:03d}"
        paths = lay_out(case, folder)
        plan = survey(paths, LOADERS, user_home=folder).plan
        text = "\n".join([f"## {name}", *lines_of(plan)])
        parts.append(cleared(text, folder, paths))
    return "\n\n".join(parts) + "\n"


def lines_of(plan: Plan) -> Iterator[str]:
    for source in plan.sources:
        yield f"{source.file} ({source.form})"
        lines = list(plan.of(source.file))
        for line in lines[:MOST_LINES]:
            to = ", ".join(target.text() for target in line.targets)
            said = "; ".join(filter(None, (to, line.why())))
            value = line.shown().encode("unicode_escape").decode()
            yield f"  {line.name[:80]} = {value} | {line.outcome} | {said}"
        if len(lines) > MOST_LINES:
            yield f"  … {len(lines) - MOST_LINES} more"
    if plan.effects.new_form:
        yield "  (backend_config.json is written anew)"
