"""`config export` and `config import`: everything a person has set, in one file."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from webui.cli import columns
from webui.cli.ending import WrongUsage
from webui.cli.session import all_loaders, read_settings

if TYPE_CHECKING:
    from webui.migration.importing import Places, Step

Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask.")]
KINDS = {"setting": "setting", "model": "for a model", "preset": "preset", "chat": "conversation", "entry": "entry"}


def export(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The file to write, usually NAME.zip.")],
    secrets: Annotated[bool, typer.Option("--secrets", help="With the login and the API key.")] = False,
    chats: Annotated[bool, typer.Option(help="With the conversations.")] = True,
    force: Annotated[bool, typer.Option("--force", help="Write over a file that is there.")] = False,
) -> int:
    """Write settings, presets, settings saved for models and conversations into one file."""
    from webui.files import storage_errors, write_atomically
    from webui.migration import archive

    if file.exists() and not force:
        raise WrongUsage(f"{file} is there already.", hint="Choose another name, or give --force.")
    paths, settings = read_settings()
    _, settings = all_loaders(paths, settings)
    content = archive.export(paths, settings, secrets=secrets, chats=chats)
    with storage_errors(f"{file} was not written"):
        write_atomically(file, content, private=True)
    sys.stdout.write(f"{file}: {columns.size(len(content))}\n")
    for name in archive.read(content).manifest["left_out"]:
        sys.stdout.write(f"left out, as it is a secret: {name}\n")
    return 0


def import_(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="What config export wrote.")],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what would be done.")] = False,
    protected: Annotated[
        bool, typer.Option("--protected", help="Also what concerns this machine or who may reach it.")
    ] = False,
    replace: Annotated[
        bool, typer.Option("--replace", help="Settings that the file does not name go back to their defaults.")
    ] = False,
    yes: Yes = False,
    json: Json = False,
) -> int:
    """Show what a file of config export would change here, ask, back up, and do it."""
    from webui.errors import StorageFailed
    from webui.migration import archive
    from webui.migration.importing import Import

    if not file.exists():
        raise WrongUsage(f"There is no file {file}.")
    try:
        with file.open("rb") as stream:
            content = stream.read(archive.LARGEST_ARCHIVE + 1)
    except OSError as error:
        raise StorageFailed(f"{file} cannot be read.", cause=error.strerror or str(error)) from error
    with _places() as places:
        planned = Import(archive.read(content), places, protected=protected, replace=replace)
        if json:
            columns.write_json([_report(step) for step in planned.steps])
        else:
            _write_steps(planned.steps)
        if dry_run or not planned.changes:
            sys.stdout.write("" if json else "Nothing was changed.\n")
            return 0
        ask(f"Make {len(planned.changes)} changes?", yes)
        backup = planned.carry_out()
    sys.stderr.write(f"Done. What there was is kept in {backup}\n")
    return 0


def ask(question: str, yes: bool) -> None:
    """Go on if the answer is yes. Where nobody can answer, `--yes` is needed."""
    from webui.errors import Cancelled

    if yes:
        return
    if not sys.stdin.isatty():
        raise WrongUsage(f"{question} Nobody can be asked here.", hint="Give --yes.")
    if not typer.confirm(question, err=True):
        raise Cancelled("Nothing was changed.", hint="Answer y to go on.")


@contextlib.contextmanager
def _places() -> Iterator[Places]:
    from webui.chat.conversations import ConversationStore
    from webui.migration.importing import Places
    from webui.settings import SettingsStore

    paths, settings = read_settings()
    paths.ensure()
    loaders, settings = all_loaders(paths, settings)
    conversations = ConversationStore(paths.chats / "chats.sqlite3", mend=False)
    try:
        yield Places(paths, loaders, SettingsStore(paths, settings), conversations)
    finally:
        conversations.close()


def _report(step: Step) -> dict[str, str]:
    return {
        "kind": step.kind,
        "name": step.name,
        "before": step.before,
        "after": step.after,
        "why_not": step.why_not,
    }


def _write_steps(steps: tuple[Step, ...]) -> None:
    done = [step for step in steps if not step.why_not]
    left = [step for step in steps if step.why_not]
    if done:
        rows = [(KINDS[step.kind], step.name, step.before, step.after) for step in done]
        columns.write_table(("what", "name", "here", "becomes"), rows)
    if left:
        sys.stdout.write("\nNot carried:\n")
        for step in left:
            sys.stdout.write(f"{KINDS[step.kind]} {step.name}: {step.why_not}\n")
