"""Whether a backend works: a tiny model is really loaded in a worker process, and has to write a few tokens."""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from webui.errors import BrokenPackage, TimedOut
from webui.loaders.contract import Chunk, Finished, GenerationRequest, LoaderSpec
from webui.loaders.parameters import keep_known
from webui.loaders.sampling import SamplingParameters
from webui.loaders.supervisor import WorkerLimits, WorkerProcess
from webui.models.inspect import inspect_model
from webui.setup.tiny_model import PROMPT, write_tiny_model

TOKENS = 4
START_SECONDS = 180.0
"""The first import of torch after its installation compiles thousands of files on a slow disk."""
LOAD_SECONDS = 180.0
REPLY_SECONDS = 60.0
PARAMETERS = {"context_size": 256}


@dataclass(frozen=True, slots=True)
class Trial:
    """What came of it: on which device, with how many tokens written, after how many seconds in all.

    `tried` is false for a backend that does not open GGUF files, of which nothing more than its start is known.
    """

    device: str = ""
    device_kind: str = ""
    tokens: int = 0
    seconds: float = 0.0
    notes: tuple[str, ...] = ()
    tried: bool = True


async def try_backend(spec: LoaderSpec) -> Trial:
    """Load the tiny model with `spec` and let it write. Raises the `AppError` of whatever goes wrong."""
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="trial-", ignore_cleanup_errors=True) as folder:
        path = await asyncio.to_thread(write_tiny_model, Path(folder) / "tiny.gguf")
        facts = await asyncio.to_thread(inspect_model, path)
        if not spec.can_open(facts).ok:
            return Trial(tried=False)
        worker = WorkerProcess(spec, limits=WorkerLimits(START_SECONDS, LOAD_SECONDS))
        try:
            await worker.start()
            parameters = spec.parameters.parse(keep_known(spec.parameters, PARAMETERS), where="the trial")
            model = await worker.load(facts, parameters)
            finished = await _reply(worker)
        finally:
            await worker.stop()
    return Trial(model.device, model.device_kind, finished.completion_tokens, time.monotonic() - began, model.notes)


async def _reply(worker: WorkerProcess) -> Finished:
    title = worker.spec.title
    request = GenerationRequest(PROMPT, SamplingParameters(max_tokens=TOKENS, temperature=0.0))
    text, finished = "", None
    try:
        async with asyncio.timeout(REPLY_SECONDS), contextlib.aclosing(worker.generate(request).events()) as events:
            async for event in events:
                if isinstance(event, Chunk):
                    text += event.text
                else:
                    finished = event
    except TimeoutError as error:
        raise TimedOut(f"{title} wrote nothing within {REPLY_SECONDS:.0f} s.", evidence=worker.output) from error
    if finished is None or not finished.completion_tokens or not text:
        raise BrokenPackage(f"{title} loaded a tiny model and wrote nothing.", evidence=worker.output)
    return finished
