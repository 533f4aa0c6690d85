"""A model chosen on the Model tab: checked, read, judged by every loader, and with what was saved for it.

No gradio here. A choice is made either of a path the catalogue itself lists, or of any path on this machine, which only
a page on this machine may name.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from webui.context import AppContext
from webui.errors import AccessDenied, AppError, InvalidRequest, ModelNotFound
from webui.models.catalogue import BrokenModel
from webui.models.facts import ModelFacts
from webui.models.inspect import inspect_model
from webui.planning.selection import Candidate
from webui.pool.tuned import TunedSetting
from webui.security import local_only
from webui.tabs.model_catalogue import entry_at

AUTO = "auto"


@dataclass(frozen=True, slots=True)
class Choice:
    """`error` says why the file cannot be opened; `saved` is what was kept for it, empty where nothing was.

    `tuned` is what a search found to be the fastest, by loader.
    """

    path: str = ""
    facts: ModelFacts | None = None
    error: AppError | None = None
    candidates: tuple[Candidate, ...] = ()
    saved: dict[str, Any] = field(default_factory=dict)
    tuned: dict[str, TunedSetting] = field(default_factory=dict)

    @property
    def best(self) -> str:
        """The loader that "auto" stands for; empty where none is suitable."""
        return next((candidate.loader for candidate in self.candidates if candidate.suitable), "")

    def loader(self, asked: str) -> str:
        """The loader that `asked` (a name or "auto") means for this model; empty where there is none."""
        return self.best if asked in ("", AUTO) else asked


async def choose_listed(context: AppContext, path: str) -> Choice:
    """The choice of a row of the catalogue. Any other path is answered like a file that is not there."""
    entries = await asyncio.to_thread(context.catalogue.entries)
    entry = entry_at(entries, path)
    if entry is None:
        return Choice(error=ModelNotFound("This model is no longer listed.", hint="Look again, and choose another."))
    if isinstance(entry, BrokenModel):
        return Choice(path, error=entry.error)
    return await choose(context, entry)


async def choose_path(context: AppContext, text: str) -> Choice:
    """The choice of any file or directory on this machine, for pages on this machine only."""
    if not local_only(context.started_with):
        return Choice(
            error=AccessDenied(
                "Files outside the models folder can only be opened from this machine.",
                cause="the server listens for other machines too",
                hint="Choose a model from the list.",
            )
        )
    named = text.strip().strip("\"'")
    if not named:
        return Choice(error=InvalidRequest("No path is given.", hint="Type or paste the path of a model file."))
    try:
        path = Path(named).expanduser()
        if not path.is_absolute():
            path = (context.settings.models.directory or context.paths.models) / path
        facts = await asyncio.to_thread(inspect_model, path)
    except (OSError, RuntimeError, ValueError) as error:  # an unknown ~user, a name no file system takes
        wrong = InvalidRequest("That is not a path of this machine.", cause=str(error))
        return Choice(error=wrong)
    except AppError as error:
        return Choice(named, error=error)
    return await choose(context, facts)


async def choose(context: AppContext, facts: ModelFacts) -> Choice:
    """The choice of a model whose facts are known: every loader's verdict, and what was saved for it."""
    try:
        candidates = await asyncio.to_thread(context.pool.rank, facts)
        saved = await asyncio.to_thread(context.model_settings.get, facts.path)
        tuned = await context.tunings.found(facts)
    except AppError as error:
        return Choice(str(facts.path), error=error)
    return Choice(str(facts.path), facts, None, candidates, saved, tuned)
