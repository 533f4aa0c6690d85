"""Requests of the page itself. Their keys come with the page, so whoever may see that may ask.

POST /page/ask/KEY           a question, answered with the first words of the reply
POST /page/answer/NAME/KEY   a question that the part of the page called NAME answers
GET  /page/monitor/KEY       what the machine is doing: samples from `since` on; a page that asks is one that watches
"""

from __future__ import annotations

import hmac
from typing import TYPE_CHECKING, Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, PlainTextResponse

from webui.errors import NotFound
from webui.hardware.facts import HardwareFacts
from webui.hardware.monitor import Window

if TYPE_CHECKING:
    from webui.context import AppContext

AWAKE_SECONDS = 6.0
"""A page asks every second or two; one that has not asked for so long has gone or is hidden."""
FRESH = {"cache-control": "no-store"}


def routes(context: AppContext) -> APIRouter:
    router = APIRouter(include_in_schema=False)

    def check(key: str) -> None:
        if not hmac.compare_digest(key.encode(), context.page_key.encode()):
            raise NotFound("There is no such page.", hint="Reload the page.")

    @router.post("/page/ask/{key}")
    async def ask(key: str, request: Request) -> PlainTextResponse:
        text = (await request.body()).decode("utf-8", "replace")
        return PlainTextResponse(await context.first_words.ask(key, text), headers=FRESH)

    @router.post("/page/answer/{name}/{key}")
    async def answer(name: str, key: str, request: Request) -> JSONResponse:
        check(key)
        if name not in context.page_answers:
            raise NotFound("No part of the page answers this.", hint="Reload the page.")
        question = (await request.body()).decode("utf-8", "replace")
        return JSONResponse(await context.page_answers[name](question), headers=FRESH)

    @router.get("/page/monitor/{key}")
    async def monitor(key: str, since: int = 0) -> JSONResponse:
        check(key)
        context.monitor.stay_awake(AWAKE_SECONDS)
        told = window_of(context.monitor.since(since))
        if since <= 0:
            told["facts"] = names_of(await context.hardware())
        return JSONResponse(told, headers=FRESH)

    return router


def window_of(window: Window) -> dict[str, Any]:
    """Rows of figures without names, in the order that the page's script knows them by."""
    rows = [
        [
            round(sample.at, 1),
            sample.cpu,
            sample.memory_used,
            sample.worker_cpu,
            sample.worker_memory,
            sample.speed,
            [[gpu.use, gpu.memory_used, gpu.temperature, gpu.power, gpu.worker_memory] for gpu in sample.gpus],
        ]
        for sample in window.samples
    ]
    return {"epoch": window.epoch, "first": window.first, "rows": rows}


def names_of(hardware: HardwareFacts) -> dict[str, Any]:
    """What the figures are about: the memory's size, and name and memory of each GPU."""
    gpus = [{"name": gpu.name, "memory": gpu.memory_total} for gpu in hardware.gpus]
    return {"memory": hardware.memory.total, "gpus": gpus}
