"""The command `doctor`: the health checks and the advice for this machine on a terminal. Registered by `webui.cli`."""

from __future__ import annotations

import asyncio
import json
import logging
import sys
from collections.abc import Mapping, Sequence
from contextlib import aclosing
from dataclasses import asdict

from webui.diagnostics.health import Check, CheckState, HealthFacts, gather, run_checks, worst
from webui.diagnostics.health.check import is_there
from webui.hardware.facts import fingerprint
from webui.loaders.contract import LoaderSpec
from webui.loaders.devices import Ability, EngineDevice
from webui.paths import Paths
from webui.planning.recommendation import Recommendation, recommend
from webui.pool.gpus import usable
from webui.settings import Settings, SettingsStore
from webui.setup.abilities import Abilities
from webui.setup.backends import check
from webui.setup.terminal import TerminalProgress

_MARKS = {CheckState.OK: "ok", CheckState.WARNING: "warning", CheckState.PROBLEM: "PROBLEM"}


def run_doctor(paths: Paths, loaders: Mapping[str, LoaderSpec], *, as_json: bool, full: bool = False) -> int:
    """Print every check; returns 1 if one of them is a problem, else 0 (warnings do not stop anything).

    `full` first makes the long checks: every backend runs a test model, and every model file is looked into.
    """
    _be_quiet()
    facts = gather(paths, loaders)
    if full:
        _examine(facts)
    checks = run_checks(facts)
    state = worst(checks)
    advice = _advice(facts)
    if as_json:
        recommended = {key: value for key, value in asdict(advice).items() if key != "gpus"}
        report = {
            "state": state,
            "checks": [{**asdict(found), "fix": found.remedy} for found in checks],
            "recommendation": recommended,
        }
        sys.stdout.write(json.dumps(report, indent=2) + "\n")
    else:
        _write(checks)
        sys.stdout.write("\nFor this machine\n")
        for heading, sentence in advice.lines():
            sys.stdout.write(f"{heading:<11} {sentence}\n")
    return 1 if state is CheckState.PROBLEM else 0


def run_fix(paths: Paths, loaders: Mapping[str, LoaderSpec], action: str, *, full: bool = False) -> int:
    """Carry out an action that a check offers, and look again; returns 1 where the complaint is still there.

    Raises the `AppError` of an action that is not offered or that fails.
    """
    from webui.diagnostics.health.actions import Surgery, mend

    _be_quiet()
    facts = gather(paths, loaders)
    if full:
        _examine(facts)
    checks = run_checks(facts)
    surgery = Surgery(
        facts,
        save=lambda changes: SettingsStore(paths).save(changes),
        take_out=lambda key, source: SettingsStore(paths).take_out(key, source),
    )

    async def work() -> None:
        async with aclosing(mend(action, surgery, checks)) as lines:
            async for line in lines:
                sys.stdout.write(f"{line}\n")
                sys.stdout.flush()

    asyncio.run(work())
    left = [found for found in run_checks(gather(paths, loaders)) if found.action == action]
    _write(left or [Check("Mended", CheckState.OK, "Nothing asks for that any more.")])
    return 1 if left else 0


def _be_quiet() -> None:
    """What would be logged while looking is what the checks themselves tell."""
    logging.getLogger("webui").addHandler(logging.NullHandler())


def _examine(facts: HealthFacts) -> None:
    """The long checks, with their progress on standard error."""
    from webui.diagnostics.health.examination import examine

    progress = TerminalProgress("Checking")
    try:
        asyncio.run(examine(facts, progress))
    finally:
        progress.stop()


def _advice(facts: HealthFacts) -> Recommendation:
    """From what the engines said when they were last asked; of one that was not, from what it is built for. As on the
    page, of the GPUs only those count that models may use.
    """
    known = {one.loader: one for one in _abilities(facts).known()}
    hardware = usable(facts.settings, facts.hardware) if isinstance(facts.settings, Settings) else facts.hardware
    return recommend(hardware, [known.get(name) or _built(name, facts) for name in facts.loaders])


def _abilities(facts: HealthFacts) -> Abilities:
    file = facts.paths.abilities if is_there(facts.paths.cache) else None  # looking makes no folder
    return Abilities(facts.loaders, file, lambda: fingerprint(facts.hardware))


def _built(name: str, facts: HealthFacts) -> Ability:
    kinds = check(name, facts.loaders, hardware=facts.hardware).devices
    devices = tuple(EngineDevice(kind, kind, kind) for kind in kinds if kind != "cpu")
    return Ability(name, devices, reason="it was not asked yet", told=False)


def _write(checks: Sequence[Check]) -> None:
    width = max(len(found.name) for found in checks)
    for found in checks:
        sys.stdout.write(f"{_MARKS[found.state]:<8} {found.name:<{width}}  {found.sentence}\n")
        if found.fix:
            sys.stdout.write(f"{'':<8} {'':<{width}}  → {found.remedy}\n")
    if any(found.untried for found in checks):
        sys.stdout.write(
            "\nNot everything was tried and looked into; that takes longer: python3 app.py doctor --full\n"
        )
