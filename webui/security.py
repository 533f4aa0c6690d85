"""Who may talk to the server: the checks that stand in front of every route, and the headers behind it.

Plain ASGI, so that a streamed reply passes piece by piece. In the order in which a request meets them:

    HostCheck      the Host header names this server; stops DNS rebinding, where a foreign page talks to 127.0.0.1
    OriginCheck    a request that changes something comes from our own page or from no page at all
    ApiKeyCheck    /v1, /metrics and extensions' routes need the key, where one is set
    PageHeaders    what the browser is told: no outside hosts, no sniffing, no referrer

The login for the page is Gradio's own and the bound on bodies is FastAPI's (`webui.server` sets both).
"""

from __future__ import annotations

import hmac
import ipaddress
import socket
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from webui.errors import AccessDenied, AppError
from webui.settings.exposure import LOOPBACK, is_loopback

if TYPE_CHECKING:
    from webui.settings import Settings

MAX_BODY = 64 << 20
"""Bytes of a request body: a very long conversation, not a model."""

SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
GUARDED = ("/v1", "/metrics", "/extensions")
"""What the API key guards, with all below it."""

# Gradio's page is built at run time from inline scripts and styles, which is why those are allowed. Nothing may come
# from, or be sent to, another host: an image in a model's reply is no way out.
CONTENT_POLICY = "; ".join(
    (
        "default-src 'self'",
        "script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:",
        "style-src 'self' 'unsafe-inline'",
        "img-src 'self' data: blob:",
        "media-src 'self' data: blob:",
        "font-src 'self' data:",
        "connect-src 'self' data: blob:",
        "worker-src 'self' blob:",
        "frame-src 'self' data: blob:",
        "object-src 'none'",
        "base-uri 'self'",
        "form-action 'self'",
        "frame-ancestors 'self'",
    )
)
PAGE_HEADERS = {
    "content-security-policy": CONTENT_POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
}

Refuse = Callable[[AppError, int], JSONResponse]
"""Makes the response for a refusal; `webui.api.errors` gives the form that API clients expect."""


def local_only(settings: Settings) -> bool:
    """Whether every visitor sits at this machine, so that a path they name is one of their own.

    `settings` are those that the server was started with: what was saved since does not move it.
    """
    return is_loopback(settings.server.host) and not settings.server.share


class KnownHosts:
    """The names this server goes by; the public address of `--share` is added once it is known.

    Beyond loopback any IP address is accepted too: rebinding needs a name, and the machine has addresses that nobody
    wrote into the settings.
    """

    def __init__(self, host: str, allowed: Iterable[str] = ()) -> None:
        self._names = {*LOOPBACK, *(name.lower().strip("[]") for name in allowed)}
        self._addresses = not is_loopback(host)
        if self._addresses:
            name = socket.gethostname().lower()
            self._names |= {host.lower().strip("[]"), name, f"{name}.local"}

    def add(self, name: str) -> None:
        self._names.add(name.lower())

    def knows(self, host_header: str) -> bool:
        """Whether the Host header (name or address, with or without a port) is one of ours."""
        name = host_name(host_header)
        if name in self._names:
            return True
        if not self._addresses:
            return False
        try:
            ipaddress.ip_address(name)
        except ValueError:
            return False
        return True


def host_name(host_header: str) -> str:
    """The name in a Host header, without port and brackets, in lower case; "" if it is malformed."""
    try:
        return (urlsplit(f"//{host_header}").hostname or "").rstrip(".")
    except ValueError:
        return ""


class HostCheck:
    def __init__(self, app: ASGIApp, hosts: KnownHosts, refuse: Refuse) -> None:
        self.app, self._hosts, self._refuse = app, hosts, refuse

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] in ("http", "websocket"):
            host = Headers(scope=scope).get("host", "")
            if not self._hosts.knows(host):
                error = AccessDenied(
                    f"This server does not go by the name {host_name(host) or host or '(none)'!r}.",
                    hint="Add the name to server.allowed_hosts if it is yours.",
                )
                await _deny(scope, receive, send, self._refuse(error, 403))
                return
        await self.app(scope, receive, send)


class OriginCheck:
    """Browsers name the page a request comes from; programs do not, and pass."""

    def __init__(self, app: ASGIApp, hosts: KnownHosts, refuse: Refuse) -> None:
        self.app, self._hosts, self._refuse = app, hosts, refuse

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        changes = scope["type"] == "websocket" or (scope["type"] == "http" and scope["method"] not in SAFE_METHODS)
        if changes and not self._is_ours(Headers(scope=scope)):
            error = AccessDenied(
                "This request comes from another site's page.", hint="Use the app's own page, or a program."
            )
            await _deny(scope, receive, send, self._refuse(error, 403))
            return
        await self.app(scope, receive, send)

    def _is_ours(self, headers: Headers) -> bool:
        origin = headers.get("origin")
        if origin is None:
            return headers.get("sec-fetch-site", "none") in ("none", "same-origin")
        try:
            place = urlsplit(origin)
            name = place.hostname or ""
        except ValueError:
            return False
        if place.netloc.lower() == headers.get("host", "").lower():
            return True
        # Behind a proxy the ports differ; on loopback another port is another program's page.
        return name not in LOOPBACK and self._hosts.knows(name)


class ApiKeyCheck:
    """Lets requests to guarded routes pass with the key as a bearer token or in `x-api-key`."""

    def __init__(self, app: ASGIApp, key: str, refuse: Refuse) -> None:
        self.app, self._key, self._refuse = app, key.encode(), refuse

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if not self._key or scope["type"] not in ("http", "websocket") or not is_guarded(scope["path"]):
            await self.app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        scheme, _, token = headers.get("authorization", "").partition(" ")
        given = token.strip() if scheme.lower() == "bearer" else headers.get("x-api-key", "")
        # Header values are read as Latin-1, so this gives back the bytes that were sent.
        if hmac.compare_digest(given.encode("latin-1"), self._key):
            await self.app(scope, receive, send)
            return
        error = AccessDenied(
            "The API key is wrong." if given else "This server asks for an API key.",
            hint="Send it as the header 'Authorization: Bearer KEY'.",
        )
        response = self._refuse(error, 401)
        response.headers["www-authenticate"] = "Bearer"
        await _deny(scope, receive, send, response)


def is_guarded(path: str) -> bool:
    return any(path == prefix or path.startswith(prefix + "/") for prefix in GUARDED)


class PageHeaders:
    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in PAGE_HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        await self.app(scope, receive, with_headers)


async def _deny(scope: Scope, receive: Receive, send: Send, response: JSONResponse) -> None:
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.close", "code": 1008})
        return
    await response(scope, receive, send)
