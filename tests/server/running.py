"""The server in this process: real HTTP on a port of the system's choice, real workers with the toy loader."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import uvicorn

from tests.builders.gguf import tiny_llama_spm
from tests.loaders import toy
from webui.context import AppContext
from webui.paths import Paths
from webui.pool import PoolState
from webui.server import bind, create_api, create_app
from webui.settings import Settings


@dataclass
class RunningServer:
    context: AppContext
    client: httpx.AsyncClient
    url: str
    app: Any

    async def chat(self, text: str, **fields: Any) -> httpx.Response:
        body = {"messages": [{"role": "user", "content": text}], **fields}
        return await self.client.post("/v1/chat/completions", json=body)


@contextlib.asynccontextmanager
async def running_server(
    home: Path, *, page: bool = False, models: tuple[str, ...] = ("tiny",), wait: bool = True, **settings: Any
) -> AsyncIterator[RunningServer]:
    """Settings as `server__api_key="x"`, `loaders__toy__delay=0.1`. Waits until the model is loaded."""
    loaders = {toy.SPEC.name: toy.SPEC}
    paths = Paths(home)
    paths.ensure()
    for name in models:
        tiny_llama_spm(paths.models / f"{name}.gguf")
    values = {name.replace("__", "."): value for name, value in settings.items()}
    loaded = Settings.load(paths, environment={}, command_line=values, loaders=loaders)
    context = AppContext.create(paths, loaded, loaders=loaders)
    app = create_app(context) if page else create_api(context)
    listener = bind("127.0.0.1", 0)
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    config = uvicorn.Config(app, log_config=None, ws="none", timeout_graceful_shutdown=1, lifespan="on")
    server = uvicorn.Server(config)
    task = asyncio.create_task(server.serve(sockets=[listener]))
    try:
        while not server.started:
            assert not task.done(), "the server did not start"
            await asyncio.sleep(0.01)
        async with asyncio.timeout(60):
            while wait and context.pool.status.state is not PoolState.READY:
                await asyncio.sleep(0.01)
        async with httpx.AsyncClient(base_url=url, timeout=60, trust_env=False) as client:
            yield RunningServer(context, client, url, app)
    finally:
        server.should_exit = True
        await task
        listener.close()
