"""What commands work with: the settings, the catalogue, the loaders, or the whole app without its page."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from webui.paths import Paths

if TYPE_CHECKING:
    from webui.context import AppContext
    from webui.loaders.contract import LoaderSpec
    from webui.models.catalogue import Catalogue
    from webui.settings import Settings

T = TypeVar("T")


def read_settings(command_line: Mapping[str, Any] | None = None) -> tuple[Paths, Settings]:
    """The folders and the settings of this run; `command_line` holds dotted keys. Raises `InvalidSetting`.

    A migration that was cut short is brought to its end before.
    """
    from webui.settings import Settings

    paths = Paths.from_environment()
    if paths.backups.is_dir():
        from webui.migration.undoing import recover

        recover(paths)
    return paths, Settings.load(paths, command_line=command_line)


def open_catalogue(paths: Paths, settings: Settings) -> Catalogue:
    from webui.models.catalogue import Catalogue

    models = settings.models
    return Catalogue([models.directory or paths.models], paths.cache / "catalogue.json", models.files)


def all_loaders(paths: Paths, settings: Settings) -> tuple[dict[str, LoaderSpec], Settings]:
    """The shipped loaders and those of extensions, and the settings that know them all."""
    from webui.extensions import ExtensionHost
    from webui.loaders import LOADERS

    host = ExtensionHost(paths, settings)
    host.load()
    loaders = {**LOADERS, **host.loaders()}
    return loaders, settings.with_loaders(loaders)


def in_app(work: Callable[[AppContext], Awaitable[T]], command_line: Mapping[str, Any] | None = None) -> T:
    """Build the app without its page, do `work` in it, and leave nothing running, also after Ctrl-C."""
    from webui.context import AppContext

    paths, settings = read_settings(command_line)

    async def session() -> T:
        context = AppContext.create(paths, settings)
        try:
            return await work(context)
        finally:
            await context.close()

    return asyncio.run(session())
