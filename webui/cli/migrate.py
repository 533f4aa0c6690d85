"""`migrate`: take over the settings, chats and lists of the older app, and undo it."""

from __future__ import annotations

import sys
import textwrap
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from webui.cli import columns
from webui.cli.ending import FAILED, WrongUsage
from webui.cli.session import all_loaders, read_settings

if TYPE_CHECKING:
    from webui.migration.plan import Line, Plan
    from webui.paths import Paths

WIDTH = 110
MOST_LINES = 400
"""Lines of one file that a terminal shows; --json has them all."""


def migrate(
    files: Annotated[
        list[Path] | None,
        typer.Argument(metavar="[PATH]...", help="Older files or folders to read before those that are found."),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show the plan; change nothing.")] = False,
    rollback: Annotated[bool, typer.Option("--rollback", help="Undo the latest migration.")] = False,
    force: Annotated[bool, typer.Option("--force", help="With --rollback: also over files changed since.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print plan and result as JSON.")] = False,
) -> int:
    """Carry over the settings, chats and models of the older app; each value is told what becomes of it."""
    from webui.migration.survey import survey

    if rollback and (files or dry_run or yes):
        raise WrongUsage("--rollback stands alone, or with --force.")
    if force and not rollback:
        raise WrongUsage("--force goes with --rollback.")
    paths, settings = read_settings()
    if rollback:
        return _undo(paths, force=force, as_json=json)
    missing = next((path for path in files or () if not path.exists() and not path.is_symlink()), None)
    if missing is not None:
        raise WrongUsage(f"There is no file {missing}.")
    loaders, settings = all_loaders(paths, settings)
    found = survey(paths, loaders, [path.absolute() for path in files or ()])
    if not json:
        _show(found.plan)
    if dry_run or not found.plan.effects:
        if json:
            columns.write_json(_as_json(found.plan, "planned" if found.plan.effects else "nothing to do"))
        else:
            sys.stdout.write("Nothing was changed.\n" if found.plan.effects else "Nothing to do.\n")
        return 0
    if not json and not yes and sys.stdin.isatty() and not typer.confirm("Carry this over?", default=True):
        sys.stdout.write("Nothing was changed.\n")
        return FAILED
    from webui.migration.carrying import carry

    done = carry(paths, found.plan, found.documents, loaders, settings, time.time())
    if json:
        columns.write_json(_as_json(found.plan, "done") | {"backup": str(done.backup.folder), "notes": done.notes})
        return 0
    for note in done.notes:
        sys.stdout.write(f"{note}\n")
    sys.stdout.write(
        f"Done. The older files stay where they are; {done.backup.folder} has copies of all files as they were.\n"
        "Undo it with: python3 app.py migrate --rollback\n"
    )
    return 0


def _undo(paths: Paths, *, force: bool, as_json: bool) -> int:
    from webui.migration.undoing import undo

    undone = undo(paths, force=force)
    if as_json:
        files = [one.path for one in undone.written]
        columns.write_json({"result": "undone", "backup": str(undone.folder), "files": files})
    else:
        sys.stdout.write(f"{undone.name} is undone: every file is as it was before.\n")
    return 0


def _as_json(plan: Plan, result: str) -> dict[str, Any]:
    return {
        "result": result,
        "sources": [
            {"file": str(source.file), "form": source.form, "problem": source.problem} for source in plan.sources
        ],
        "lines": [line.to_dict() for line in plan.lines],
    }


def _show(plan: Plan) -> None:
    """The plan, file by file in the order in which they count."""
    from webui.migration.plan import Outcome

    if not plan.sources:
        sys.stdout.write("No older files were found.\n")
        return
    for place, source in enumerate(plan.sources, start=1):
        lines = list(plan.of(source.file))
        sys.stdout.write(f"{place}. {source.file} ({source.form})\n")
        for line in lines[:MOST_LINES]:
            _show_line(line)
        if len(lines) > MOST_LINES:
            sys.stdout.write(f"   … and {len(lines) - MOST_LINES:,} more values: --json shows them all\n")
    counts = ", ".join(f"{plan.count(outcome):,} {outcome}" for outcome in Outcome)
    sys.stdout.write(f"{len(plan.lines):,} values: {counts}.\n")


def _show_line(line: Line) -> None:
    from webui.migration.plan import Outcome

    mark = {Outcome.CARRIED: "→", Outcome.SAME: "=", Outcome.LEFT: "·"}[line.outcome]
    value = f"{line.name} = {line.shown()}" if line.name else ""
    to = ", ".join(target.text() for target in line.targets)
    said = "; ".join(filter(None, (to, line.why())))
    text = f"{value} {mark} {said}" if value else said
    sys.stdout.write(textwrap.fill(text, WIDTH, initial_indent="   ", subsequent_indent="       ") + "\n")
