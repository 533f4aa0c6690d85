"""Finishing what was begun, whatever happens to the task that began it."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from webui.errors import AppError, Cancelled

T = TypeVar("T")


async def to_the_end(doing: Coroutine[Any, Any, T]) -> T:
    """Await what must not be left half done: cancellations, however many, take effect when it has ended."""
    task = asyncio.ensure_future(doing)
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.wait([task])
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is not None and (task.cancelled() or task.exception() is None):
        raise cancelled
    return task.result()


def as_app_error(error: BaseException, doing: str) -> AppError:
    """`error` as one of the tree, to be told to the user; `doing` is what it ended ("Loading")."""
    if isinstance(error, AppError):
        return error
    if isinstance(error, asyncio.CancelledError):
        return Cancelled(f"{doing} was cancelled.")
    return AppError(f"{doing} broke.", cause=f"{type(error).__name__}: {error}")
