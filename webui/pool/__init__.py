"""Living workers, jobs and their scheduling."""

from webui.pool.jobs import FINAL, Job, JobState
from webui.pool.pool import Pool, open_pool
from webui.pool.status import Failure, LoadRequest, PoolState, PoolStatus, WorkerFacts

__all__ = [
    "FINAL",
    "Failure",
    "Job",
    "JobState",
    "LoadRequest",
    "Pool",
    "PoolState",
    "PoolStatus",
    "WorkerFacts",
    "open_pool",
]
