"""Export and import over HTTP: with the page's key only, secrets and what protects only at the machine itself."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from webui.context import AppContext
from webui.migration.archive import export
from webui.paths import Paths
from webui.server import create_api
from webui.settings import Settings


def context_of(**command_line: Any) -> AppContext:
    given = {"extensions.enabled": False, **command_line}
    paths = Paths.from_environment().ensure()
    return AppContext.create(paths, Settings.load(paths, environment={}, command_line=given))


@pytest.fixture
async def context() -> AsyncIterator[AppContext]:
    made = context_of()
    yield made
    await made.close()


def client_of(context: AppContext) -> httpx.AsyncClient:
    transport = httpx.ASGITransport(app=create_api(context))
    return httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:7860")


async def test_out_and_in_again(context: AppContext) -> None:
    context.save_settings({"limits.queue_length": 7, "server.api_key": "hunter2"})
    async with client_of(context) as client:
        answer = await client.get(f"/page/export/{context.page_key}")
        assert answer.headers["content-disposition"].startswith('attachment; filename="gguf-loader-')
        with zipfile.ZipFile(io.BytesIO(answer.content)) as opened:
            assert "hunter2" not in opened.read("settings.yaml").decode()
        context.save_settings({"limits.queue_length": 8})
        url = f"/page/import/{context.page_key}"
        told = (await client.post(url, content=answer.content)).json()
        assert told == {"changes": [["setting", "limits.queue_length", "8", "7"]], "left": []}
        assert context.settings.limits.queue_length == 8
        told = (await client.post(url, params={"do": 1}, content=answer.content)).json()
        assert context.settings.limits.queue_length == 7
        assert told["backup"].startswith(str(context.paths.backups))
        told = (await client.post(url, content=b"?")).json()
        assert "not a whole export" in told["error"]["message"]


async def test_without_the_pages_key_there_is_nothing(context: AppContext) -> None:
    async with client_of(context) as client:
        assert (await client.get("/page/export/guess")).status_code == 404
        assert (await client.post("/page/import/guess", content=b"")).status_code == 404
        foreign = {"origin": "http://elsewhere.example"}
        answer = await client.post(f"/page/import/{context.page_key}", content=b"", headers=foreign)
        assert answer.status_code == 403


async def test_visitors_from_elsewhere_get_no_secrets_and_open_no_door() -> None:
    context = context_of(**{"server.host": "0.0.0.0", "server.auth": "me:word", "server.api_key": "key"})
    try:
        async with client_of(context) as client:
            assert (await client.get(f"/page/export/{context.page_key}", params={"secrets": 1})).status_code == 403
            url = f"/page/import/{context.page_key}"
            answer = await client.post(url, params={"protected": 1}, content=b"")
            assert (answer.status_code, "at the machine itself" in answer.text) == (403, True)
            content = zipped(export(context.paths, context.settings), "server: {allowed_hosts: [a.example]}\n")
            told = (await client.post(url, params={"do": 1}, content=content)).json()
            assert [name for _, name, _ in told["left"]] == ["server.allowed_hosts"]
            assert context.settings_store.load().server.allowed_hosts == ()
    finally:
        await context.close()


def zipped(content: bytes, settings: str) -> bytes:
    """The export with other settings in it."""
    stream = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(stream, "w") as new:
        new.writestr("manifest.json", json.dumps(json.loads(old.read("manifest.json"))))
        new.writestr("settings.yaml", settings)
    return stream.getvalue()
