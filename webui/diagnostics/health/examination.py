"""The long checks: a test model through every backend, and a look into the weights of every model.

What they find goes to the evidence, where the quick checks read it until what was looked at changes.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from webui.diagnostics.health import backends, models
from webui.diagnostics.health.check import HealthFacts, is_there
from webui.errors import AppError, CorruptFile, StorageFailed
from webui.hardware.facts import fingerprint
from webui.loaders.contract import LoaderSpec
from webui.models.facts import ModelFacts
from webui.models.soundness import check_soundness
from webui.setup import trial
from webui.setup.abilities import Abilities

Report = Callable[[str, float | None], None]
"""Called with what is being done and the share that is done."""

BACKENDS_SHARE = 0.5
"""How much of the whole the backends are said to take."""


async def examine(facts: HealthFacts, report: Report) -> None:
    """All long checks, one after the other; takes some seconds for each backend and for each gigabyte of models."""
    present = [spec for spec in facts.loaders.values() if spec.availability().ok]
    for number, spec in enumerate(present):
        report(f"running a test model with {spec.title}", BACKENDS_SHARE * number / len(present))
        await try_backend(spec, facts)
    file = facts.paths.abilities if is_there(facts.paths.cache) else None  # looking makes no folder
    report("asking the engines what they can use", BACKENDS_SHARE)
    await Abilities(facts.loaders, file, lambda: fingerprint(facts.hardware)).all()
    found = [entry for entry in await asyncio.to_thread(models.entries, facts) if isinstance(entry, ModelFacts)]
    whole = max(1, sum(entry.file_bytes for entry in found))
    done = 0
    for entry in found:

        def pass_on(name: str, share: float, before: int = done, entry: ModelFacts = entry) -> None:
            total = (before + share * entry.file_bytes) / whole
            report(f"looking into {name}", BACKENDS_SHARE + (1 - BACKENDS_SHARE) * total)

        await asyncio.to_thread(look_into, entry, facts, pass_on)
        done += entry.file_bytes
    report("done", 1.0)


async def try_backend(spec: LoaderSpec, facts: HealthFacts) -> AppError | None:
    """Let a backend run a test model in a worker of its own, keep what came of it, and return what went wrong."""
    failed: AppError | None = None
    seconds = 0.0
    try:
        done = await trial.try_backend(spec)
    except AppError as error:
        failed = error
    else:
        if not done.tried:
            return None
        seconds = done.seconds
    await asyncio.to_thread(remember_trial, spec, facts, failed, seconds)
    return failed


def remember_trial(spec: LoaderSpec, facts: HealthFacts, failed: AppError | None, seconds: float = 0.0) -> None:
    """Keep what came of a trial. `seconds` are 0 where nobody measured them."""
    found = {
        "at": time.time(),
        "seconds": round(seconds, 2),
        "error": failed.to_dict() if failed is not None else None,
    }
    facts.evidence.put(backends.KIND, spec.name, backends.stamp(spec, facts), found)


def look_into(model: ModelFacts, facts: HealthFacts, report: Callable[[str, float], None]) -> None:
    """Checksums and samples of one model's files."""
    stamp = models.stamp(model)
    failed: AppError | None = None
    told = ""
    try:
        told = check_soundness(model, models.KNOWN, report)
    except CorruptFile as error:
        failed = error
    except OSError as error:
        failed = StorageFailed(f"{model.path.name} cannot be read.", cause=error.strerror or str(error))
    found = {"at": time.time(), "told": told, "error": failed.to_dict() if failed is not None else None}
    facts.evidence.put(models.KIND, str(model.path), stamp, found)
