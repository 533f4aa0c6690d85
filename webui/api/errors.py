"""Our errors as API clients expect them: mapped here, once, for every route.

The form is OpenAI's (`{"error": {"message", "type", "param", "code"}}`), with our category, hint and cause beside it,
and `partial_text` where a reply broke off.
"""

from __future__ import annotations

import json
import logging
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse

from webui.errors import (
    AccessDenied,
    AppError,
    Busy,
    Cancelled,
    ContextTooLong,
    HardwareError,
    InvalidRequest,
    InvalidSetting,
    ModelNotFound,
    NotFound,
    NotLoaded,
    TemplateFailed,
    TimedOut,
)

log = logging.getLogger(__name__)

# The first class that fits decides; anything else is the server's fault.
_STATUS: tuple[tuple[type[AppError], int, str], ...] = (
    (AccessDenied, 403, "authentication_error"),
    (NotFound, 404, "not_found_error"),
    (ModelNotFound, 404, "not_found_error"),
    (Busy, 503, "unavailable_error"),
    (NotLoaded, 503, "unavailable_error"),
    (ContextTooLong, 400, "invalid_request_error"),
    (TemplateFailed, 400, "invalid_request_error"),
    (InvalidRequest, 400, "invalid_request_error"),
    (InvalidSetting, 400, "invalid_request_error"),
    (Cancelled, 499, "cancelled_error"),
    (TimedOut, 504, "server_error"),
    (HardwareError, 500, "server_error"),
)
_CODES = {ContextTooLong.code: "context_length_exceeded"}
RETRY_SECONDS = {Busy.code: 2, NotLoaded.code: 5}


def status_of(error: AppError) -> int:
    """The HTTP status that says best what kind of failure this is."""
    return next((status for kind, status, _ in _STATUS if isinstance(error, kind)), 500)


def error_body(error: AppError, partial_text: str = "") -> dict[str, Any]:
    """The error as JSON. The message carries the hint, since most clients show nothing else."""
    kind = next((name for cls, _, name in _STATUS if isinstance(error, cls)), "server_error")
    body = {
        "message": f"{error.message} {error.hint}".strip(),
        "type": kind,
        "param": error.facts.get("param"),
        "code": _CODES.get(error.code, error.code),
        "category": error.category,
        "hint": error.hint or None,
        "cause": error.cause or None,
    }
    return {"error": {**body, "partial_text": partial_text} if partial_text else body}


def error_response(error: AppError, status: int | None = None, *, partial_text: str = "") -> JSONResponse:
    """The error as a response, with when to come again where that helps.

    A request that ended an engine might end it again: clients that repeat failed requests by themselves are told not
    to.
    """
    response = _Plain(error_body(error, partial_text), status or status_of(error))
    if (seconds := RETRY_SECONDS.get(error.code)) is not None:
        response.headers["retry-after"] = str(error.facts.get("retry_after_seconds", seconds))
    elif isinstance(error, HardwareError):
        response.headers["x-should-retry"] = "false"
    return response


class _Plain(JSONResponse):
    """JSON in ASCII: what a client sent is named in errors, and need not be text that can be encoded."""

    def render(self, content: Any) -> bytes:
        return json.dumps(content, separators=(",", ":")).encode("ascii")


def log_failure(what: str, error: AppError) -> None:
    """Note a failure of the server's own; what a client did wrong, or has to wait for, is not one."""
    if status_of(error) >= 500 and not isinstance(error, Busy | NotLoaded):
        log.error("%s: %s", what, error.message)


def handle_errors(app: FastAPI) -> None:
    """Map every error that leaves a route of `app`. Gradio's own routes are not touched: it is mounted behind."""

    @app.exception_handler(AppError)
    async def on_app_error(request: Request, error: AppError) -> JSONResponse:
        log_failure(f"{request.method} {request.url.path}", error)
        return error_response(error)

    @app.exception_handler(RequestValidationError)
    async def on_invalid(request: Request, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0]
        # A body that is not JSON at all has the position as its place.
        where = ".".join(str(part) for part in first["loc"] if part != "body" and first["type"] != "json_invalid")
        message = f"{where}: {first['msg']}" if where else f"The body is not the JSON expected: {first['msg']}"
        return error_response(InvalidRequest(f"{message.rstrip('.')}.", param=where or None))

    @app.exception_handler(HTTPException)
    async def on_http_error(request: Request, error: HTTPException) -> JSONResponse:
        kinds: dict[int, type[AppError]] = {404: NotFound, 401: AccessDenied, 403: AccessDenied}
        found = kinds.get(error.status_code, InvalidRequest)(str(error.detail))
        response = error_response(found, error.status_code)
        response.headers.update(error.headers or {})
        return response

    @app.exception_handler(Exception)
    async def on_defect(request: Request, error: Exception) -> JSONResponse:
        # Starlette raises it again behind this response, so the log has the traceback.
        return error_response(AppError("The server failed at this request.", hint="The log says why."), 500)
