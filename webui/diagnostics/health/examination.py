"""The long checks: a test model through every backend, and a look into the weights of every model.

What they find goes to the evidence, where the quick checks read it until what was looked at changes.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from webui.diagnostics.health import backends, models
from webui.diagnostics.health.check import HealthFacts
from webui.errors import AppError, CorruptFile, EngineCrashed, EngineRefused, StorageFailed, TimedOut
from webui.hardware.facts import fingerprint
from webui.loaders.contract import GenerationRequest, LoaderSpec
from webui.loaders.parameters import keep_known
from webui.loaders.sampling import SamplingParameters
from webui.loaders.supervisor import WorkerLimits, WorkerProcess
from webui.models.facts import ModelFacts
from webui.models.inspect import inspect_model
from webui.models.soundness import check_soundness
from webui.models.tiny import write_tiny_model
from webui.pool.tasks import to_the_end
from webui.settings import Settings
from webui.setup.abilities import Abilities

Report = Callable[[str, float | None], None]
"""Called with what is being done and the share that is done."""

LIMITS = WorkerLimits(start_seconds=120.0, load_seconds=120.0)
"""The first import of an engine after its installation takes long on a slow disk."""
REPLY_SECONDS = 60.0
PROMPT, TOKENS = "one two three", 4
SMALL = {"context_size": 128, "slots": 1}
BACKENDS_SHARE = 0.5
"""How much of the whole the backends are said to take."""


async def examine(facts: HealthFacts, report: Report) -> None:
    """All long checks, one after the other; takes some seconds for each backend and for each gigabyte of models."""
    present = [spec for spec in facts.loaders.values() if spec.availability().ok]
    with TemporaryDirectory(prefix="gguf-trial-") as folder:
        model = await asyncio.to_thread(test_model, Path(folder))
        for number, spec in enumerate(present):
            report(f"running a test model with {spec.title}", BACKENDS_SHARE * number / len(present))
            await try_backend(spec, facts, model)
    file = facts.paths.abilities if facts.paths.cache.is_dir() else None  # looking makes no folder
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


def test_model(folder: Path) -> ModelFacts:
    """A model that every backend for GGUF files opens, written into `folder`."""
    return inspect_model(write_tiny_model(folder / "test-model.gguf"))


async def try_backend(spec: LoaderSpec, facts: HealthFacts, model: ModelFacts | None = None) -> AppError | None:
    """Let a backend run the test model in a worker of its own, keep what came of it, and return what went wrong."""
    if model is None:
        with TemporaryDirectory(prefix="gguf-trial-") as folder:
            return await try_backend(spec, facts, await asyncio.to_thread(test_model, Path(folder)))
    if not spec.can_open(model).ok or not spec.availability(model).ok:
        return None
    stamp = await asyncio.to_thread(backends.stamp, spec, facts)
    began = time.monotonic()
    failed = await _run(spec, model, _asked(spec, facts))
    if isinstance(failed, EngineCrashed) and spec.safe_parameters:  # as a load would go on after a crash
        failed = await _run(spec, model, {**_asked(spec, facts), **spec.safe_parameters})
    found = {
        "at": time.time(),
        "seconds": round(time.monotonic() - began, 2),
        "error": failed.to_dict() if failed is not None else None,
    }
    await asyncio.to_thread(facts.evidence.put, backends.KIND, spec.name, stamp, found)
    return failed


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


def _asked(spec: LoaderSpec, facts: HealthFacts) -> dict[str, Any]:
    """Small, and on the processor where the settings say so."""
    settings = facts.settings
    on_cpu = isinstance(settings, Settings) and not settings.backends.gpu_enabled
    return {**keep_known(spec.parameters, SMALL), **(spec.cpu_parameters if on_cpu else {})}


async def _run(spec: LoaderSpec, model: ModelFacts, parameters: Mapping[str, Any]) -> AppError | None:
    worker = WorkerProcess(spec, limits=LIMITS)
    try:
        await worker.start()
        await worker.load(model, spec.parameters.parse(parameters, where=spec.title))
        async with asyncio.timeout(REPLY_SECONDS):
            request = GenerationRequest(PROMPT, SamplingParameters(max_tokens=TOKENS, temperature=0.0))
            async with contextlib.aclosing(worker.generate(request).events()) as events:
                written = [event async for event in events]
        return None if written else EngineRefused(f"{spec.title} wrote nothing.")
    except TimeoutError:
        return TimedOut(f"{spec.title} did not write {TOKENS} tokens within {REPLY_SECONDS:.0f} s.")
    except AppError as error:
        return error
    finally:
        await to_the_end(worker.stop())
