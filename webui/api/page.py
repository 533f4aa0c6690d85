"""`POST /page/ask/KEY`: for the page itself. The key comes with the page, so whoever may see that may ask."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastapi import APIRouter, Request
from fastapi.responses import PlainTextResponse

if TYPE_CHECKING:
    from webui.context import AppContext


def routes(context: AppContext) -> APIRouter:
    router = APIRouter(include_in_schema=False)

    @router.post("/page/ask/{key}")
    async def ask(key: str, request: Request) -> PlainTextResponse:
        text = (await request.body()).decode("utf-8", "replace")
        return PlainTextResponse(await context.first_words.ask(key, text), headers={"cache-control": "no-store"})

    return router
