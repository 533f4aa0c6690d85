"""Which backends there are, which of them open a model, and trying it: `backends`, `recommend`, `compat`, `load`,
`test-models`.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from webui.cli import columns
from webui.cli.assignments import known_loader, read_assignments, sort_out
from webui.cli.ending import WrongUsage
from webui.cli.session import in_app
from webui.setup.terminal import TerminalProgress

if TYPE_CHECKING:
    from webui.context import AppContext
    from webui.diagnostics.load_result import LoadResult
    from webui.diagnostics.model_tests import Wanted
    from webui.models.facts import ModelFacts
    from webui.planning.selection import Candidate

FILE_HELP = "A model file or folder, or the name of a listed model."
YES, NOT_HERE, NO = "yes", "not here", "no"


def backends(json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False) -> int:
    """List the backends: whether each is installed, and what it can compute on here."""

    async def work(context: AppContext) -> int:
        from webui.setup.backends import check

        hardware = await context.hardware()
        states = [await asyncio.to_thread(check, name, context.loaders, hardware=hardware) for name in context.loaders]
        if json:
            columns.write_json([asdict(state) for state in states])
        else:
            columns.write_table(
                ("backend", "version", "computes on", "remark"),
                [(one.name, one.version or columns.UNKNOWN, ", ".join(one.devices), one.reason) for one in states],
            )
        return 0

    return in_app(work)


def recommend(
    file: Annotated[str | None, typer.Argument(metavar="[FILE]", help=FILE_HELP, show_default=False)] = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON instead of lines.")] = False,
) -> int:
    """Say which backend to use on this machine, or for a model, and why."""

    async def work(context: AppContext) -> int:
        from webui.diagnostics.advising import recommended

        facts = await asyncio.to_thread(context.catalogue.find, file) if file is not None else None
        found = await recommended(context, facts)
        if json:
            columns.write_json(asdict(found))
            return 0
        sys.stdout.write(f"{found.backend}: {found.reason}\n")
        for line in found.advice:
            sys.stdout.write(f"{line}\n")
        return 0

    return in_app(work)


def compat(
    file: Annotated[str | None, typer.Argument(metavar="[FILE]", help=FILE_HELP, show_default=False)] = None,
    all_: Annotated[bool, typer.Option("--all", help="Every model in the models folder.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> int:
    """Say which backends can open a model, and why the others cannot."""
    if (file is None) == (not all_):
        raise WrongUsage("Name a FILE, or ask for --all.")

    async def work(context: AppContext) -> int:
        found = await asyncio.to_thread(_judged, context, file)
        if json:
            columns.write_json(
                [
                    {"model": name, "path": path, "backends": [_report(one) for one in judged]}
                    for name, path, judged in found
                ]
            )
        elif file is not None:
            _write_one(found[0][2])
        else:
            _write_all(found, list(context.loaders))
        return 0

    return in_app(work)


def _judged(context: AppContext, file: str | None) -> list[tuple[str, str, Sequence[Candidate]]]:
    from webui.models.facts import ModelFacts
    from webui.models.inspect import model_id

    entries = [context.catalogue.find(file)] if file is not None else context.catalogue.entries()
    models = [entry for entry in entries if isinstance(entry, ModelFacts)]
    return [(model_id(facts), str(facts.path), context.pool.rank(facts)) for facts in models]


def _report(one: Candidate) -> dict[str, Any]:
    return {
        "backend": one.loader,
        "compatible": one.opens,
        "ready": one.suitable,
        "converts": one.converts,
        "installed": one.installed,
        "reason": one.reason,
        "chosen_because": one.chosen_because,
    }


def _word(one: Candidate) -> str:
    return YES if one.suitable else NOT_HERE if one.opens else NO


def _write_one(judged: Sequence[Candidate]) -> None:
    rows = [(one.loader, _word(one), one.chosen_because or one.reason) for one in judged]
    columns.write_table(("backend", "opens it", "why"), rows)


def _write_all(found: Sequence[tuple[str, str, Sequence[Candidate]]], loaders: Sequence[str]) -> None:
    if not found:
        sys.stdout.write("There is no model in the models folder.\n")
        return
    words = [{one.loader: _word(one) for one in judged} for _, _, judged in found]
    rows = [(name, *(known[loader] for loader in loaders)) for (name, _, _), known in zip(found, words, strict=True)]
    columns.write_table(("model", *loaders), rows)


def load(
    file: Annotated[str, typer.Argument(metavar="FILE", help=FILE_HELP)],
    loader: Annotated[
        str | None, typer.Option(metavar="NAME", help="Backend to load the model with.  [default: auto]")
    ] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="NAME=VALUE", help="A parameter of the loader; may be repeated."),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON instead of lines.")] = False,
) -> int:
    """Load a model, see it answer one token, say how it went, and end; 1 where it failed."""
    assigned = read_assignments(set_ or ())

    async def work(context: AppContext) -> int:
        from webui.diagnostics.model_tests import AUTO, try_load
        from webui.pool import LoadRequest

        facts = await asyncio.to_thread(context.catalogue.find, file)
        chosen = known_loader(loader, context.loaders)
        _sampling, values = sort_out(assigned, context.loaders, chosen)
        result = await try_load(context.pool, LoadRequest(facts, chosen or AUTO, values))
        if json:
            columns.write_json(result.to_dict())
        else:
            _write_results([result])
        return 0 if result.success else 1

    return in_app(work)


def test_models(
    folder: Annotated[
        str | None, typer.Argument(metavar="[FOLDER]", help="By default the models folder.", show_default=False)
    ] = None,
    loaders: Annotated[
        str, typer.Option(metavar="A,B|all", help="Backends to try each model with; by default the one that is chosen.")
    ] = "",
    json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> int:
    """Really load every model, with one token each, and say how it went; 1 where one failed."""

    async def work(context: AppContext) -> int:
        from webui.diagnostics.model_tests import ALL, each
        from webui.models.facts import ModelFacts

        entries = await asyncio.to_thread(context.catalogue.entries)
        models = [entry for entry in entries if isinstance(entry, ModelFacts)]
        asked = [name.strip() for name in loaders.split(",") if name.strip()]
        names = [ALL if name == ALL else known_loader(name, context.loaders) or name for name in asked]
        wanted = await asyncio.to_thread(each, context, models, names)
        results = await _tested(context, wanted)
        if json:
            columns.write_json([result.to_dict() for result in results])
        else:
            _write_results(results)
        return 0 if all(result.success for result in results) else 1

    return in_app(work, {"models.directory": folder} if folder is not None else None)


async def _tested(context: AppContext, wanted: Sequence[Wanted]) -> list[LoadResult]:
    from webui.diagnostics.model_tests import try_models

    terminal = TerminalProgress("Testing")
    done = 0

    def begun(one: Wanted) -> None:
        terminal(f"{_name(one.facts)} with {one.loader}", done / len(wanted))

    def ended(result: LoadResult) -> None:
        nonlocal done
        done += 1

    try:
        return await try_models(context, wanted, on_start=begun, on_result=ended)
    finally:
        terminal.stop()


def _name(facts: ModelFacts) -> str:
    from webui.models.inspect import model_id

    return model_id(facts)


def _write_results(results: Sequence[LoadResult]) -> None:
    if not results:
        sys.stdout.write("There is no model to try.\n")
        return
    columns.write_table(
        ("model", "backend", "works", ">load", ">memory", ">steps", "remark"),
        [
            (
                one.model,
                one.backend,
                YES if one.success else NO,
                columns.seconds(one.load_time),
                columns.size(one.memory_usage),
                str(one.steps),
                one.error.message if one.error is not None else one.degraded,
            )
            for one in results
        ],
    )
