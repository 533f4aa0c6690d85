"""`tune FILE`: look for the fastest settings of a model here, keep them, and say what they gained."""

from __future__ import annotations

import asyncio
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from webui.cli import columns
from webui.cli.assignments import known_loader
from webui.cli.session import in_app
from webui.setup.terminal import TerminalProgress

if TYPE_CHECKING:
    from webui.context import AppContext
    from webui.diagnostics.tuning import TuningRun
    from webui.models.facts import ModelFacts

ALL = "all"
REDRAW_SECONDS = 0.2


def tune(
    file: Annotated[str, typer.Argument(metavar="FILE", help="A model file or folder, or the name of a listed model.")],
    loader: Annotated[
        str | None, typer.Option(metavar="NAME", help="Backend to tune; by default the one a load would take.")
    ] = None,
    loaders: Annotated[
        str, typer.Option(metavar="A,B|all", help="Backends to tune and to compare with each other.")
    ] = "",
    minutes: Annotated[float, typer.Option(metavar="N", min=0.1, max=1440, help="The time it may take.")] = 5.0,
    allow_cache_quantization: Annotated[
        bool,
        typer.Option("--allow-cache-quantization", help="Try an 8-bit KV cache, too, which changes replies a little."),
    ] = False,
    forget: Annotated[
        bool, typer.Option("--forget", help="Drop what was found for this model; nothing is measured.")
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="Print the answer and every trial as JSON.")] = False,
) -> int:
    """Find the fastest settings for a model on this machine by short measurements, and keep them."""

    async def work(context: AppContext) -> int:
        facts = await asyncio.to_thread(context.catalogue.find, file)
        if forget:
            return await _forget(context, facts, as_json=json)
        run = await _tuned(context, facts, _named(context, facts, loader, loaders), minutes, allow_cache_quantization)
        if json:
            columns.write_json(report(run))
        else:
            _write(run)
        return 0

    return in_app(work)


def _named(context: AppContext, facts: ModelFacts, loader: str | None, loaders: str) -> tuple[str, ...]:
    """The loaders that were named; none for the one a load would take."""
    asked = [name.strip() for name in loaders.split(",") if name.strip()]
    if ALL in asked or loader == ALL:
        return tuple(one.loader for one in context.pool.rank(facts) if one.suitable)
    names = [*([loader] if loader else []), *asked]
    return tuple(name for one in dict.fromkeys(names) if (name := known_loader(one, context.loaders)) is not None)


async def _tuned(
    context: AppContext, facts: ModelFacts, loaders: tuple[str, ...], minutes: float, cache_quantization: bool
) -> TuningRun:
    """Run it and show how far it is. Raises where it came to no answer."""
    from webui.diagnostics.tuning import Wanted

    own = context.model_settings.get(facts.path).get("parameters", {})
    run = context.tunings.start(Wanted(facts, loaders, minutes, own, cache_quantization))
    terminal = TerminalProgress("Tuning")
    ended = asyncio.ensure_future(context.tunings.wait())
    try:
        while not ended.done():
            terminal(run.step, run.share)
            await asyncio.wait({ended}, timeout=REDRAW_SECONDS)
    finally:
        terminal.stop()
        await context.tunings.stop()
    if run.error is not None:
        raise run.error
    return run


async def _forget(context: AppContext, facts: ModelFacts, *, as_json: bool) -> int:
    from webui.models.inspect import model_id

    found = await context.tunings.found(facts)
    await context.tunings.forget(facts)
    if as_json:
        columns.write_json({"model": model_id(facts), "forgotten": [asdict(one) for one in found.values()]})
    else:
        what = "Forgotten" if found else "Nothing was kept"
        sys.stdout.write(f"{what}: {model_id(facts)} is loaded with the usual settings.\n")
    return 0


def report(run: TuningRun) -> dict[str, Any]:
    """The JSON of `tune`. Speeds are tokens per second; `ratio` is the speed over that of its race's first."""
    from webui.diagnostics.tuning import gained
    from webui.models.inspect import model_id

    return {
        "model": model_id(run.wanted.facts),
        "found": asdict(run.found) if run.found is not None else None,
        "improved": run.verdict is not None and run.verdict.improved,
        "decided": run.verdict is not None and run.verdict.decided,
        "summary": gained(run.found) if run.found is not None else None,
        "seconds": (run.ended_at or run.started_at) - run.started_at,
        "trials": [
            {
                "loader": seen.trial.setting.loader,
                "changes": seen.trial.setting.parameters,
                "about": seen.trial.about,
                "tokens_per_second": seen.result.reply or None,
                "prompt_tokens_per_second": seen.result.prompt,
                "ratio": seen.ratio,
                "seconds": seen.result.seconds,
                "failure": seen.result.failure or None,
            }
            for seen in run.trials
        ],
    }


def _write(run: TuningRun) -> None:
    from webui.diagnostics.tuning import gained, words_of

    columns.write_table(
        ("trial", ">prompt tok/s", ">tok/s", ">against", "remark"),
        [
            (
                words_of(seen.trial.setting),
                columns.rate(seen.result.prompt),
                columns.rate(seen.result.reply or None),
                f"{seen.ratio:.2f} ×" if seen.ratio is not None else "",
                seen.result.failure,
            )
            for seen in run.trials
        ],
    )
    if run.verdict is not None and not run.verdict.decided:
        sys.stdout.write("The time was too short to be sure of anything; allow more with --minutes.\n")
    elif run.found is not None:
        sys.stdout.write(gained(run.found) + "\n")
