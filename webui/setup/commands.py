"""The command `setup`: reports the backends' state, shows plans, installs, repairs and rolls back."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Mapping, Sequence
from contextlib import aclosing
from dataclasses import asdict
from enum import StrEnum
from typing import Any

from webui.errors import AppError, NotFound
from webui.loaders.contract import LoaderSpec
from webui.setup.backends import BackendState, check, requirements_of
from webui.setup.condition import faults
from webui.setup.ending import orderly_end
from webui.setup.installing import Installer, Work
from webui.setup.plan import Action, InstallPlan
from webui.setup.plan_words import plan_lines
from webui.setup.terminal import TerminalProgress, write_error

ALL = "all"


class Asked(StrEnum):
    """What the command is to do with the backends that are named."""

    INSTALL = "install"
    REPAIR = "repair"
    ROLL_BACK = "roll back"
    CHECK = "check"
    PLAN = "plan"


def run_setup(
    names: Sequence[str], installer: Installer, *, asked: Asked = Asked.INSTALL, as_json: bool = False
) -> int:
    """Do what is `asked` with the backends `names` (`all`: every one that pip can install); returns the exit status.

    Without names nothing is changed, and the state of all is printed. Raises `NotFound`.
    """
    chosen = _chosen(names, installer.loaders)
    if asked is Asked.PLAN:
        return _show_plans([name for name in chosen if _has_packages(name, names, installer)], installer, as_json)
    errors: dict[str, AppError] = {}
    if names and asked is not Asked.CHECK:
        for name in chosen:
            if not _has_packages(name, names, installer):
                continue
            try:
                _do(name, Work(asked.value), installer)
            except AppError as error:
                errors[name] = error
                write_error(error)
    _report(chosen, installer, errors, as_json)
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


def _has_packages(name: str, names: Sequence[str], installer: Installer) -> bool:
    """A backend without packages counts where it is named itself: it is then said that there are none."""
    return name in names or requirements_of(installer.loaders[name]) is not None


def _do(name: str, work: Work, installer: Installer) -> None:
    with orderly_end():
        if work in (Work.INSTALL, Work.REPAIR):
            plan = installer.plan(name, repair=work is Work.REPAIR)
            if plan.problem is not None:
                raise plan.problem
            if plan.action is not Action.NOTHING:
                sys.stderr.write("".join(f"{line}\n" for line in plan_lines(plan)))
        asyncio.run(_follow(name, work, installer))


async def _follow(name: str, work: Work, installer: Installer) -> None:
    progress = TerminalProgress(name)
    last = ""
    try:
        async with aclosing(installer.do(name, work)) as lines:
            async for line in lines:
                if line.step:
                    last = line.text
                    progress(line.text, line.share)
                elif sys.stderr.isatty():
                    progress(last, line.share)
    finally:
        progress.stop()
    progress.finish(last)


def _show_plans(names: Sequence[str], installer: Installer, as_json: bool) -> int:
    plans = [installer.plan(name) for name in names]
    if as_json:
        sys.stdout.write(json.dumps([plan.to_dict() for plan in plans], indent=2) + "\n")
    else:
        sys.stdout.write("\n".join("".join(f"{line}\n" for line in plan_lines(plan)) for plan in plans))
    return 1 if any(plan.problem is not None for plan in plans) else 0


def _report(names: Sequence[str], installer: Installer, errors: Mapping[str, AppError], as_json: bool) -> None:
    states = [check(name, installer.loaders) for name in names]
    plans = {name: installer.plan(name) for name in names if requirements_of(installer.loaders[name]) is not None}
    if as_json:
        report = [_state_as_json(state, plans.get(state.name), installer, errors.get(state.name)) for state in states]
        sys.stdout.write(json.dumps(report, indent=2) + "\n")
    else:
        sys.stdout.write("".join(f"{line}\n" for line in _table(states, plans)))


def _state_as_json(
    state: BackendState, plan: InstallPlan | None, installer: Installer, error: AppError | None
) -> dict[str, Any]:
    spec = installer.loaders[state.name]
    names = plan.distributions if plan is not None else spec.distributions
    return {
        **asdict(state),
        "faults": [asdict(fault) for fault in faults(spec, names)],
        "suits": plan.build if plan is not None else None,
        "next": str(plan.action) if plan is not None and plan.action is not Action.NOTHING else None,
        "error": error.to_dict() if error is not None else None,
    }


def _table(states: Sequence[BackendState], plans: Mapping[str, InstallPlan]) -> list[str]:
    width = max((len(state.name) for state in states), default=0)
    lines = []
    for state in states:
        plan = plans.get(state.name)
        mark = "installed" if state.installed else "missing"
        detail = f"{state.version or ''} ({', '.join(state.devices)})" if state.devices else state.version or ""
        reason = "" if state.reason == "installed" else state.reason
        lines.append(f"{state.name:<{width}}  {mark:<9}  {detail}{'  ' if detail and reason else ''}{reason}".rstrip())
        indent = " " * (width + 2)
        if plan is not None and plan.damage:
            lines.append(f"{indent}{plan.damage}; repair it: python3 app.py setup {state.name} --repair")
        if plan is not None and plan.action is Action.REBUILD:
            lines.append(f"{indent}a build for {plan.build} suits this machine: python3 app.py setup {state.name}")
        if plan is not None and plan.action is Action.UPDATE:
            lines.append(f"{indent}{state.pinned} is what was tested: python3 app.py setup {state.name}")
        if state.before and state.before != state.version:
            lines.append(f"{indent}{state.before} from before is kept: python3 app.py setup {state.name} --rollback")
    return lines
