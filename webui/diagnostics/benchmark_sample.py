"""One measured reply: a job in the pool, as somebody who waits for it sees it."""

from __future__ import annotations

from dataclasses import dataclass

from webui.errors import EngineRefused
from webui.loaders.contract import GenerationRequest
from webui.loaders.sampling import SamplingParameters
from webui.pool import Pool
from webui.pool.jobs import Job

OWNER = "benchmark"
MOST_CACHED = 0.05
"""The share of a prompt that may come from the engine's cache; beyond it a run says nothing about reading prompts."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One reply: seconds to the first token, prompt and reply tokens per second, tokens of the reply and the prompt."""

    first_token_seconds: float
    prompt_tokens_per_second: float | None
    tokens_per_second: float | None
    completion_tokens: int
    prompt_tokens: int = 0


async def sample(pool: Pool, prompt: str, reply_tokens: int) -> Sample:
    """Let the loaded model answer `prompt` greedily with at most `reply_tokens` tokens. Raises the job's error."""
    sampling = SamplingParameters(max_tokens=reply_tokens, temperature=0.0)
    job = pool.submit(GenerationRequest(prompt, sampling), owner=OWNER)
    try:
        await job.wait()
    finally:
        job.cancel()
    if job.error is not None:
        raise job.error
    return _sample_of(job)


def _sample_of(job: Job) -> Sample:
    finished = job.finished
    if finished is None or job.first_token_seconds is None:
        raise EngineRefused("The engine ended the reply without a token.")
    read = finished.prompt_tokens - finished.cached_tokens
    known = finished.prompt_seconds > 0 and finished.cached_tokens <= MOST_CACHED * finished.prompt_tokens
    # By the clock in this process, as somebody who waits for the reply sees it.
    rest = (job.total_seconds or 0.0) - job.first_token_seconds
    return Sample(
        job.first_token_seconds,
        read / finished.prompt_seconds if known else None,
        (finished.completion_tokens - 1) / rest if rest > 0 and finished.completion_tokens > 1 else None,
        finished.completion_tokens,
        finished.prompt_tokens,
    )


def others_busy(pool: Pool, since: float) -> bool:
    """Whether anybody else's reply was being written at any time since then (on the wall clock)."""
    return any(
        job.owner != OWNER and (not job.ended or job.created_at + (job.total_seconds or 0.0) >= since)
        for job in pool.jobs()
    )
