"""What every backend's engine can compute on, asked once and kept until its packages or the machine change.

Each engine is imported in a process of its own, which is ended when it has answered or when its time is up.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

from webui.errors import AppError
from webui.files import write_atomically
from webui.loaders.contract import LoaderSpec
from webui.loaders.devices import Ability
from webui.loaders.llamafile_program import find_program
from webui.setup.probe import in_child

log = logging.getLogger(__name__)

TIME_LIMIT_SECONDS = 90.0
BESIDE = {"ctransformers": ("nvidia-cublas-cu12", "nvidia-cuda-runtime-cu12"), "transformers": ("torch",)}
"""Packages besides a backend's own on which its answer depends."""


class Abilities:
    """One for the app. `machine` gives the machine's fingerprint, which holds the drivers' versions.

    Answers are kept in `file`; if that cannot be written they are kept until the app ends.
    """

    def __init__(self, loaders: Mapping[str, LoaderSpec], file: Path | None, machine: Callable[[], str]) -> None:
        self._loaders, self._file, self._machine = loaders, file, machine
        self._kept: dict[str, tuple[str, Ability]] | None = None
        self._one_at_a_time = asyncio.Lock()

    async def all(self) -> tuple[Ability, ...]:
        """Of every backend, in the map's order. Takes seconds the first time: engines are large to import."""
        return tuple([await self.of(name) for name in self._loaders])

    def known(self) -> tuple[Ability, ...]:
        """Those that need not be asked now; a few file accesses."""
        return tuple(ability for name in self._loaders if (ability := self._remembered(name)) is not None)

    async def of(self, name: str) -> Ability:
        """Of one backend. A failing engine is an answer, too: it can use nothing."""
        async with self._one_at_a_time:
            known = await asyncio.to_thread(self._remembered, name)
            if known is not None:
                return known
            stamp = await asyncio.to_thread(self.stamp, name)
            ability = await _asked(self._loaders[name])
            self._keep(name, stamp, ability)
            return ability

    def _remembered(self, name: str) -> Ability | None:
        found = self._loaders[name].availability()
        if not found.ok:
            return Ability(name, reason=found.reason.rstrip("."), installed=False)
        stamp, ability = self._all_kept().get(name, ("", None))
        return ability if ability is not None and stamp == self.stamp(name) else None

    def stamp(self, name: str) -> str:
        """Changes when the engine's packages are installed anew, and when the machine or its drivers change."""
        spec = self._loaders[name]
        parts = [self._machine()]
        for distribution in (*spec.distributions, *BESIDE.get(name, ())):
            try:
                found = metadata.distribution(distribution)
            except metadata.PackageNotFoundError:
                parts.append(f"no {distribution}")
                continue
            parts.append(f"{distribution} {found.version} {_changed(Path(str(found.locate_file(''))), found)}")
        if name == "llamafile":
            program = find_program()  # it was there a moment ago
            parts.append(f"{program} {program.stat().st_mtime_ns}")
        return " | ".join(parts)

    def _all_kept(self) -> dict[str, tuple[str, Ability]]:
        if self._kept is None:
            self._kept = _read(self._file) if self._file is not None else {}
        return self._kept

    def _keep(self, name: str, stamp: str, ability: Ability) -> None:
        self._all_kept()[name] = (stamp, ability)
        if self._file is None:
            return
        kept = {key: {"stamp": stamp, "ability": one.to_dict()} for key, (stamp, one) in self._all_kept().items()}
        try:
            write_atomically(self._file, json.dumps(kept, indent=1))
        except OSError as error:
            log.warning("What the engines can use is not kept: %s", error)


async def _asked(spec: LoaderSpec) -> Ability:
    try:
        answer = await in_child(spec, ("webui.loaders.devices", spec.name), TIME_LIMIT_SECONDS)
        return Ability.from_dict(answer)
    except AppError as error:
        reason = f"{error.message.rstrip('.')}: {error.cause}" if error.cause else error.message
        return Ability(spec.name, reason=reason.rstrip("."), told=False)


def _changed(library: Path, found: metadata.Distribution) -> int:
    """When the package's record was written: also installing the same version again does that."""
    record = next((file for file in found.files or () if file.name in ("RECORD", "INSTALLER")), None)
    try:
        return (library / str(record)).stat().st_mtime_ns if record is not None else 0
    except OSError:
        return 0


def _read(file: Path) -> dict[str, tuple[str, Ability]]:
    """What was kept; nothing where it cannot be read, since asking again is only slower."""
    try:
        kept: dict[str, Any] = json.loads(file.read_text("utf-8"))
        return {name: (str(one["stamp"]), Ability.from_dict(one["ability"])) for name, one in kept.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}
