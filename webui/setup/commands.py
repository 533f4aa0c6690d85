"""The command `setup`: reports the backends' state, installs and repairs them. Registered by `webui.cli`."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Mapping, Sequence
from contextlib import aclosing
from dataclasses import asdict

from webui.errors import AppError, NotFound
from webui.loaders.contract import LoaderSpec
from webui.setup.backends import BackendState, check, install, requirements_of
from webui.setup.ending import orderly_end
from webui.setup.terminal import TerminalProgress, write_error

ALL = "all"


def run_setup(names: Sequence[str], loaders: Mapping[str, LoaderSpec], *, only_check: bool, as_json: bool) -> int:
    """Install or repair the backends `names` (`all`: every one that pip can install); returns the exit status.

    Without names, or with `only_check`, nothing is changed and the state is printed. Raises `NotFound`.
    """
    chosen = _chosen(names, loaders)
    errors: dict[str, AppError] = {}
    if names and not only_check:
        for name in chosen:
            if ALL in names and requirements_of(loaders[name]) is None:
                continue
            try:
                with orderly_end():
                    asyncio.run(_install(name, loaders))
            except AppError as error:
                errors[name] = error
                write_error(error)
    states = [check(name, loaders) for name in chosen]
    if as_json:
        report = [
            {**asdict(state), "error": errors[state.name].to_dict() if state.name in errors else None}
            for state in states
        ]
        sys.stdout.write(json.dumps(report, indent=2) + "\n")
    else:
        sys.stdout.write("".join(f"{line}\n" for line in _table(states)))
    return 1 if errors else 0


def _chosen(names: Sequence[str], loaders: Mapping[str, LoaderSpec]) -> list[str]:
    if not names or ALL in names:
        return list(loaders)
    unknown = [name for name in names if name not in loaders]
    if unknown:
        raise NotFound(
            f"There is no backend called {', '.join(unknown)}.", hint=f"Known are: {', '.join(loaders)} and {ALL}."
        )
    return list(dict.fromkeys(names))


async def _install(name: str, loaders: Mapping[str, LoaderSpec]) -> None:
    progress = TerminalProgress(name)
    last = ""
    try:
        async with aclosing(install(name, loaders)) as lines:
            async for line in lines:
                if line.step:
                    last = line.text
                    progress(line.text, line.share)
                elif sys.stderr.isatty():
                    progress(last, line.share)
    finally:
        progress.stop()
    progress.finish(last)


def _table(states: Sequence[BackendState]) -> list[str]:
    width = max((len(state.name) for state in states), default=0)
    lines = []
    for state in states:
        mark = "installed" if state.installed else "missing"
        detail = f"{state.version or ''} ({', '.join(state.devices)})" if state.devices else state.version or ""
        reason = "" if state.reason == "installed" else state.reason
        lines.append(f"{state.name:<{width}}  {mark:<9}  {detail}{'  ' if detail and reason else ''}{reason}".rstrip())
    return lines
