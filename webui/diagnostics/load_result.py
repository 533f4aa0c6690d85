"""How one load went: what tests of models list, and what a program gets from `toolkit.load`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from webui.errors import AppError


@dataclass(frozen=True)
class LoadResult:
    """How one load went. `backend` is the one that opened the model, or was asked for where none did.

    `load_time` is seconds, `memory_usage` the bytes its process holds, `steps` how many attempts it took; `degraded`
    says what the model had to do without.
    """

    model: str
    path: Path
    backend: str
    success: bool
    load_time: float | None = None
    memory_usage: int | None = None
    device: str = ""
    steps: int = 0
    degraded: str = ""
    error: AppError | None = None

    def to_dict(self) -> dict[str, Any]:
        return {
            "model": self.model,
            "path": str(self.path),
            "backend": self.backend,
            "success": self.success,
            "load_time": self.load_time,
            "memory_usage": self.memory_usage,
            "device": self.device,
            "steps": self.steps,
            "degraded": self.degraded,
            "error": self.error.to_dict() if self.error is not None else None,
        }
