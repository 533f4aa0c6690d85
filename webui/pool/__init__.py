"""Living workers, jobs and their scheduling."""

from webui.pool.jobs import FINAL, Job, JobState
from webui.pool.pool import Pool, open_pool
from webui.pool.status import Failure, LoadRequest, LoadStory, PoolState, PoolStatus, Rung, WorkerFacts

__all__ = [
    "FINAL",
    "Failure",
    "Job",
    "JobState",
    "LoadRequest",
    "LoadStory",
    "Pool",
    "PoolState",
    "PoolStatus",
    "Rung",
    "WorkerFacts",
    "open_pool",
]
