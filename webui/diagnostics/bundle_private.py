"""What is known of the person and the machine, so that a support bundle does not hold it."""

from __future__ import annotations

import getpass
import os
import platform
import socket
import sqlite3
import sys
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from webui.diagnostics.redaction import Private, looks_secret
from webui.errors import AppError
from webui.loaders import LOADERS
from webui.models.catalogue import Catalogue
from webui.models.facts import ModelFacts, ModelFormat
from webui.paths import Paths

if TYPE_CHECKING:
    from webui.context import AppContext

USER_VARIABLES = ("USER", "LOGNAME", "USERNAME", "SUDO_USER")
HOST_VARIABLES = ("HOSTNAME", "HOST", "COMPUTERNAME", "USERDOMAIN")
MOST_CHATS = 60
"""Conversations whose lines are looked for; texts of older ones are not in what a bundle is made of."""


def private(paths: Paths, context: AppContext | None, models: Iterable[Path] = ()) -> Private:
    """Everything that is known here. `models` are files that are spoken of, wherever they lie. Reads the disk."""
    return Private(
        tuple(_folders(paths, context, models)),
        frozenset((*_users(), *_logins(context))),
        frozenset(_hosts()),
        frozenset(_secrets(context)),
        tuple(_written(context)),
        frozenset(_spared(context)),
    )


def _folders(paths: Paths, context: AppContext | None, models: Iterable[Path]) -> Iterator[tuple[str, str]]:
    """Each also as it is behind links. Of several folders with models, each has its own number."""
    found: dict[str, str] = {}

    def add(folder: Path, word: str) -> None:
        for path in (str(folder), os.path.realpath(folder)):
            found.setdefault(path, word)

    directories = list(context.catalogue.directories) if context is not None else [paths.models]
    directories += [file.parent for file in models]
    for folder in dict.fromkeys(directories):
        number = len(set(found.values()))
        add(folder, "<models>" if not number else f"<models {number + 1}>")
    add(paths.home, "<app>")
    add(paths.project_root, "<program>")
    if sys.prefix != sys.base_prefix:  # an environment of somebody's own, not the system's
        add(Path(sys.prefix), "<python>")
    add(Path(tempfile.gettempdir()), "<temp>")
    for home in _homes():
        add(home, "~")
    yield from found.items()


def _homes() -> Iterator[Path]:
    for name in ("HOME", "USERPROFILE"):
        if value := os.environ.get(name, "").strip():
            yield Path(value)
    with suppress(RuntimeError):
        yield Path.home()
    with suppress(ImportError, KeyError):
        import pwd

        yield Path(pwd.getpwuid(os.getuid()).pw_dir)


def _users() -> Iterator[str]:
    yield from filter(None, (os.environ.get(name, "").strip() for name in USER_VARIABLES))
    with suppress(OSError, KeyError, ImportError):
        yield getpass.getuser()
    yield from (home.name for home in _homes() if home.name)
    with suppress(ImportError, KeyError):
        import pwd

        whole = pwd.getpwuid(os.getuid()).pw_gecos.split(",")[0].strip()
        yield from filter(None, (whole, *whole.split()))


def _logins(context: AppContext | None) -> Iterator[str]:
    """Whom the login of the page names."""
    if context is not None and context.settings.server.auth:
        yield str(context.settings.server.auth).partition(":")[0].strip()


def _hosts() -> Iterator[str]:
    for name in (
        socket.gethostname(),
        platform.node(),
        *(os.environ.get(variable, "").strip() for variable in HOST_VARIABLES),
    ):
        if name:
            yield name
            yield name.partition(".")[0]


def _secrets(context: AppContext | None) -> Iterator[str]:
    yield from (value.strip() for name, value in os.environ.items() if looks_secret(name) and not _is_plain(value))
    if context is None:
        return
    settings = context.settings
    for key in settings.keys():  # noqa: SIM118 (not a mapping)
        if settings.declaration(key).secret and (value := settings.value(key)):
            parts = [str(part) for part in value] if isinstance(value, list | tuple) else [str(value)]
            for part in parts:
                yield part
                yield part.partition(":")[2]


def _is_plain(value: str) -> bool:
    """Not worth hiding, and in the way of reading: switches, numbers, places."""
    return len(value.strip()) < 6 or value.strip().isdigit() or os.path.isabs(value)  # noqa: PTH117 (text of the environment)


def _written(context: AppContext | None) -> Iterator[str]:
    """Lines of conversations, the newest first, and prompts that stand in the settings."""
    if context is None:
        return
    yield str(context.settings.chat.system_prompt)
    with suppress(AppError, sqlite3.Error, OSError):
        for known in context.store.list(limit=MOST_CHATS):
            chat = context.store.get(known.id)
            yield chat.title
            yield chat.system_prompt
            yield from (message.content for message in reversed(chat.messages))


def _spared(context: AppContext | None) -> Iterator[str]:
    """Words by which the app and the models call themselves."""
    loaders = context.loaders if context is not None else LOADERS
    for name, spec in loaders.items():
        yield from (name, *name.split("-"), spec.title, *spec.title.split(), *spec.devices)
    yield from (kind.value for kind in ModelFormat)
    if context is not None:
        yield from _architectures(context.catalogue)


def _architectures(catalogue: Catalogue) -> Iterator[str]:
    for entry in catalogue.entries():
        if isinstance(entry, ModelFacts):
            yield from filter(None, (entry.architecture, entry.tokenizer, entry.quantization))
