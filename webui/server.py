"""The server: one FastAPI app with the checks, the API and the page, and the process that runs it.

`create_api` puts checks and routes together, `create_app` adds the page. `serve` binds the port, runs uvicorn in the
main thread and ends everything in order: replies are stored, workers ended, files closed. Routes are in `webui.api`,
the checks in `webui.security`, the page in `webui.tabs`. Nothing here waits for hardware or a model: those come up in
the background.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import os
import secrets
import signal
import socket
import sys
import webbrowser
from collections.abc import AsyncGenerator, Iterator, Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import uvicorn
from fastapi import FastAPI, Request
from starlette.datastructures import Headers, State
from starlette.middleware.gzip import GZipMiddleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from webui.api import archive, health, metrics, openai, page
from webui.api.errors import error_response, handle_errors
from webui.errors import AppError, InvalidSetting, NotFound
from webui.security import (
    GUARDED,
    MAX_BODY,
    ApiKeyCheck,
    HostCheck,
    KnownHosts,
    OriginCheck,
    PageHeaders,
)
from webui.settings.exposure import check_exposure

if TYPE_CHECKING:
    from webui.context import AppContext

log = logging.getLogger(__name__)

GOODBYE_SECONDS = 2
"""How long connections may take to notice the end before they are cut."""
MAX_UPLOAD = "64mb"


def create_app(context: AppContext) -> FastAPI:
    """The whole server. Raises `InvalidSetting` where it would be reachable from elsewhere without protection."""
    app = create_api(context)
    mount_page(app, context)
    return app


def create_api(context: AppContext) -> FastAPI:
    """The server without the page, over `context`, which is started and closed with it. Raises as `create_app`."""
    server = context.settings.server
    check_exposure(server.host, share=server.share, auth=server.auth, api_key=server.api_key)

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncGenerator[None, None]:
        await context.start()
        try:
            yield
        finally:
            await context.close()

    # No pages of FastAPI's own: they come from another host.
    app = FastAPI(
        title="GGUF Loader WebUI",
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        max_body_size=MAX_BODY,
    )
    app.state.hosts = KnownHosts(server.host, server.allowed_hosts)
    app.state.streams = OpenStreams()
    handle_errors(app)
    app.include_router(health.routes(context))
    app.include_router(metrics.routes(context))
    app.include_router(page.routes(context))
    app.include_router(archive.routes(context))
    app.include_router(openai.routes(context))
    context.extensions.routes(app, context)
    for prefix in GUARDED:
        path, methods = prefix + "/{rest:path}", ["GET", "POST", "PUT", "PATCH", "DELETE"]
        app.add_api_route(path, _nothing_here, methods=methods, include_in_schema=False)
    # The last one added meets a request first.
    app.add_middleware(CompressGets)
    app.add_middleware(ApiKeyCheck, key=server.api_key, refuse=error_response)
    app.add_middleware(OriginCheck, hosts=app.state.hosts, refuse=error_response)
    app.add_middleware(HostCheck, hosts=app.state.hosts, refuse=error_response)
    app.add_middleware(PageHeaders)
    app.add_middleware(CleanEnd, streams=app.state.streams)
    return app


async def _nothing_here(request: Request, rest: str) -> None:
    """Behind the routes there are, so that the page's catch-all does not answer an API client with HTML."""
    raise NotFound(f"There is no route {request.method} {request.url.path}.")


def mount_page(app: FastAPI, context: AppContext) -> None:
    """Mount the page at /, behind all other routes."""
    # Before Gradio is imported: it reads them then. No telemetry, and no look for newer versions.
    os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    import gradio

    from webui.tabs.page import build_page, page_options

    server = context.settings.server
    name, _, password = server.auth.partition(":")
    page = build_page(context)
    # Who waits for whom is decided by the pool's scheduler, not by Gradio.
    page.queue(default_concurrency_limit=None)
    gradio.mount_gradio_app(
        app,
        page,
        path="/",
        server_name=server.host,
        server_port=server.port,
        auth=(name, password) if server.auth else None,
        allowed_paths=[],
        blocked_paths=[str(context.paths.home)],
        max_file_size=MAX_UPLOAD,
        **page_options(),
    )


class CompressGets:
    """Compresses what the page is made of. Event streams and answers to posts pass as they are, piece by piece."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app
        self._compressing = GZipMiddleware(app, minimum_size=1024, compresslevel=5)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        compress = scope["type"] == "http" and scope["method"] == "GET"
        await (self._compressing if compress else self.app)(scope, receive, send)


class OpenStreams:
    """The event streams that are open now. A page keeps some for as long as it is shown."""

    def __init__(self) -> None:
        self.tasks: set[asyncio.Task[Any]] = set()
        self.ending = False

    def end(self) -> None:
        """Let each of them end as if it were complete; being cut would be an error in the log."""
        self.ending = True
        for task in self.tasks:
            task.cancel()


class CleanEnd:
    """Keeps the account of `OpenStreams`."""

    def __init__(self, app: ASGIApp, streams: OpenStreams) -> None:
        self.app, self._streams = app, streams

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        task = asyncio.current_task()
        if scope["type"] != "http" or task is None:
            await self.app(scope, receive, send)
            return

        complete = False

        async def watched(message: Message) -> None:
            nonlocal complete
            await send(message)
            if message["type"] == "http.response.start":
                if Headers(raw=message["headers"]).get("content-type", "").startswith("text/event-stream"):
                    self._streams.tasks.add(task)
            else:
                complete = not message.get("more_body", False)

        try:
            await self.app(scope, receive, watched)
        except asyncio.CancelledError:
            if not (self._streams.ending and task in self._streams.tasks):
                raise
            task.uncancel()
            if not complete:
                await send({"type": "http.response.body", "body": b"", "more_body": False})
        finally:
            self._streams.tasks.discard(task)


# --- the process ----------------------------------------------------------------------------------------------------


def serve(context: AppContext) -> None:
    """Run the server until SIGINT or SIGTERM; returns when everything is ended. Must be called in the main thread.

    Raises `InvalidSetting` when the address cannot be taken or is not protected.
    """
    server = context.settings.server
    check_exposure(server.host, share=server.share, auth=server.auth, api_key=server.api_key)
    with contextlib.closing(bind(server.host, server.port)) as listener:
        # Gradio serves files that lie under the working directory; this one is empty.
        os.chdir(context.paths.runtime)
        app = create_app(context)
        config = uvicorn.Config(
            app,
            log_config=None,
            access_log=False,
            server_header=False,
            ws="none",
            timeout_graceful_shutdown=GOODBYE_SECONDS,
            timeout_keep_alive=65,
        )
        with _signals_end_quietly():
            _Server(config, context, app.state).run(sockets=[listener])


class _Server(uvicorn.Server):
    """uvicorn, with a word when it is up, and an end in order: replies are stored, then streams end."""

    def __init__(self, config: uvicorn.Config, context: AppContext, state: State) -> None:
        super().__init__(config)
        self._context, self._state = context, state
        self._sharing: asyncio.Task[None] | None = None
        self._opening: asyncio.Task[bool] | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.should_exit or not sockets:
            return
        settings = self._context.settings.server
        port = int(sockets[0].getsockname()[1])
        url = f"http://{_reachable(settings.host)}:{port}"
        print(f"GGUF Loader WebUI runs on {url} (Ctrl+C ends it)", flush=True)
        if settings.open_browser and somebody_looks(sys.stdout.isatty(), os.environ):
            self._opening = asyncio.create_task(asyncio.to_thread(webbrowser.open, url))
        if settings.share:
            self._sharing = asyncio.create_task(share(port, self._state.hosts))

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        if self._sharing is not None:
            self._sharing.cancel()
        await self._context.chats.close()
        self._state.streams.end()
        await super().shutdown(sockets)


def somebody_looks(terminal: bool, environment: Mapping[str, str]) -> bool:
    """Whether a browser opened here would be seen: a terminal that is not remote, and a screen to open a window on."""
    if not terminal or environment.get("SSH_CONNECTION"):
        return False
    if sys.platform in ("win32", "darwin"):
        return True
    return bool(environment.get("DISPLAY") or environment.get("WAYLAND_DISPLAY"))


def bind(host: str, port: int) -> socket.socket:
    """A socket bound to the address, not listening yet. Raises `InvalidSetting` with a port that is free instead."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except OSError as error:
        raise InvalidSetting(
            f"The host {host!r} is not an address of this machine.", cause=str(error), hint="Use --host 127.0.0.1."
        ) from error
    listener = socket.socket(family, kind, protocol)
    # Elsewhere a port that was closed a moment ago is blocked; on Windows the option would let two programs share it.
    if sys.platform == "win32":
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_EXCLUSIVEADDRUSE, 1)
    else:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind(address)
    except OSError as error:
        listener.close()
        raise _cannot_bind(host, port, error) from error
    return listener


def _cannot_bind(host: str, port: int, error: OSError) -> InvalidSetting:
    if error.errno == errno.EADDRINUSE:
        free = _next_free(host, port)
        hint = f"Use --port {free}." if free else "Use --port 0, which takes any free one."
        return InvalidSetting(f"Port {port} is in use, perhaps by this app already.", hint=hint)
    if error.errno == errno.EACCES:
        return InvalidSetting(f"Port {port} may not be used by this user.", hint="Use --port 7860.")
    return InvalidSetting(
        f"The server cannot listen on {host}:{port}.", cause=error.strerror or str(error), hint="Use --host 127.0.0.1."
    )


def _next_free(host: str, port: int) -> int | None:
    for candidate in range(port + 1, min(port + 100, 65_536)):
        family, kind, protocol, _, address = socket.getaddrinfo(host, candidate, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as probe, contextlib.suppress(OSError):
            probe.bind(address)
            return candidate
    return None


def _reachable(host: str) -> str:
    """What to type into the browser of this machine."""
    if host in ("0.0.0.0", "::", ""):
        return "127.0.0.1"
    return f"[{host}]" if ":" in host else host


@contextlib.contextmanager
def _signals_end_quietly() -> Iterator[None]:
    """uvicorn raises the signal that ended it once more when it is done; here the end has come, so nothing follows."""
    names = [name for name in ("SIGINT", "SIGTERM", "SIGBREAK") if hasattr(signal, name)]
    before = {name: signal.signal(getattr(signal, name), lambda number, frame: None) for name in names}
    try:
        yield
    finally:
        for name, handler in before.items():
            signal.signal(getattr(signal, name), handler)


async def share(port: int, hosts: KnownHosts) -> None:
    """Ask for a public address and say it; where that fails, say why and go on without."""
    from gradio.networking import setup_tunnel

    token = secrets.token_urlsafe(32)
    try:
        address = await asyncio.to_thread(setup_tunnel, "127.0.0.1", port, token, None, None)
    # Gradio raises many kinds here, of the network, of files and its own; each means that there is no address.
    except Exception as error:  # noqa: BLE001
        problem = AppError("There is no public address; the local one works.", cause=str(error))
        log.warning("%s %s", problem.message, problem.cause)
        print(f"{problem.message} ({problem.cause})", file=sys.stderr, flush=True)
        return
    hosts.add(urlsplit(address).hostname or "")
    print(f"Public address, for those who have the login: {address}", flush=True)
