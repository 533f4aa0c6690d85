"""The backends: whether each is whole, in the tested version, and has shown that it runs a model."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

from webui.diagnostics.health.check import Check, CheckState, HealthFacts, fine, names, problem, warning
from webui.diagnostics.health.evidence import Found
from webui.errors import AppError, HardwareError, InstallationError
from webui.hardware.facts import fingerprint
from webui.loaders.contract import LoaderSpec
from webui.remedies import hint_of
from webui.settings import Settings
from webui.setup.abilities import Abilities
from webui.setup.backends import BackendState, check
from webui.setup.condition import half_installed

KIND = "backends"
"""Under which the evidence of trials is kept."""
LATEST_LOADS = 4
OFTEN = 3
"""A loader that failed this many times in its latest loads is worth a word."""
FIRST_CHOICE = "xllamacpp"
REPAIR = "Repair it"
"""What leads to the action `repair`."""
DAY_SECONDS = 86_400
COMPILED = (".so", ".pyd", ".dll", ".dylib")


def engines(facts: HealthFacts) -> Iterator[Check]:
    """One line for each backend; that one is not installed is a choice, as long as another is."""
    states = [check(name, facts.loaders, hardware=facts.hardware) for name in facts.loaders]
    preferred = facts.settings.backends.preferred_backend if isinstance(facts.settings, Settings) else "auto"
    if not any(state.installed for state in states) and FIRST_CHOICE in facts.loaders:
        yield problem(
            "Backends",
            "No backend is installed, so no model can be loaded.",
            "Install one",
            f"install {FIRST_CHOICE}",
        )
    for state in states:
        yield _engine(state, facts, preferred=preferred == state.name)


def _engine(state: BackendState, facts: HealthFacts, *, preferred: bool) -> Check:
    name, label = state.name, f"Backend {state.name}"
    spec = facts.loaders[name]
    repair = f"repair {name}"
    if not state.installed:
        return _absent(state, spec, label, preferred=preferred)
    damage = _damage(spec, state)
    if damage:
        return problem(label, f"It is not installed properly: {damage[0]}.", REPAIR, repair)
    trial = facts.evidence.get(KIND, name, stamp(spec, facts))
    if trial is not None and trial.get("error"):
        error = AppError.from_dict(trial["error"])
        return problem(label, f"It did not run a test model: {error.message}", _then(error.hint, REPAIR), repair)
    if state.version and state.pinned and state.version.partition("+")[0] != state.pinned:
        return warning(
            label, f"Version {state.version} is installed; {state.pinned} is what was tested.", REPAIR, repair
        )
    devices = f" on {', '.join(state.devices)}" if state.devices else ""
    return fine(label, f"{state.version or 'There'}{devices}{_tried(trial, facts.now)}.", untried=trial is None)


def _damage(spec: LoaderSpec, state: BackendState) -> list[str]:
    """What is wrong with its files, in words that go on from a colon. Conflicts of packages are told elsewhere."""
    if state.interrupted:
        return ["an installation of it was cut off before its end"]
    return [fault.sentence for fault in half_installed(spec.distributions)] or _cut_short(spec)


def _absent(state: BackendState, spec: LoaderSpec, label: str, *, preferred: bool) -> Check:
    reason = state.reason.rstrip(".")
    if state.interrupted:
        return problem(
            label, "An installation of it was cut off before its end.", "Install it again", f"install {state.name}"
        )
    there = [distribution for distribution in spec.distributions[:1] if _version(distribution)]
    if there:
        return problem(label, f"Only a part of it is installed: {reason}.", "Install it", f"repair {state.name}")
    if preferred:
        return problem(
            label,
            f"It is the backend of your settings, and it cannot be used: {reason}.",
            "Let the app choose under Choice on the Backend tab, or install it"
            if state.requirements
            else f"{state.hint} Or let the app choose".strip(),
            f"install {state.name}" if state.requirements else "reset backends.preferred_backend",
        )
    return Check(label, CheckState.OK, f"Not here, which is fine as long as it is not needed: {reason}.")


def loads(facts: HealthFacts) -> Iterator[Check]:
    """Loaders that lately failed again and again, for reasons that lie in themselves or the machine, not in a file."""
    for name in facts.loaders:
        rungs = [
            rung
            for story in facts.loads
            for rung in reversed(story.rungs)
            if rung.attempt.loader == name and rung.state in ("worked", "failed")
        ]
        latest = rungs[:LATEST_LOADS]
        errors = [rung.error for rung in latest if isinstance(rung.error, InstallationError | HardwareError)]
        if len(errors) >= OFTEN:
            code = Counter(error.code for error in errors).most_common(1)[0][0]
            installation = any(error.code == code for error in errors if isinstance(error, InstallationError))
            yield warning(
                f"Loads with {name}",
                f"{len(errors)} of the last {len(latest)} failed, mostly with {code}.",
                "Repair it" if installation else _then(hint_of(code).replace("NAME", name), "See whether it works now"),
                f"repair {name}" if installation else f"try {name}",
            )


def _then(hint: str, words: str) -> str:
    """A hint, closed as a sentence, and what comes after it."""
    return f"{hint.rstrip('.')}. {words}" if hint else words


def _cut_short(spec: LoaderSpec) -> list[str]:
    """Compiled parts that are not as long as when they were installed; Python may have been mended by hand."""
    found: list[str] = []
    for distribution in spec.distributions:
        package = metadata.distribution(distribution)
        root = Path(str(package.locate_file("")))
        rows = [row for row in csv.reader((package.read_text("RECORD") or "").splitlines()) if len(row) == 3]
        parts = [row for row in rows if row[0].endswith(COMPILED) and row[2]]
        found += [row[0] for row in parts if (root / row[0]).stat().st_size != int(row[2])]
    return [f"{len(found)} of its files are cut short ({names(found)})"] if found else []


def stamp(spec: LoaderSpec, facts: HealthFacts) -> str:
    """Changes with the backend's packages, the machine and its drivers: what was tried before holds no longer."""
    return Abilities(facts.loaders, None, lambda: fingerprint(facts.hardware)).stamp(spec.name)


def _tried(trial: Found | None, now: float) -> str:
    if trial is None:
        return ", not tried yet"
    days = max(0, round((now - float(trial.get("at", now))) / DAY_SECONDS))
    when = "today" if days == 0 else "yesterday" if days == 1 else f"{days} days ago"
    seconds = f", in {trial['seconds']:.1f} s" if trial.get("seconds") else ""
    return f"; it ran a test model {when}{seconds}"


def _version(distribution: str) -> str | None:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None
