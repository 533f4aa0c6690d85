"""Everything in one file, out of the page and into it. The key comes with the page, so whoever may see that may ask.

GET  /page/export/KEY   the export as a download; `chats=0` without conversations, `secrets=1` with login and API key
POST /page/import/KEY   the file is the body: what it would change; `do=1` does it, `protected=1` and `replace=1` as
                        `webui.migration.importing` has them
"""

from __future__ import annotations

import asyncio
import hmac
import time
from typing import TYPE_CHECKING, Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse

from webui.errors import AccessDenied, AppError, NotFound
from webui.migration import archive
from webui.migration.importing import Import, Places
from webui.security import local_only

if TYPE_CHECKING:
    from webui.context import AppContext

FRESH = {"cache-control": "no-store"}


def routes(context: AppContext) -> APIRouter:
    router = APIRouter(include_in_schema=False)

    def check(key: str, *, at_the_machine: bool) -> None:
        if not hmac.compare_digest(key.encode(), context.page_key.encode()):
            raise NotFound("There is no such page.", hint="Reload the page.")
        if at_the_machine and not local_only(context.started_with):
            raise AccessDenied(
                "This can be done at the machine itself only.",
                cause="It concerns who may reach the server, or what runs on that machine.",
                hint="Use python3 app.py config there.",
            )

    @router.get("/page/export/{key}")
    async def export(key: str, chats: bool = True, secrets: bool = False) -> Response:
        check(key, at_the_machine=secrets)
        content = await asyncio.to_thread(archive.export, context.paths, context.settings, secrets=secrets, chats=chats)
        name = f"gguf-loader-{time.strftime('%Y%m%d-%H%M')}.zip"
        headers = {**FRESH, "content-disposition": f'attachment; filename="{name}"'}
        return Response(content, media_type="application/zip", headers=headers)

    @router.post("/page/import/{key}")
    async def import_(
        key: str, request: Request, do: bool = False, protected: bool = False, replace: bool = False
    ) -> JSONResponse:
        check(key, at_the_machine=protected)
        try:
            told = await _import(context, await request.body(), do=do, protected=protected, replace=replace)
        except AppError as error:  # an answer like any other, for a person who chose a wrong file
            told = {"error": error.to_dict()}
        return JSONResponse(told, headers=FRESH)

    return router


async def _import(context: AppContext, content: bytes, *, do: bool, protected: bool, replace: bool) -> dict[str, Any]:
    planned = await asyncio.to_thread(_plan, context, content, protected=protected, replace=replace)
    told: dict[str, Any] = {
        "changes": [[step.kind, step.name, step.before, step.after] for step in planned.changes],
        "left": [[step.kind, step.name, step.why_not] for step in planned.steps if step.why_not],
    }
    if do:
        told["backup"] = str(await asyncio.to_thread(planned.carry_out))
        context.use_settings(await asyncio.to_thread(context.settings_store.load))
    return told


def _plan(context: AppContext, content: bytes, *, protected: bool, replace: bool) -> Import:
    places = Places(context.paths, context.loaders, context.settings_store, context.store)
    return Import(archive.read(content), places, protected=protected, replace=replace)
