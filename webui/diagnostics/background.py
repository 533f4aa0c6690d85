"""The app without its page, in a thread with an event loop of its own: for whoever has one already, or wants none."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import CancelledError, Future
from typing import TYPE_CHECKING, Any, TypeVar

from webui.errors import NotLoaded
from webui.paths import Paths

if TYPE_CHECKING:
    from webui.context import AppContext

T = TypeVar("T")


class BackgroundApp:
    """See the module. Everything that is done in it is waited for, but what `start` begins."""

    def __init__(self, command_line: dict[str, Any] | None = None) -> None:
        self.closed = False
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="toolkit", daemon=True)
        self._thread.start()
        try:
            self._context: AppContext | None = self._waited(self._create(command_line or {}))
        except BaseException:
            self._context = None
            self.close()
            raise

    def run(self, work: Callable[[AppContext], Coroutine[Any, Any, T]]) -> T:
        """Do `work` there and wait for it; Ctrl-C ends it."""
        return self._waited(work(self._app()))

    def start(self, work: Callable[[AppContext], Coroutine[Any, Any, T]]) -> Future[T]:
        return asyncio.run_coroutine_threadsafe(work(self._app()), self._loop)

    def close(self) -> None:
        """End everything of it. May be called twice."""
        if self.closed:
            return
        self.closed = True
        try:
            if self._context is not None:
                self._waited(self._context.close())
            self._waited(self._loop.shutdown_default_executor())
        finally:
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
            self._loop.close()

    def _app(self) -> AppContext:
        if self._context is None or self.closed:
            raise NotLoaded("The app was closed.", hint="Call load again.")
        return self._context

    async def _create(self, command_line: dict[str, Any]) -> AppContext:
        from webui.context import AppContext
        from webui.settings import Settings

        paths = Paths.from_environment()
        return AppContext.create(paths, Settings.load(paths, command_line=command_line))

    def _waited(self, work: Coroutine[Any, Any, T]) -> T:
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result()
        except (KeyboardInterrupt, CancelledError):
            future.cancel()
            raise


def in_app(work: Callable[[AppContext], Coroutine[Any, Any, T]], command_line: dict[str, Any] | None = None) -> T:
    """Do `work` in an app that is made for it and closed afterwards."""
    app = BackgroundApp(command_line)
    try:
        return app.run(work)
    finally:
        app.close()
