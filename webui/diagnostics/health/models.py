"""The model files: whether each is one, whole, and what a thorough look at its weights found."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

from webui.diagnostics.health.check import Check, HealthFacts, fine, is_there, problem, warning
from webui.errors import AppError
from webui.models.catalogue import Catalogue, Entry
from webui.models.facts import ModelFacts
from webui.setup.starter import STARTER_FILE, STARTER_SHA256

KIND = "models"
"""Under which the evidence of thorough looks is kept."""
KNOWN = {STARTER_FILE: STARTER_SHA256}
"""SHA-256 digests of files that the app itself provides, by their names."""


def entries(facts: HealthFacts) -> tuple[Entry, ...]:
    """What is in the models folder; remembered by path, size and time, so that only new files are opened."""
    folder = facts.models
    return Catalogue([folder], facts.paths.cache / "catalogue.json").entries() if folder.is_dir() else ()


def listed(facts: HealthFacts) -> Iterator[Check]:
    """Every file that should be a model: its header, its parts, and that it is as long as its tensors say."""
    folder = facts.models
    if folder != facts.paths.models and not folder.is_dir():
        yield problem(
            "Models",
            f"The models folder {folder} does not exist.",
            "Change models.directory in the settings, or make the folder",
            "make-models-folder",
        )
        return
    if is_there(folder) and not os.access(folder, os.R_OK | os.X_OK):
        return  # told under Permissions
    found = entries(facts)
    whole = [entry for entry in found if isinstance(entry, ModelFacts)]
    for entry in found:
        if not isinstance(entry, ModelFacts):
            name = relative(entry.path, folder)
            yield warning("Models", f"{name}: {entry.error.message}", _aside(entry.error), f"set-aside {name}")
    if whole:
        yield fine("Models", f"{len(whole)} in {folder}.")
    elif not found:
        yield warning(
            "Models",
            f"There is no model in {folder}.",
            "Put a GGUF file there, or fetch the small starter model",
            "fetch-starter",
        )


def sound(facts: HealthFacts) -> Iterator[Check]:
    """What the last thorough look at each file found that still is as it was then."""
    sound_ones, wrong = 0, []
    for model in entries(facts):
        found = facts.evidence.get(KIND, str(model.path), stamp(model)) if isinstance(model, ModelFacts) else None
        if found is not None and found.get("error"):
            wrong.append(_damaged(model.path, AppError.from_dict(found["error"]), facts))
        elif found is not None:
            sound_ones += 1
    yield from wrong
    if not wrong and sound_ones:
        yield fine("Model files", f"{sound_ones} were looked into and are sound.")
    elif not wrong:
        yield fine("Model files", "Not looked into yet.", untried=True)


def _damaged(path: Path, error: AppError, facts: HealthFacts) -> Check:
    if path.name in KNOWN:
        return problem("Model files", error.message, "Fetch it again", "fetch-starter")
    name = relative(path, facts.models)
    return problem("Model files", error.message, _aside(error), f"set-aside {name}")


def stamp(model: ModelFacts) -> str:
    """Changes when any file of the model does."""
    return json.dumps([[file.name, *_status(file)] for file in model.files])


def relative(path: Path, folder: Path) -> str:
    """The file's name within the models folder."""
    return path.relative_to(folder).as_posix() if path.is_relative_to(folder) else path.name


def _aside(error: AppError) -> str:
    return f"{error.hint} Or move it aside"


def _status(file: Path) -> tuple[int, int]:
    try:
        status = file.stat()
    except OSError:  # gone since it was listed
        return 0, 0
    return status.st_size, status.st_mtime_ns
