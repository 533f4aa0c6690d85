"""`plan FILE`: what loading a model would take here, device by device, and what would fit instead."""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from webui.cli import columns
from webui.cli.assignments import known_loader, read_assignments, sort_out
from webui.cli.bundle import plan_from_bundle
from webui.cli.ending import WrongUsage
from webui.cli.session import in_app

if TYPE_CHECKING:
    from webui.context import AppContext
    from webui.models.facts import ModelFacts
    from webui.planning.plan import DevicePlan, MemoryPlan


def plan(
    file: Annotated[
        str | None,
        typer.Argument(
            metavar="FILE", help="A model file or folder, or the name of a listed model.", show_default=False
        ),
    ] = None,
    loader: Annotated[
        str, typer.Option(metavar="NAME", help="The loader; by default the one that would be chosen.")
    ] = "auto",
    assignments: Annotated[
        list[str] | None, typer.Option("--set", metavar="NAME=VALUE", help="A parameter of the loader; repeatable.")
    ] = None,
    exact: Annotated[bool, typer.Option("--exact", help="Ask the engine, by its dry run.")] = False,
    from_bundle: Annotated[
        str, typer.Option(metavar="FILE", help="Decide again what a support bundle holds, on the machine it is from.")
    ] = "",
    json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> int:
    """Say what loading a model would take in memory, without loading it."""
    if from_bundle:
        return plan_from_bundle(from_bundle, as_json=json)
    if file is None:
        raise WrongUsage("There is no FILE.", hint="Name a model, or a support bundle with --from-bundle.")

    async def work(context: AppContext) -> int:
        named = known_loader(loader, context.loaders)
        facts = await asyncio.to_thread(context.catalogue.find, file)
        chosen = named if named is not None else await asyncio.to_thread(_first, context, facts)
        _, asked = sort_out(read_assignments(assignments or ()), context.loaders, chosen)
        parameters = {**await asyncio.to_thread(_tuned, context, facts, chosen), **asked}
        if exact:
            found = await context.exact_plan(facts, chosen, parameters)
        else:
            found = await asyncio.to_thread(context.plan, facts, chosen, parameters)
        if json:
            columns.write_json(found.to_dict())
        else:
            _write(found)
        return 0

    return in_app(work)


def _first(context: AppContext, facts: ModelFacts) -> str:
    """The loader that would be chosen. Raises where none is suitable."""
    from webui.planning.selection import refusal

    candidates = context.pool.rank(facts)
    best = next((candidate.loader for candidate in candidates if candidate.suitable), None)
    if best is None:
        raise refusal(facts, candidates)
    return best


def _tuned(context: AppContext, facts: ModelFacts, loader: str) -> dict[str, Any]:
    """What a load would begin with because a search found it to be the fastest; not where something is configured."""
    configured = context.settings.backends.parameters(loader)
    found = context.pool.tuned(facts).get(loader, {})
    return {name: value for name, value in found.items() if name not in configured}


def _write(found: MemoryPlan) -> None:
    from webui.planning.words import size

    how = "the engine's own figures" if found.exact else "computed from the file"
    verdict = "fits" if found.fits else "does not fit"
    sys.stdout.write(f"{found.model} with {found.loader} {verdict} ({how}).\n{found.constraint}\n\n")
    columns.write_table(
        ("device", ">weights", ">KV cache", ">compute", ">other", ">total", ">free", ">of it file pages"),
        [_row(device) for device in found.devices],
    )
    sys.stdout.write(f"\ntotal            {size(found.total)}\n")
    if found.largest_context is not None:
        sys.stdout.write(f"largest context  {found.largest_context:,} tokens\n")
    if found.measured is not None:
        error = (found.total - found.measured.total) / found.measured.total
        sys.stdout.write(f"measured         {size(found.measured.total)}; the plan is {error:+.1%} of it\n")
    for sentence in found.warnings:
        sys.stdout.write(f"warning: {sentence}\n")
    for one in found.alternatives:
        sys.stdout.write(f"would fit: {one.change} ({size(one.total)})\n")


def _row(device: DevicePlan) -> tuple[str, ...]:
    from webui.planning.words import size

    sizes = (device.weights, device.kv_cache, device.compute, device.other, device.total, device.available)
    return (device.name, *(size(count) if count is not None else "unknown" for count in sizes), size(device.mapped))
