"""What the Backend tab shows of an installation: the plan that is asked about first, then the log and its end."""

from __future__ import annotations

import time

from webui.setup.installations import Installation
from webui.setup.installing import Work
from webui.setup.plan import Action, InstallPlan
from webui.setup.plan_words import VERBS, change_words, size_words
from webui.tabs.present import escape, facts_html, failure_html, list_html, log_html, progress_html, verdict_html

DO = {
    Action.INSTALL: "Install it",
    Action.UPDATE: "Update it",
    Action.REBUILD: "Replace it",
    Action.REPAIR: "Repair it",
    Action.NOTHING: "Install it again",
}
DONE = {
    Work.INSTALL: "is installed",
    Work.REPAIR: "is repaired",
    Work.ROLL_BACK: "is what it was before",
    Work.TEST: "works",
}
NOT_DONE = {
    Work.INSTALL: "was not installed",
    Work.REPAIR: "was not repaired",
    Work.ROLL_BACK: "was not rolled back",
    Work.TEST: "does not work",
}


def plan_html(plan: InstallPlan) -> str:
    """What would be done, with a button that does it; where something stands in the way, what it is and what helps."""
    name = escape(plan.name)
    rows = [("Build", f"for {plan.build}"), ("Because", plan.why), ("From", plan.source), ("For", plan.python)]
    if plan.disk_bytes is not None:
        free = f" of {size_words(plan.free_bytes)} that are free" if plan.free_bytes is not None else ""
        fetched = f"; {size_words(plan.download_bytes)} are fetched" if plan.download_bytes else ""
        rows.append(("Disk", f"about {size_words(plan.disk_bytes)}{free}{fetched}"))
    if plan.damage:
        rows.append(("Found", plan.damage))
    if plan.compiles:
        rows.append(("Time", "it is compiled, which takes some minutes"))
    if plan.problem is not None:
        head, action = failure_html(plan.problem, title=f"{plan.title} cannot be installed as it is"), ""
    else:
        head = verdict_html("ok" if plan.action is Action.NOTHING else "plain", f"{plan.title} {VERBS[plan.action]}")
        work = Work.REPAIR if plan.action in (Action.REPAIR, Action.NOTHING) else Work.INSTALL
        action = _button("do", str(work), plan.name, DO[plan.action])
        action += _button("try", str(Work.TEST), plan.name, "Try it") if plan.action is Action.NOTHING else ""
    packages = list_html([change_words(change).strip() for change in plan.changes]) if plan.changes else ""
    notes = list_html(plan.notes) if plan.notes else ""
    leave = _button("leave", "leave", plan.name, "Close" if not action else "Not now")
    return (
        f'<section class="card install-plan" data-backend="{name}">{head}{facts_html(rows)}{packages}{notes}'
        f'<div class="card-actions">{action}{leave}</div></section>'
    )


def installation_html(installation: Installation | None) -> str:
    """The log of the last installation with its end; nothing where there was none."""
    if installation is None:
        return ""
    if installation.running:
        step = f"{installation.name}: {installation.step}"
        head = progress_html(step, installation.share, time.time() - installation.started_at)
    elif installation.error is not None:
        head = failure_html(installation.error, title=f"{installation.name} {NOT_DONE[installation.work]}")
    else:
        head = verdict_html("ok", f"{installation.name} {DONE[installation.work]}")
    return f"{head}{log_html(list(installation.lines))}"


def _button(key: str, action: str, name: str, text: str) -> str:
    return (
        f'<button type="button" id="backend-plan-{key}" data-action="{escape(action)}" data-name="{escape(name)}">'
        f"{escape(text)}</button>"
    )
