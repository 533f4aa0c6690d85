"""The command `doctor`: the health checks and the advice for this machine on a terminal. Registered by `webui.cli`."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Mapping
from dataclasses import asdict

from webui.diagnostics.health import CheckState, gather, run_checks, worst
from webui.hardware.facts import fingerprint
from webui.loaders.contract import LoaderSpec
from webui.paths import Paths
from webui.planning.recommendation import recommend
from webui.setup.abilities import Abilities

_MARKS = {CheckState.OK: "ok", CheckState.WARNING: "warning", CheckState.PROBLEM: "PROBLEM"}


def run_doctor(paths: Paths, loaders: Mapping[str, LoaderSpec], *, as_json: bool) -> int:
    """Print every check; returns 1 if one of them is a problem, else 0 (warnings do not stop anything)."""
    facts = gather(paths, loaders)
    checks = run_checks(facts)
    state = worst(checks)
    file = paths.abilities if paths.cache.is_dir() else None  # looking makes no folder
    abilities = asyncio.run(Abilities(loaders, file, lambda: fingerprint(facts.hardware)).all())
    advice = recommend(facts.hardware, abilities)
    if as_json:
        recommended = {key: value for key, value in asdict(advice).items() if key != "gpus"}
        report = {"state": state, "checks": [asdict(found) for found in checks], "recommendation": recommended}
        sys.stdout.write(json.dumps(report, indent=2) + "\n")
    else:
        width = max(len(found.name) for found in checks)
        for found in checks:
            sys.stdout.write(f"{_MARKS[found.state]:<8} {found.name:<{width}}  {found.sentence}\n")
            if found.fix:
                sys.stdout.write(f"{'':<8} {'':<{width}}  → {found.fix}\n")
        sys.stdout.write("\nFor this machine\n")
        for heading, sentence in advice.lines():
            sys.stdout.write(f"{heading:<11} {sentence}\n")
    return 1 if state is CheckState.PROBLEM else 0
