"""`GET /health`: what the server is doing. Reads one snapshot and waits for nothing, so it answers whatever happens."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fastapi import APIRouter

import webui
from webui.models.inspect import model_id
from webui.pool.records import rung_summary

if TYPE_CHECKING:
    from webui.context import AppContext


def routes(context: AppContext) -> APIRouter:
    router = APIRouter()

    @router.get("/health")
    async def health() -> dict[str, Any]:
        status = context.pool.status
        return {
            "state": status.state.value,
            "model": model_id(status.facts) if status.facts else None,
            "loader": status.loader,
            "device": status.model.device if status.model else None,
            "ladder": [rung_summary(rung) for rung in status.ladder],
            "degraded": status.degraded.sentence if status.degraded else None,
            "queue": {"running": status.running, "queued": status.queued},
            "version": webui.__version__,
        }

    return router
