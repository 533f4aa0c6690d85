"""What is kept of the use of models: one record for each attempt to load, one for each reply, and sums by the day.

Figures, names and versions only; never a word of what people or models wrote. Times are seconds since the epoch, sizes
bytes, speeds tokens per second; `None` is what was not told.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

LoadOutcome = Literal["worked", "failed"]
ReplyOutcome = Literal["done", "cancelled", "failed"]


@dataclass(frozen=True, slots=True)
class Conditions:
    """What a model ran under. `version` is the engine's, `driver` names the GPUs' drivers ("" without a GPU),
    `settings` is the fingerprint of the parameters that change speed, `device` the kind of device ("cpu", "cuda" …).
    """

    model: str
    loader: str
    version: str = ""
    driver: str = ""
    settings: str = ""
    context: int = 0
    device: str = ""


@dataclass(frozen=True, slots=True)
class LoadRecord:
    """One attempt to load with one loader. `seconds` is how long it took, `planned` what the plan said it would hold of
    the machine's own memory, `measured` what its processes held when it answered. `code` and `category` are those of
    its error.
    """

    at: float
    under: Conditions
    outcome: LoadOutcome
    seconds: float
    planned: int | None = None
    measured: int | None = None
    code: str = ""
    category: str = ""


@dataclass(frozen=True, slots=True)
class ReplyRecord:
    """One reply that an engine began. `life` tells the worker that wrote it (when it was started).

    `queued` and `first_token` are seconds from the request on, `read` is how many tokens of the prompt were read and
    not taken from the cache. `memory` is what the worker's processes held at the end, `gpu_use` (percent) and
    `gpu_memory` what was sampled meanwhile, where somebody watched. `shared`: other replies were written beside it.
    """

    at: float
    under: Conditions
    outcome: ReplyOutcome
    life: float = 0.0
    queued: float = 0.0
    first_token: float | None = None
    prompt_tokens: int = 0
    read: int = 0
    tokens: int = 0
    prompt_speed: float | None = None
    speed: float | None = None
    memory: int | None = None
    gpu_use: float | None = None
    gpu_memory: int | None = None
    shared: bool = False
    code: str = ""
    category: str = ""

    @property
    def depth(self) -> int:
        """Tokens of the context that it held at its end."""
        return self.prompt_tokens + self.tokens


@dataclass(frozen=True, slots=True)
class DayRecord:
    """The sums of one day (days since 1970) under the same conditions. `timed_tokens` were written in `seconds`,
    `timed_read` read in `prompt_seconds`; `first_tokens` replies had a first token, after `first_token_seconds` in all.
    `memory` is the largest that was held at the end of a reply.
    """

    day: int
    under: Conditions
    loads: int = 0
    loads_failed: int = 0
    load_seconds: float = 0.0
    replies: int = 0
    replies_failed: int = 0
    prompt_tokens: int = 0
    tokens: int = 0
    timed_tokens: int = 0
    seconds: float = 0.0
    timed_read: int = 0
    prompt_seconds: float = 0.0
    first_tokens: int = 0
    first_token_seconds: float = 0.0
    memory: int = 0


@dataclass(frozen=True, slots=True)
class ErrorCount:
    """How often something of one kind went wrong on one day with one model and loader."""

    day: int
    model: str
    loader: str
    category: str
    code: str
    number: int


@dataclass(frozen=True, slots=True)
class Record:
    """All of it, oldest first. `loads` and `replies` reach back some weeks, `days` and `errors` a year.

    `settings` gives, for a fingerprint of `Conditions`, the parameters it stands for.
    """

    loads: Sequence[LoadRecord] = ()
    replies: Sequence[ReplyRecord] = ()
    days: Sequence[DayRecord] = ()
    errors: Sequence[ErrorCount] = ()
    settings: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
