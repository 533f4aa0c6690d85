"""`profile FILE PROMPT`: where the time of one reply goes, as a waterfall."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from webui.cli import columns
from webui.cli.assignments import known_loader, read_assignments, sort_out
from webui.cli.session import in_app

if TYPE_CHECKING:
    from webui.context import AppContext
    from webui.diagnostics.reply_profile import ReplyProfile

WIDTH = 48
BAR, POINT = "█", "▏"


def profile(
    file: Annotated[str, typer.Argument(metavar="FILE", help="A model file or folder, or the name of a listed model.")],
    prompt: Annotated[str, typer.Argument(help="What to say.")],
    loader: Annotated[
        str | None, typer.Option(metavar="NAME", help="Backend to load the model with.  [default: auto]")
    ] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="NAME=VALUE", help="A parameter of the loader or of sampling; may be repeated."),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print the spans as JSON.")] = False,
) -> int:
    """Answer one prompt and show where the time went: template, queue, prompt, first token, tokens, rendering."""
    from webui.cli import run

    assigned = read_assignments(set_ or ())

    async def work(context: AppContext) -> int:
        from webui.diagnostics.profiling import profile_reply

        chosen = known_loader(loader, context.loaders)
        sampling_values, loader_values = sort_out(assigned, context.loaders, chosen)
        sampling = context.presets.get(context.settings.chat.default_preset).model_copy(update=sampling_values)
        await run.load(context, file, chosen or loader, loader_values)
        _text, found = await profile_reply(context, prompt, sampling, show=_write)
        sys.stderr.write("\n")
        if json:
            columns.write_json(found.to_dict())
        else:
            _write_waterfall(found)
        return 0

    return in_app(work)


def _write(piece: str) -> None:
    """The reply goes beside the table, as with any command that reports."""
    sys.stderr.write(piece)
    sys.stderr.flush()


def _write_waterfall(found: ReplyProfile) -> None:
    rows = [
        (span.name, bar(span.start, span.end, found.total_seconds), columns.seconds(span.seconds), span.about)
        for span in found.spans
    ]
    columns.write_table(("", f"0 … {columns.seconds(found.total_seconds)}", ">time", ""), rows)
    sys.stdout.write(
        f"first token after {columns.seconds(found.first_token_seconds)}, {found.completion_tokens:,} tokens at "
        f"{columns.rate(found.tokens_per_second)} per second\n"
    )
    if found.remark:
        sys.stdout.write(f"{found.remark}\n")


def bar(start: float, end: float, total: float) -> str:
    """A span to scale; one that is too short to be seen is a thin line in its place."""
    if total <= 0:
        return ""
    left, right = round(start / total * WIDTH), round(end / total * WIDTH)
    return " " * min(left, WIDTH - 1) + (BAR * (right - left) if right > left else POINT)
