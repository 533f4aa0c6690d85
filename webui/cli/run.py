"""`run FILE PROMPT`: one reply on the terminal, through the same pool and jobs as the page's."""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from webui.cli import columns
from webui.cli.assignments import known_loader, read_assignments, sort_out
from webui.cli.ending import INTERRUPTED, WrongUsage
from webui.cli.ladder import LadderTeller, shown
from webui.cli.session import in_app

if TYPE_CHECKING:
    from webui.context import AppContext
    from webui.loaders.sampling import SamplingParameters
    from webui.pool.jobs import Job

OWNER = "command line"


def run(
    file: Annotated[str, typer.Argument(metavar="FILE", help="A model file or folder, or the name of a listed model.")],
    prompt: Annotated[str | None, typer.Argument(help="What to say; standard input where it is left out or -.")] = None,
    loader: Annotated[
        str | None, typer.Option(metavar="NAME", help="Backend to load the model with.  [default: auto]")
    ] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="NAME=VALUE", help="A parameter of the loader or of sampling; may be repeated."),
    ] = None,
    preset: Annotated[str | None, typer.Option(metavar="NAME", help="Sampling preset to start from.")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print text, counts and times as JSON at the end.")] = False,
) -> int:
    """Load a model, answer one prompt, and end."""
    text = _prompt(prompt)
    assigned = read_assignments(set_ or ())

    async def work(context: AppContext) -> int:
        chosen = known_loader(loader, context.loaders)
        sampling_values, loader_values = sort_out(assigned, context.loaders, chosen)
        base = context.presets.get(preset or context.settings.chat.default_preset)
        await load(context, file, chosen or loader, loader_values)
        return await answer(context, text, base.model_copy(update=sampling_values), as_json=json)

    return in_app(work)


def _prompt(given: str | None) -> str:
    if given is not None and given != "-":
        text = given
    elif sys.stdin.isatty():
        raise WrongUsage("There is no prompt.", hint='For example: python3 app.py run FILE "Tell me a story."')
    else:
        text = sys.stdin.read()
    if not text.strip():
        raise WrongUsage("The prompt is empty.")
    return text


async def load(context: AppContext, model: str, loader: str | None, values: dict[str, Any]) -> None:
    """Load, and tell how it goes. `values` go over those saved for this model and loader."""
    from webui.models.inspect import model_id

    facts = await asyncio.to_thread(context.catalogue.find, model)
    saved = context.model_settings.get(facts.path)
    kept = saved.get("parameters", {}) if loader in (None, "auto", saved.get("loader")) else {}
    async with LadderTeller(context.pool, model_id(facts), context.loaders):
        await context.load_model(facts, loader, {**kept, **values})


async def answer(context: AppContext, prompt: str, sampling: SamplingParameters, *, as_json: bool) -> int:
    """Say the prompt to the loaded model; returns the exit status. The text so far stays when it is cancelled."""
    from webui.chat.exchange import Exchange
    from webui.chat.prompting import Question

    question = Question.of(prompt, sampling, context.settings.chat.system_prompt)
    exchange = await Exchange.begin(context.chats.prompter, question)
    job = exchange.submit(OWNER)
    try:
        if as_json:
            await job.wait()
        else:
            await _stream(job, exchange.opening)
    except BaseException:
        job.cancel()
        raise
    if job.error is not None:
        raise job.error
    if as_json:
        columns.write_json(report(context, job, context.extensions.change_reply(exchange.opening + job.text)))
    else:
        sys.stderr.write(_summary(context, job) + "\n")
    return 0 if job.finished is not None and job.finished.reason != "cancelled" else INTERRUPTED


async def _stream(job: Job, opening: str) -> None:
    sys.stdout.write(opening)
    try:
        async for piece in job.pieces():
            with job.showing():
                sys.stdout.write(piece)
                sys.stdout.flush()
    finally:
        sys.stdout.write("\n")
        sys.stdout.flush()


def report(context: AppContext, job: Job, text: str) -> dict[str, Any]:
    """The JSON of `run`. Seconds, tokens per second, bytes; prompt speed counts only what was not in the cache."""
    from webui.models.inspect import model_id
    from webui.pool.records import degraded_to_dict

    status, finished = context.pool.status, job.finished
    prompt_speed = None
    if finished is not None and finished.prompt_seconds > 0:
        prompt_speed = (finished.prompt_tokens - finished.cached_tokens) / finished.prompt_seconds
    return {
        "model": model_id(status.facts) if status.facts else None,
        "loader": status.loader,
        "device": status.model.device if status.model else None,
        "load_seconds": status.load_seconds,
        "prompt_tokens": finished.prompt_tokens if finished else None,
        "completion_tokens": finished.completion_tokens if finished else job.tokens,
        "first_token_seconds": job.first_token_seconds,
        "prompt_tokens_per_second": prompt_speed,
        "tokens_per_second": job.tokens_per_second,
        "finish_reason": finished.reason if finished else None,
        "text": text,
        "peak_memory_bytes": context.pool.peak_memory_bytes(),
        "notes": list(status.notes),
        "ladder": [shown(rung) for rung in status.ladder],
        "degraded": degraded_to_dict(status.degraded),
    }


def _summary(context: AppContext, job: Job) -> str:
    status = context.pool.status
    device = status.model.device if status.model else columns.UNKNOWN
    return (
        f"[{status.loader} · {device} · loaded in {columns.seconds(status.load_seconds)} · "
        f"first token after {columns.seconds(job.first_token_seconds)} · {job.tokens} tokens, "
        f"{columns.rate(job.tokens_per_second)} per second]"
    )
