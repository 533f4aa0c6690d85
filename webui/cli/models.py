"""`models` lists the models there are; `inspect FILE` says everything known of one, and which loaders open it."""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from webui.cli import columns
from webui.cli.session import in_app, open_catalogue, read_settings

if TYPE_CHECKING:
    from collections.abc import Sequence

    from webui.context import AppContext
    from webui.models.catalogue import BrokenModel
    from webui.models.facts import ModelFacts
    from webui.planning.selection import Candidate

INSPECTED = (
    "architecture",
    "name",
    "quantization",
    "parameter_count",
    "block_count",
    "context_length",
    "embedding_length",
    "head_count",
    "head_count_kv",
    "vocabulary_size",
    "tokenizer",
    "chat_template",
    "tensor_bytes",
    "file_bytes",
    "gguf_version",
)
"""The facts in the JSON of `inspect`, by their names in `ModelFacts`."""

SHOWN_TEMPLATE = 60


def models(
    json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
    models_dir: Annotated[
        str | None, typer.Option(metavar="DIR", help="Look here instead of the models folder.")
    ] = None,
) -> int:
    """List the models in the models folder."""
    paths, settings = read_settings({"models.directory": models_dir} if models_dir else None)
    catalogue = open_catalogue(paths, settings)
    entries = catalogue.entries()
    if json:
        columns.write_json([_entry(entry) for entry in entries])
        return 0
    if not entries:
        sys.stdout.write(f"No models in {catalogue.directories[0]}. Put a GGUF file there.\n")
        return 0
    columns.write_table(
        ("model", "format", "quantisation", ">parameters", ">context", ">size", "remark"),
        [_row(entry) for entry in entries],
    )
    return 0


def inspect(
    file: Annotated[str, typer.Argument(metavar="FILE", help="A model file or folder, or the name of a listed model.")],
    json: Annotated[bool, typer.Option("--json", help="Print JSON instead of lines.")] = False,
) -> int:
    """Say what is known of a model from its file, and which loaders can open it."""

    async def work(context: AppContext) -> int:
        facts = await asyncio.to_thread(context.catalogue.find, file)
        candidates = await asyncio.to_thread(context.pool.rank, facts)
        if json:
            columns.write_json(report(facts, candidates))
        else:
            _write_lines(facts, candidates)
        return 0

    return in_app(work)


def report(facts: ModelFacts, candidates: Sequence[Candidate]) -> dict[str, Any]:
    """The JSON of `inspect`. A loader is `compatible` if it opens the file, `ready` if it would do so here and now; the
    first that is ready is the one a load would take.
    """
    return {
        "path": str(facts.path),
        "format": facts.format.value,
        **{name: getattr(facts, name) for name in INSPECTED},
        "compatible_loaders": [
            {
                "loader": candidate.loader,
                "compatible": candidate.opens,
                "ready": candidate.suitable,
                "reason": candidate.reason,
            }
            for candidate in candidates
        ],
    }


def _entry(entry: ModelFacts | BrokenModel) -> dict[str, Any]:
    from webui.models.catalogue import BrokenModel, name_of

    if isinstance(entry, BrokenModel):
        return {"id": name_of(entry), "path": str(entry.path), "error": entry.error.to_dict()}
    names = ("name", "architecture", "quantization", "parameter_count", "context_length", "file_bytes")
    return {
        "id": name_of(entry),
        "path": str(entry.path),
        "format": entry.format.value,
        **{name: getattr(entry, name) for name in names},
        "error": None,
    }


def _row(entry: ModelFacts | BrokenModel) -> tuple[str, ...]:
    from webui.models.catalogue import BrokenModel, name_of

    if isinstance(entry, BrokenModel):
        return (name_of(entry), "", "", "", "", "", entry.error.message)
    return (
        name_of(entry),
        entry.format.value,
        entry.quantization or columns.UNKNOWN,
        columns.amount(entry.parameter_count),
        columns.number(entry.context_length),
        columns.size(entry.file_bytes),
        "",
    )


def _write_lines(facts: ModelFacts, candidates: Sequence[Candidate]) -> None:
    template = (facts.chat_template or "").replace("\n", " ")
    heads = columns.number(facts.head_count)
    if facts.head_count_kv is not None and facts.head_count_kv != facts.head_count:
        heads += f" ({facts.head_count_kv:,} for keys and values)"
    lines = {
        "name": facts.name,
        "file": str(facts.path) + (f" and {len(facts.files) - 1} more" if len(facts.files) > 1 else ""),
        "format": facts.format.value + (f", version {facts.gguf_version}" if facts.gguf_version else ""),
        "size": f"{columns.size(facts.file_bytes)}, tensors {columns.size(facts.tensor_bytes)}",
        "architecture": facts.architecture or columns.UNKNOWN,
        "quantisation": facts.quantization or columns.UNKNOWN,
        "parameters": columns.number(facts.parameter_count),
        "layers": columns.number(facts.block_count),
        "context": f"{columns.number(facts.context_length)} tokens",
        "embedding": columns.number(facts.embedding_length),
        "heads": heads,
        "vocabulary": f"{columns.number(facts.vocabulary_size)} tokens, {facts.tokenizer or columns.UNKNOWN}",
        "chat template": template[:SHOWN_TEMPLATE] + ("…" if len(template) > SHOWN_TEMPLATE else "") or "none",
    }
    width = max(map(len, lines))
    for title, value in lines.items():
        sys.stdout.write(f"{title:<{width}}  {value}\n")
    sys.stdout.write("\n")
    columns.write_table(
        ("loader", "opens it", "reason"),
        [
            (one.loader, "yes" if one.suitable else "not here" if one.opens else "no", one.chosen_because or one.reason)
            for one in candidates
        ],
    )
