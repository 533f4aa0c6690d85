"""A plan of an installation in words, for a terminal and for the log."""

from __future__ import annotations

from webui.setup.plan import Action, Change, InstallPlan

VERBS = {
    Action.INSTALL: "will be installed",
    Action.UPDATE: "will be updated",
    Action.REBUILD: "will be replaced by another build",
    Action.REPAIR: "will be repaired",
    Action.NOTHING: "is installed as it should be",
}
MIB = 1 << 20


def plan_lines(plan: InstallPlan) -> list[str]:
    """All of it, one thing a line."""
    if plan.problem is not None:
        return [
            f"{plan.title}: {plan.problem.message}",
            *_rest(plan),
            *([plan.problem.hint] if plan.problem.hint else []),
        ]
    lines = [f"{plan.title} {VERBS[plan.action]}."]
    if plan.action is Action.NOTHING:
        return [*lines, f"Build: for {plan.build}; {plan.why}.", *plan.notes]
    lines += [f"{change_words(change)}" for change in plan.changes]
    return [*lines, *_rest(plan)]


def change_words(change: Change) -> str:
    """One package: its name, the version that will be there, the one that is, its size and where it comes from."""
    before = f" instead of {change.before}" if change.before and change.before != change.version else ""
    again = " again" if change.before == change.version else ""
    size = f", about {size_words(change.bytes)}" if change.bytes else ""
    return f"  {change.name} {change.version}{again}{before} ({change.source}{size})"


def size_words(count: int) -> str:
    return f"{count / (MIB * 1024):.1f} GiB" if count >= 1024 * MIB else f"{max(1, round(count / MIB))} MiB"


def _rest(plan: InstallPlan) -> list[str]:
    lines = [f"Build: for {plan.build}; {plan.why}.", f"From: {plan.source}."]
    if plan.damage:
        lines.append(f"Found: {plan.damage}.")
    if plan.disk_bytes is not None:
        free = f", {size_words(plan.free_bytes)} are free" if plan.free_bytes is not None else ""
        fetched = f", {size_words(plan.download_bytes)} of it fetched" if plan.download_bytes else ""
        lines.append(f"Disk: about {size_words(plan.disk_bytes)} while it is installed{fetched}{free}.")
    if plan.compiles:
        lines.append("It is compiled, which takes some minutes.")
    return [*lines, *plan.notes]
