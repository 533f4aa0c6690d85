"""The command `doctor`, in its short form: the health checks on a terminal. Registered by `webui.cli`."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import asdict

from webui.diagnostics.health import CheckState, gather, run_checks, worst
from webui.loaders.contract import LoaderSpec
from webui.paths import Paths

_MARKS = {CheckState.OK: "ok", CheckState.WARNING: "warning", CheckState.PROBLEM: "PROBLEM"}


def run_doctor(paths: Paths, loaders: Mapping[str, LoaderSpec], *, as_json: bool) -> int:
    """Print every check; returns 1 if one of them is a problem, else 0 (warnings do not stop anything)."""
    checks = run_checks(gather(paths, loaders))
    state = worst(checks)
    if as_json:
        report = {"state": state, "checks": [asdict(found) for found in checks]}
        sys.stdout.write(json.dumps(report, indent=2) + "\n")
    else:
        width = max(len(found.name) for found in checks)
        for found in checks:
            sys.stdout.write(f"{_MARKS[found.state]:<8} {found.name:<{width}}  {found.sentence}\n")
            if found.fix:
                sys.stdout.write(f"{'':<8} {'':<{width}}  → {found.fix}\n")
    return 1 if state is CheckState.PROBLEM else 0
